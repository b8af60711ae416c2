"""One model's rollouts: the open one, the queue of requests, and the champion. `handle` returns what follows.

One rollout is open at a time, so that a verdict compares two versions and never three. A challenger's rollout
starts when it is proven better than the champion (`ChallengerProven`). A model's first version, and every
version where `rollout.evidence` is `canary`, starts when it is registered. The queue keeps the newest request
of each kind; a person's request goes first. A proof counts only against the present champion. While a person
pins the champion, only a person's request starts.

The caller that performs effects keeps to this order, so that a crash at any point loses nothing: handle the
event, publish what follows, store the controller, perform `effects(controller.open)` if its `effects_key` is
new, and handle the report as an event. After a start: perform `steady_effects(controller)`, then
`effects(controller.open)`, and report.
"""

from driftloop.mlops_core import errors
from driftloop.mlops_core.rollout import state_machine
from driftloop.mlops_core.rollout.controller_measurements import on_measurement
from driftloop.mlops_core.rollout.controller_state import (
    FINISHED,
    MEASUREMENTS,
    ORDER,
    PINNED,
    REQUESTED_VERSIONS,
    SEEN,
    UNPINNED,
    RolloutController,
    RolloutRequest,
    note,
    with_rollout,
)
from driftloop.mlops_core.rollout.effects import REPORTED, Blend, Effect, EnsureRevision, ShiftTraffic
from driftloop.mlops_core.rollout.label_verdict import version_name
from driftloop.mlops_core.rollout.state_machine import Rollout
from driftloop.mlops_core.rollout.states import TERMINAL, Signal
from driftloop.schemas.events import (
    ChallengerPassedOver,
    ChallengerProven,
    DeployRequested,
    Event,
    ModelRegistered,
    RolloutAction,
    RolloutCommanded,
    RolloutObstructed,
    RolloutPerformed,
    RolloutPhase,
)
from driftloop.schemas.settings import RolloutSettings


def handle(
    controller: RolloutController, event: Event, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """The controller after `event`, and the events that follow, oldest first.

    An event that was handled before changes nothing. For a command that is impossible now, e.g. resuming a
    rollout that runs, an `AlertRaised` with the reason follows.

    Raises:
        Conflict: the event is about another model.
    """
    if event.model != controller.model:
        raise errors.Conflict(
            f"the controller of {controller.model} got {event.type} {event.id} of {event.model}"
        )
    if isinstance(event, MEASUREMENTS):
        return on_measurement(controller, event, settings)
    if event.id in controller.seen:
        return controller, []
    controller = controller.model_copy(update={"seen": (*controller.seen, event.id)[-SEEN:]})
    # An event's time is not earlier than the newest window of labels: labels go on while a model is trained.
    event = event.model_copy(update={"at": max(event.at, controller.measured_until)})
    match event:
        case ModelRegistered() | DeployRequested() | ChallengerProven():
            return _enqueue(controller, event, settings)
        case RolloutPerformed() | RolloutObstructed():
            return _on_report(controller, event, settings)
        case RolloutCommanded():
            return _on_command(controller, event, settings)
        case _:
            return controller, []


def blend_effect(controller: RolloutController, settings: RolloutSettings) -> Blend | None:
    """The weights of the blend, empty to end it; None where the model never had a blend."""
    weights = controller.blend if settings.strategy == "blend" else {}
    return Blend(controller.model, weights) if controller.blend else None


def steady_effects(controller: RolloutController) -> tuple[Effect, ...]:
    """What must be true apart from the open rollout: the champion serves, the champion before runs idle."""
    warm = [version for version in (controller.champion, controller.previous) if version]
    ensured = tuple(
        EnsureRevision(controller.model, version, controller.replicas, controller.resources)
        for version in warm
    )
    if controller.champion is None or (controller.open and controller.open.phase not in TERMINAL):
        return ensured
    return (*ensured, ShiftTraffic(controller.model, {controller.champion: 100}))


def _enqueue(
    controller: RolloutController, event: RolloutRequest, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Put the request in the queue, and start the first of the queue if no rollout is open."""
    if isinstance(event, ModelRegistered) and not _rolls_out(controller, event, settings):
        return controller, []
    if controller.open and controller.open.version == event.version and controller.open.phase not in TERMINAL:
        return controller, [
            note(
                event,
                f"{controller.open.model_id} already has a rollout in progress ({controller.open.phase})",
            )
        ]
    queue = {request.type: request for request in controller.queue} | {event.type: event}
    notes = [
        _passed_over_event(request, event.version, "it is newer")
        for request in controller.queue
        if request.type == event.type and request.version != event.version
    ]
    ordered = tuple(queue[kind] for kind in ORDER if kind in queue)
    changes = {
        "queue": ordered,
        "requested_versions": (*controller.requested_versions, event.version)[-REQUESTED_VERSIONS:],
    }
    controller, events = _start_next(controller.model_copy(update=changes), event, settings)
    return controller, [*notes, *events]


def _rolls_out(controller: RolloutController, event: ModelRegistered, settings: RolloutSettings) -> bool:
    """Whether a registration starts a rollout; after the first version, a version has to be proven first."""
    unproven = controller.champion is not None and settings.evidence != "canary"
    return not (_was_requested(controller, event.version) or event.rollout == "manual" or unproven)


def _was_requested(controller: RolloutController, version: str) -> bool:
    """Whether the version was rolled out or queued before: registering it again starts no second rollout."""
    return version in (*controller.requested_versions, controller.champion, controller.previous)


def _start_next(
    controller: RolloutController, trigger: Event, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Start the first request of the queue if no rollout is open; a return to `previous` needs no steps."""
    held = controller.pinned and controller.queue and not isinstance(controller.queue[0], DeployRequested)
    if controller.open or not controller.queue or held:
        return controller, []
    request, *waiting = controller.queue
    controller = controller.model_copy(update={"queue": tuple(waiting)})
    refusal = _refusal(controller, request)
    if refusal is not None:
        controller, events = _start_next(controller, trigger, settings)
        return controller, [refusal, *events]
    to_previous = not isinstance(request, ModelRegistered) and request.version == controller.previous
    sized = request if isinstance(request, DeployRequested) else controller
    rollout, events = state_machine.start(
        request,
        stable=controller.champion,
        steps=() if to_previous else settings.steps,
        replicas=sized.replicas,
        resources=sized.resources,
        warm_versions=(controller.previous,)
        if controller.previous and controller.previous != request.version
        else (),
        at=trigger.at,
        paired=_is_paired(request, settings),
        blend=settings.strategy == "blend",
    )
    return controller.model_copy(update={"open": rollout}), events


def _is_paired(request: RolloutRequest, settings: RolloutSettings) -> bool:
    """Whether losses on all labelled rows judge it, rather than the labels of its own requests."""
    if isinstance(request, ChallengerProven):
        return request.evidence == "paired"
    return settings.evidence != "canary"


def _refusal(controller: RolloutController, request: RolloutRequest) -> Event | None:
    """The event that says why the request starts no rollout; None where it starts one."""
    if request.version == controller.champion:
        return note(request, f"{controller.model}:{request.version} is already champion")
    if isinstance(request, ChallengerProven) and request.champion != controller.champion:
        reason = f"it was proven against {version_name(request.champion)}, which is no longer champion"
        return _passed_over_event(request, controller.champion, reason)
    return None


def _on_report(
    controller: RolloutController, event: RolloutPerformed | RolloutObstructed, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Advance the open rollout; a report about another rollout, phase or step is stale and ignored."""
    rollout = controller.open
    if rollout is None or (event.rollout, event.phase, event.step) != rollout.effects_key:
        return controller, []
    if rollout.phase in TERMINAL:
        return _close(controller, event, settings)
    if rollout.phase not in REPORTED:
        return controller, []
    if isinstance(event, RolloutObstructed):
        return with_rollout(
            controller, *state_machine.advance(rollout, Signal.OBSTRUCTED, event, reason=event.error)
        )
    return _on_performed(controller, rollout, event)


def _on_performed(
    controller: RolloutController, rollout: Rollout, event: RolloutPerformed
) -> tuple[RolloutController, list[Event]]:
    if rollout.phase is RolloutPhase.CANARY and rollout.since is not None:
        return controller, []  # the step's share was set before: this report is a repetition
    warm = rollout.phase is RolloutPhase.WARMING
    signal = state_machine.next_signal(rollout, Signal.PERFORMED) if warm else Signal.PERFORMED
    moved, events = state_machine.advance(rollout, signal, event)
    if rollout.phase is RolloutPhase.CANARY:
        moved = state_machine.begin_counting(moved, controller.measured_until, event.performed_at)
    return with_rollout(controller, moved, events)


def _on_command(
    controller: RolloutController, event: RolloutCommanded, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    if event.action in (RolloutAction.PIN, RolloutAction.UNPIN):
        return _on_pin(controller, event, settings)
    if controller.open is None:
        return controller, [note(event, f"{controller.model} has no rollout in progress: got {event.action}")]
    try:
        moved = state_machine.advance(
            controller.open,
            _signal_of(controller.open, event.action),
            event,
            reason=f"a person requested {event.action}",
        )
    except errors.Conflict as error:
        return controller, [note(event, str(error))]
    return with_rollout(controller, *moved)


def _on_pin(
    controller: RolloutController, event: RolloutCommanded, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """A pin pauses an open rollout that no person requested; an unpin resumes a rollout that a pin paused."""
    pinned = event.action is RolloutAction.PIN
    controller = controller.model_copy(update={"pinned": pinned})
    rollout = controller.open
    if rollout is None:
        return _start_next(controller, event, settings)
    if pinned and not rollout.by_hand and rollout.phase in (RolloutPhase.WARMING, RolloutPhase.CANARY):
        return with_rollout(controller, *state_machine.advance(rollout, Signal.PAUSED, event, reason=PINNED))
    if not pinned and rollout.phase is RolloutPhase.PAUSED and rollout.reason == PINNED:
        return with_rollout(
            controller,
            *state_machine.advance(rollout, state_machine.resume_signal(rollout), event, reason=UNPINNED),
        )
    return controller, []


def _signal_of(rollout: Rollout, action: RolloutAction) -> Signal:
    match action:
        case RolloutAction.PAUSE:
            return Signal.PAUSED
        case RolloutAction.RESUME:
            return state_machine.resume_signal(rollout)
        case RolloutAction.ABORT:
            return Signal.ABORTED
        case RolloutAction.PIN | RolloutAction.UNPIN:
            raise errors.Conflict(
                f"{action} acts on the model {rollout.model}, not on its rollout {rollout.id}"
            )


def _close(
    controller: RolloutController, event: Event, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Keep the ended rollout among the finished ones, and start the next request of the queue."""
    finished = (*controller.finished, *([controller.open] if controller.open else []))[-FINISHED:]
    return _start_next(controller.model_copy(update={"open": None, "finished": finished}), event, settings)


def _passed_over_event(request: RolloutRequest, by: str | None, reason: str) -> ChallengerPassedOver:
    """The event for a request that starts no rollout; `by` is the version that replaces it."""
    instead = f" for {version_name(by)}" if by else ""
    return ChallengerPassedOver.following(
        request,
        version=request.version,
        by=by,
        sentence=f"{version_name(request.version)} is passed over{instead}: {reason}",
    )

"""One model's rollouts: which is open, what waits, what serves. An event comes in, events follow.

One rollout at a time; it finishes before the next begins, so that a verdict compares two versions and
never three. A challenger's rollout begins when it is proven better than the champion (`ChallengerProven`); a
model's first version, and where `rollout.evidence` is `canary` every version, when it is registered. Of what
waits, only the newest is worth its turn, and a proof only against the champion of today; a person's request
goes first, and what a person has pinned is passed by nobody.

Whoever performs effects keeps to this order, so that a crash anywhere loses nothing: handle the event,
publish what follows, store the controller, perform `effects(controller.open)` if its `place` is new, and
hand the report back in as an event. After a start: perform `steady_effects(controller)`, then
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
    SEEN,
    TRIED,
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
    """The controller after `event`, and the events that follow, oldest first. Seen before: nothing follows.

    What cannot be done, e.g. resuming a rollout that runs, follows as an `AlertRaised` that says why.

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
    # A training takes its time, and the data goes on meanwhile: nothing happens before what was measured.
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
    """How answers are to be averaged, or that they are no more; None where nothing was ever blended."""
    weights = controller.blend if settings.strategy == "blend" else {}
    return Blend(controller.model, weights) if controller.blend else None


def steady_effects(controller: RolloutController) -> tuple[Effect, ...]:
    """What must be true apart from the open rollout: the champion serves, the one before is warm."""
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
    """Queue it, and start it if nothing is open."""
    if isinstance(event, ModelRegistered) and not _rolls_out(controller, event, settings):
        return controller, []
    if controller.open and controller.open.version == event.version and controller.open.phase not in TERMINAL:
        return controller, [
            note(event, f"{controller.open.who} is already on its way: it is {controller.open.phase}")
        ]
    queue = {one.type: one for one in controller.queue} | {event.type: event}
    over = [one for one in controller.queue if one.type == event.type and one.version != event.version]
    notes = [_passed_over_event(one, event.version, "it is newer") for one in over]
    ordered = tuple(queue[kind] for kind in ORDER if kind in queue)
    changes = {"queue": ordered, "tried": (*controller.tried, event.version)[-TRIED:]}
    controller, events = _start_next(controller.model_copy(update=changes), event, settings)
    return controller, [*notes, *events]


def _rolls_out(controller: RolloutController, event: ModelRegistered, settings: RolloutSettings) -> bool:
    """Whether a registration is a reason to roll it out: later versions have to be proven first."""
    unproven = controller.champion is not None and settings.evidence != "canary"
    return not (_was_tried(controller, event.version) or event.rollout == "manual" or unproven)


def _was_tried(controller: RolloutController, version: str) -> bool:
    """Whether a registration of it is no news: a version that was rolled back is not tried again."""
    return version in (*controller.tried, controller.champion, controller.previous)


def _start_next(
    controller: RolloutController, trigger: Event, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Start what waits, if nothing is open. The way back to the previous champion has no steps."""
    held = controller.pinned and controller.queue and not isinstance(controller.queue[0], DeployRequested)
    if controller.open or not controller.queue or held:
        return controller, []
    request, *waiting = controller.queue
    controller = controller.model_copy(update={"queue": tuple(waiting)})
    needless = _refusal(controller, request)
    if needless is not None:
        controller, events = _start_next(controller, trigger, settings)
        return controller, [needless, *events]
    back = not isinstance(request, ModelRegistered) and request.version == controller.previous
    sized = request if isinstance(request, DeployRequested) else controller
    rollout, events = state_machine.start(
        request,
        stable=controller.champion,
        steps=() if back else settings.steps,
        replicas=sized.replicas,
        resources=sized.resources,
        spare=(controller.previous,)
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
    """What is said where the request has nothing to lead to any more."""
    if request.version == controller.champion:
        return note(request, f"{controller.model}:{request.version} is already champion")
    if isinstance(request, ChallengerProven) and request.champion != controller.champion:
        why = f"it was proven against {version_name(request.champion)}, and another version is champion now"
        return _passed_over_event(request, controller.champion, why)
    return None


def _on_report(
    controller: RolloutController, event: RolloutPerformed | RolloutObstructed, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """A report of another rollout, phase or step is stale; a step performed twice has begun already."""
    rollout = controller.open
    if rollout is None or (event.rollout, event.phase, event.step) != rollout.place:
        return controller, []
    if rollout.phase in TERMINAL:
        return _close(controller, event, settings)
    if rollout.phase not in REPORTED:
        return controller, []
    if isinstance(event, RolloutObstructed):
        return with_rollout(
            controller, *state_machine.advance(rollout, Signal.OBSTRUCTED, event, because=event.error)
        )
    return _on_performed(controller, rollout, event)


def _on_performed(
    controller: RolloutController, rollout: Rollout, event: RolloutPerformed
) -> tuple[RolloutController, list[Event]]:
    if rollout.phase is RolloutPhase.CANARY and rollout.since is not None:
        return controller, []
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
            because=f"a person said {event.action}",
        )
    except errors.Conflict as error:
        return controller, [note(event, str(error))]
    return with_rollout(controller, *moved)


def _on_pin(
    controller: RolloutController, event: RolloutCommanded, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """A pin pauses what nobody asked for before it could replace the champion; an unpin lets it go on."""
    pinned = event.action is RolloutAction.PIN
    controller = controller.model_copy(update={"pinned": pinned})
    rollout = controller.open
    if rollout is None:
        return _start_next(controller, event, settings)
    if pinned and not rollout.by_hand and rollout.phase in (RolloutPhase.WARMING, RolloutPhase.CANARY):
        return with_rollout(controller, *state_machine.advance(rollout, Signal.PAUSED, event, because=PINNED))
    if not pinned and rollout.phase is RolloutPhase.PAUSED and rollout.because == PINNED:
        return with_rollout(
            controller,
            *state_machine.advance(rollout, state_machine.resume_signal(rollout), event, because=UNPINNED),
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
            raise errors.Conflict(f"{action} is about the model, not about a rollout")


def _close(
    controller: RolloutController, event: Event, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """The last phase is settled: the next in the queue has its turn."""
    finished = (*controller.finished, *([controller.open] if controller.open else []))[-FINISHED:]
    return _start_next(controller.model_copy(update={"open": None, "finished": finished}), event, settings)


def _passed_over_event(request: RolloutRequest, by: str | None, why: str) -> ChallengerPassedOver:
    """A request that will not be rolled out, and the version that takes its place."""
    instead = f" for {version_name(by)}" if by else ""
    return ChallengerPassedOver.following(
        request,
        version=request.version,
        by=by,
        sentence=f"{version_name(request.version)} is passed over{instead}: {why}",
    )

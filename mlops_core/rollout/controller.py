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

from typing import Annotated, Literal

from pydantic import Field

from driftloop.mlops_core import errors
from driftloop.mlops_core.rollout import request_verdict, state_machine
from driftloop.mlops_core.rollout.effects import REPORTED, Blend, Effect, EnsureRevision, ShiftTraffic
from driftloop.mlops_core.rollout.label_verdict import judge, version_name
from driftloop.mlops_core.rollout.state_machine import Rollout
from driftloop.mlops_core.rollout.states import TERMINAL, Signal
from driftloop.schemas import ids
from driftloop.schemas.events import (
    AgreementMeasured,
    AlertRaised,
    ChallengerPassedOver,
    ChallengerProven,
    DeployRequested,
    Event,
    EvidenceMeasured,
    ModelRegistered,
    Part,
    PerformanceMeasured,
    Resources,
    RolloutAction,
    RolloutCommanded,
    RolloutObstructed,
    RolloutPerformed,
    RolloutPhase,
    TrafficMeasured,
    VerdictEvidence,
)
from driftloop.schemas.records import Millis
from driftloop.schemas.settings import RolloutSettings

RolloutRequest = Annotated[ModelRegistered | DeployRequested | ChallengerProven, Field(discriminator="type")]
"""What asks for a rollout."""
ORDER = ("DeployRequested", "ChallengerProven", "ModelRegistered")
"""Whose turn comes first."""
MEASUREMENTS = (TrafficMeasured, EvidenceMeasured, AgreementMeasured, PerformanceMeasured)
"""Too many to be remembered by id; each is counted for the rollout that is open."""
SMALLEST_WEIGHT = 0.01
"""A version with a smaller weight takes no part in a blend: it would cost more than it changes."""
MOVED = 0.02
"""Weights of a blend are changed when as much weight in all has moved."""
FINISHED = 20
"""Rollouts that are remembered with their evidence."""
SEEN = 256
"""Events that are recognised when they are delivered again; a redelivery is never far behind."""
TRIED = 1000
"""Versions whose registration is never again a reason to roll them out."""
UNMEASURABLE = 3
"""Windows in a row without a measurement until a person is asked."""
PINNED, UNPINNED = "a person pinned the champion", "a person unpinned the champion"
"""Why a rollout is paused, and why it goes on."""


class RolloutController(Part):
    """Everything that is known about one model's rollouts; JSON by pydantic."""

    model: str
    champion: str | None = None
    """The version that serves, apart from the open rollout's share."""
    previous: str | None = None
    """The champion before, still warm: the way back needs no canary."""
    replicas: int = 1
    resources: Resources = Field(default_factory=dict)
    """Of the champion; a registered version gets as many."""
    open: Rollout | None = None
    queue: tuple[RolloutRequest, ...] = ()
    """At most one of each kind, in the order of `ORDER`."""
    pinned: bool = False
    """Whether a person keeps the champion, and the weights of a blend, as they are."""
    blend: dict[str, float] = Field(default_factory=dict)
    """Weights with which the pool answers; empty where the champion answers alone."""
    finished: tuple[Rollout, ...] = ()
    """Oldest first."""
    measured_until: Millis = 0
    """End of the newest window of labels: the only clock in here, and it shows the time of the data."""
    seen: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()


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
        return _counted(controller, event, settings)
    if event.id in controller.seen:
        return controller, []
    controller = controller.model_copy(update={"seen": (*controller.seen, event.id)[-SEEN:]})
    # A training takes its time, and the data goes on meanwhile: nothing happens before what was measured.
    event = event.model_copy(update={"at": max(event.at, controller.measured_until)})
    match event:
        case ModelRegistered() | DeployRequested() | ChallengerProven():
            return _wanted(controller, event, settings)
        case RolloutPerformed() | RolloutObstructed():
            return _reported(controller, event, settings)
        case RolloutCommanded():
            return _commanded(controller, event, settings)
        case _:
            return controller, []


def _counted(
    controller: RolloutController, event: Event, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    match event:
        case PerformanceMeasured():
            return _measured(controller, event, settings)
        case TrafficMeasured():
            return _traffic(controller, event, settings)
        case EvidenceMeasured():
            return _evidence(controller, event, settings)
        case AgreementMeasured():
            rollout = controller.open
            if rollout is not None and rollout.version == event.version:
                agreement = rollout.agreement + event.agreement
                controller = controller.model_copy(
                    update={"open": rollout.model_copy(update={"agreement": agreement})}
                )
            return controller, []
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


def _wanted(
    controller: RolloutController, event: RolloutRequest, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Queue it, and start it if nothing is open."""
    if isinstance(event, ModelRegistered) and not _rolls_out(controller, event, settings):
        return controller, []
    if controller.open and controller.open.version == event.version and controller.open.phase not in TERMINAL:
        return controller, [
            _note(event, f"{controller.open.who} is already on its way: it is {controller.open.phase}")
        ]
    queue = {one.type: one for one in controller.queue} | {event.type: event}
    over = [one for one in controller.queue if one.type == event.type and one.version != event.version]
    notes = [_passed_over(one, event.version, "it is newer") for one in over]
    ordered = tuple(queue[kind] for kind in ORDER if kind in queue)
    changes = {"queue": ordered, "tried": (*controller.tried, event.version)[-TRIED:]}
    controller, events = _next(controller.model_copy(update=changes), event, settings)
    return controller, [*notes, *events]


def _rolls_out(controller: RolloutController, event: ModelRegistered, settings: RolloutSettings) -> bool:
    """Whether a registration is a reason to roll it out: later versions have to be proven first."""
    unproven = controller.champion is not None and settings.evidence != "canary"
    return not (_known(controller, event.version) or event.rollout == "manual" or unproven)


def _known(controller: RolloutController, version: str) -> bool:
    """Whether a registration of it is no news: a version that was rolled back is not tried again."""
    return version in (*controller.tried, controller.champion, controller.previous)


def _next(
    controller: RolloutController, trigger: Event, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Start what waits, if nothing is open. The way back to the previous champion has no steps."""
    held = controller.pinned and controller.queue and not isinstance(controller.queue[0], DeployRequested)
    if controller.open or not controller.queue or held:
        return controller, []
    request, *waiting = controller.queue
    controller = controller.model_copy(update={"queue": tuple(waiting)})
    needless = _needless(controller, request)
    if needless is not None:
        controller, events = _next(controller, trigger, settings)
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
        paired=_paired(request, settings),
        blend=settings.strategy == "blend",
    )
    return controller.model_copy(update={"open": rollout}), events


def _paired(request: RolloutRequest, settings: RolloutSettings) -> bool:
    """Whether losses on all labelled rows judge it, rather than the labels of its own requests."""
    if isinstance(request, ChallengerProven):
        return request.evidence == "paired"
    return settings.evidence != "canary"


def _needless(controller: RolloutController, request: RolloutRequest) -> Event | None:
    """What is said where the request has nothing to lead to any more."""
    if request.version == controller.champion:
        return _note(request, f"{controller.model}:{request.version} is already champion")
    if isinstance(request, ChallengerProven) and request.champion != controller.champion:
        why = f"it was proven against {version_name(request.champion)}, and another version is champion now"
        return _passed_over(request, controller.champion, why)
    return None


def _reported(
    controller: RolloutController, event: RolloutPerformed | RolloutObstructed, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """A report of another rollout, phase or step is stale; a step performed twice has begun already."""
    rollout = controller.open
    if rollout is None or (event.rollout, event.phase, event.step) != rollout.place:
        return controller, []
    if rollout.phase in TERMINAL:
        return _closed(controller, event, settings)
    if rollout.phase not in REPORTED:
        return controller, []
    if isinstance(event, RolloutObstructed):
        return _moved(
            controller, *state_machine.advance(rollout, Signal.OBSTRUCTED, event, because=event.error)
        )
    return _performed(controller, rollout, event)


def _performed(
    controller: RolloutController, rollout: Rollout, event: RolloutPerformed
) -> tuple[RolloutController, list[Event]]:
    if rollout.phase is RolloutPhase.CANARY and rollout.since is not None:
        return controller, []
    warm = rollout.phase is RolloutPhase.WARMING
    signal = state_machine.onward(rollout, Signal.PERFORMED) if warm else Signal.PERFORMED
    moved, events = state_machine.advance(rollout, signal, event)
    if rollout.phase is RolloutPhase.CANARY:
        moved = state_machine.counting(moved, controller.measured_until, event.performed_at)
    return _moved(controller, moved, events)


def _measured(
    controller: RolloutController, event: PerformanceMeasured, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Judge the canary by its labels; while it is paused its evidence grows, and nobody judges."""
    controller = controller.model_copy(update={"measured_until": event.until})
    rollout = controller.open
    if rollout is None or rollout.phase not in (RolloutPhase.CANARY, RolloutPhase.PAUSED):
        return controller, []
    grown = state_machine.measured(rollout, event)
    if grown is rollout:
        return controller, []
    kept = grown if grown.evidence[-1].finite else rollout
    if rollout.phase is RolloutPhase.PAUSED:
        return _moved(controller, kept, [])
    verdict = judge(grown.evidence, rollout.version, rollout.stable or "", settings)
    if rollout.proof == "paired" and (rollout.blend or verdict.outcome != "fail"):
        # Its losses on all rows say more than the few labels of its own; and where stable answers with a
        # blend, its labels are those of several versions.
        return _moved(controller, kept, [])
    return _judged(controller, kept, event, verdict, "labels")


def _traffic(
    controller: RolloutController, event: TrafficMeasured, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Judge the canary by its requests; while it is paused they are counted, and nobody judges."""
    rollout = controller.open
    if rollout is None or rollout.phase not in (RolloutPhase.CANARY, RolloutPhase.PAUSED):
        return controller, []
    if not rollout.step or len(rollout.requests) < rollout.step:
        return controller, []  # the step's share is not set yet
    *before, now = rollout.requests
    counted = now.plus(event, rollout.version, rollout.stable or "")
    grown = rollout.model_copy(update={"requests": (*before, counted)})
    if rollout.phase is RolloutPhase.PAUSED or rollout.since is None:
        return _moved(controller, grown, [])
    names = (rollout.version, rollout.stable or "")
    judgement = request_verdict.judge(grown.requests, grown.agreement, names, settings, event.until)
    alerts: list[Event] = []
    if judgement.overdue:
        grown, alerts = state_machine.overdue(grown, judgement.evidence.sentence)
    # The time of a request is the machine's; what follows happens at the time of the data.
    trigger = event.model_copy(update={"at": controller.measured_until})
    controller, events = _judged(controller, grown, trigger, judgement.evidence, "requests")
    return controller, [*alerts, *events]


def _evidence(
    controller: RolloutController, event: EvidenceMeasured, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Take over the weights of a blend; take a canary back that predicts surely worse."""
    if settings.strategy == "blend" and not controller.pinned:
        controller = controller.model_copy(update={"blend": _blend(controller.blend, event)})
    rollout = controller.open
    if rollout is None or rollout.phase is not RolloutPhase.CANARY or event.champion != rollout.stable:
        return controller, []
    pair = event.pairs.get(rollout.version)
    if pair is None or pair.gain >= 0 or pair.against < 1 / settings.alpha:
        return controller, []
    verdict = VerdictEvidence(
        outcome="fail",
        sentence=(
            f"{version_name(rollout.version)} lost {-pair.gain:.4f} more per prediction than "
            f"{version_name(event.champion)} on the same {pair.rows:,} labelled rows"
        ),
        canary_rows=pair.rows,
        stable_rows=pair.rows,
        low=-pair.high,
        high=-pair.low,
    )
    return _moved(controller, *state_machine.advance(rollout, Signal.FAILED, event, verdict))


def _blend(before: dict[str, float], event: EvidenceMeasured) -> dict[str, float]:
    """Weights to answer with, of versions that were scored; the ones before where little has moved."""
    kept = {
        version: one.weight
        for version, one in event.members.items()
        if one.weight >= SMALLEST_WEIGHT and one.rows and version not in event.unscored
    }
    if not kept:
        return before
    total = sum(kept.values())
    now = {version: round(weight / total, 4) for version, weight in kept.items()}
    moved = sum(abs(now.get(version, 0.0) - before.get(version, 0.0)) for version in {*now, *before})
    left = set(before) - set(event.members)
    return now if moved >= MOVED or left or set(now) - set(before) else before


def _judged(
    controller: RolloutController,
    rollout: Rollout,
    trigger: Event,
    verdict: VerdictEvidence,
    about: Literal["requests", "labels"],
) -> tuple[RolloutController, list[Event]]:
    """What a verdict about the canary's requests, or about its labels, leads to."""
    match verdict.outcome:
        case "pass":
            rollout = state_machine.passing(rollout, about)
            if not state_machine.complete(rollout):
                return _moved(controller, rollout, [])
            signal = state_machine.onward(rollout, Signal.PASSED)
        case "fail":
            signal = Signal.FAILED
        case "hold":
            rollout, signal = state_machine.doubting(rollout, about), Signal.HELD
        case "error":
            rollout = state_machine.doubting(rollout, about)
            signal = Signal.PAUSED if rollout.errors + 1 >= UNMEASURABLE else Signal.HELD
    return _moved(controller, *state_machine.advance(rollout, signal, trigger, verdict))


def _commanded(
    controller: RolloutController, event: RolloutCommanded, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    if event.action in (RolloutAction.PIN, RolloutAction.UNPIN):
        return _pinned(controller, event, settings)
    if controller.open is None:
        return controller, [
            _note(event, f"{controller.model} has no rollout in progress: got {event.action}")
        ]
    try:
        moved = state_machine.advance(
            controller.open,
            _ordered(controller.open, event.action),
            event,
            because=f"a person said {event.action}",
        )
    except errors.Conflict as error:
        return controller, [_note(event, str(error))]
    return _moved(controller, *moved)


def _pinned(
    controller: RolloutController, event: RolloutCommanded, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """A pin pauses what nobody asked for before it could replace the champion; an unpin lets it go on."""
    pinned = event.action is RolloutAction.PIN
    controller = controller.model_copy(update={"pinned": pinned})
    rollout = controller.open
    if rollout is None:
        return _next(controller, event, settings)
    if pinned and not rollout.by_hand and rollout.phase in (RolloutPhase.WARMING, RolloutPhase.CANARY):
        return _moved(controller, *state_machine.advance(rollout, Signal.PAUSED, event, because=PINNED))
    if not pinned and rollout.phase is RolloutPhase.PAUSED and rollout.because == PINNED:
        return _moved(
            controller,
            *state_machine.advance(rollout, state_machine.resumed(rollout), event, because=UNPINNED),
        )
    return controller, []


def _ordered(rollout: Rollout, action: RolloutAction) -> Signal:
    match action:
        case RolloutAction.PAUSE:
            return Signal.PAUSED
        case RolloutAction.RESUME:
            return state_machine.resumed(rollout)
        case RolloutAction.ABORT:
            return Signal.ABORTED
        case RolloutAction.PIN | RolloutAction.UNPIN:
            raise errors.Conflict(f"{action} is about the model, not about a rollout")


def _moved(
    controller: RolloutController, rollout: Rollout, events: list[Event]
) -> tuple[RolloutController, list[Event]]:
    """The controller with its open rollout where it is now, and what serves because of it."""
    changes: dict[str, object] = {"open": rollout}
    if rollout.phase is RolloutPhase.PROMOTED:
        changes |= {"champion": rollout.version, "previous": rollout.stable, "replicas": rollout.replicas}
        changes |= {"resources": rollout.resources}
    elif rollout.phase in TERMINAL and rollout.version == controller.previous:
        changes["previous"] = None
    return controller.model_copy(update=changes), events


def _closed(
    controller: RolloutController, event: Event, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """The last phase is settled: the next in the queue has its turn."""
    finished = (*controller.finished, *([controller.open] if controller.open else []))[-FINISHED:]
    return _next(controller.model_copy(update={"open": None, "finished": finished}), event, settings)


def _passed_over(request: RolloutRequest, by: str | None, why: str) -> ChallengerPassedOver:
    """A request that will not be rolled out, and the version that takes its place."""
    instead = f" for {version_name(by)}" if by else ""
    return ChallengerPassedOver.following(
        request,
        version=request.version,
        by=by,
        sentence=f"{version_name(request.version)} is passed over{instead}: {why}",
    )


def _note(cause: Event, sentence: str) -> AlertRaised:
    """For whoever wonders why nothing happens."""
    id_ = ids.derived(cause.id, "AlertRaised", sentence)
    return AlertRaised.following(cause, id=id_, severity="info", sentence=sentence)

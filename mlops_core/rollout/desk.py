"""One model's rollouts: which is open, what waits, what serves. An event comes in, events follow.

One rollout at a time; it finishes before the next begins, so that a verdict compares two versions and
never three. A challenger's rollout begins when it is proven better than the champion (`ChallengerProven`); a
model's first version, and where `rollout.evidence` is `canary` every version, when it is registered. Of what
waits, only the newest is worth its turn, and a proof only against the champion of today; a person's request
goes first, and what a person has pinned is passed by nobody.

Whoever performs effects keeps to this order, so that a crash anywhere loses nothing: handle the event,
publish what follows, store the desk, perform `effects(desk.open)` if its `place` is new, and hand the
report back in as an event. After a start: perform `standing(desk)`, then `effects(desk.open)`, and report.
"""

from typing import Annotated, Literal

from pydantic import Field

from driftloop.mlops_core import errors
from driftloop.mlops_core.rollout import machine, operations
from driftloop.mlops_core.rollout.effects import REPORTED, Blend, Effect, EnsureRevision, ShiftTraffic
from driftloop.mlops_core.rollout.machine import Rollout
from driftloop.mlops_core.rollout.states import TERMINAL, Phase, Signal
from driftloop.mlops_core.rollout.verdict import judge, named
from driftloop.schemas import ids
from driftloop.schemas.events import (
    AgreementMeasured,
    AlertRaised,
    AnyEvent,
    ChallengerPassedOver,
    ChallengerProven,
    DeployRequested,
    Event,
    EvidenceMeasured,
    ModelRegistered,
    Part,
    PerformanceMeasured,
    RolloutAction,
    RolloutCommanded,
    RolloutObstructed,
    RolloutPerformed,
    TrafficMeasured,
    VerdictEvidence,
)
from driftloop.schemas.records import Millis
from driftloop.schemas.settings import RolloutSettings

Wanted = Annotated[ModelRegistered | DeployRequested | ChallengerProven, Field(discriminator="type")]
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


class Desk(Part):
    """Everything that is known about one model's rollouts; JSON by pydantic."""

    model: str
    champion: str | None = None
    """The version that serves, apart from the open rollout's share."""
    previous: str | None = None
    """The champion before, still warm: the way back needs no canary."""
    replicas: int = 1
    """Of the champion; a registered version gets as many."""
    open: Rollout | None = None
    queue: tuple[Wanted, ...] = ()
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


def handle(desk: Desk, event: AnyEvent, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """The desk after `event`, and the events that follow, oldest first. Seen before: nothing follows.

    What cannot be done, e.g. resuming a rollout that runs, follows as an `AlertRaised` that says why.

    Raises:
        Impossible: the event is about another model.
    """
    if event.model != desk.model:
        raise errors.Impossible(f"the desk of {desk.model} got {event.type} {event.id} of {event.model}")
    if isinstance(event, MEASUREMENTS):
        return _counted(desk, event, settings)
    if event.id in desk.seen:
        return desk, []
    desk = desk.model_copy(update={"seen": (*desk.seen, event.id)[-SEEN:]})
    # A training takes its time, and the data goes on meanwhile: nothing happens before what was measured.
    event = event.model_copy(update={"at": max(event.at, desk.measured_until)})
    match event:
        case ModelRegistered() | DeployRequested() | ChallengerProven():
            return _wanted(desk, event, settings)
        case RolloutPerformed() | RolloutObstructed():
            return _reported(desk, event, settings)
        case RolloutCommanded():
            return _commanded(desk, event, settings)
        case _:
            return desk, []


def _counted(desk: Desk, event: Event, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    match event:
        case PerformanceMeasured():
            return _measured(desk, event, settings)
        case TrafficMeasured():
            return _traffic(desk, event, settings)
        case EvidenceMeasured():
            return _evidence(desk, event, settings)
        case AgreementMeasured():
            rollout = desk.open
            if rollout is not None and rollout.version == event.version:
                agreement = rollout.agreement + event.agreement
                desk = desk.model_copy(update={"open": rollout.model_copy(update={"agreement": agreement})})
            return desk, []
        case _:
            return desk, []


def blended(desk: Desk, settings: RolloutSettings) -> Blend | None:
    """How answers are to be averaged, or that they are no more; None where nothing was ever blended."""
    weights = desk.blend if settings.strategy == "blend" else {}
    return Blend(desk.model, weights) if desk.blend else None


def standing(desk: Desk) -> tuple[Effect, ...]:
    """What must be true apart from the open rollout: the champion serves, the one before is warm."""
    warm = [version for version in (desk.champion, desk.previous) if version]
    ensured = tuple(EnsureRevision(desk.model, version, desk.replicas) for version in warm)
    if desk.champion is None or (desk.open and desk.open.phase not in TERMINAL):
        return ensured
    return (*ensured, ShiftTraffic(desk.model, {desk.champion: 100}))


def _wanted(desk: Desk, event: Wanted, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """Queue it, and start it if nothing is open."""
    if isinstance(event, ModelRegistered) and not _rolls_out(desk, event, settings):
        return desk, []
    if desk.open and desk.open.version == event.version and desk.open.phase not in TERMINAL:
        return desk, [_note(event, f"{desk.open.who} is already on its way: it is {desk.open.phase}")]
    queue = {one.type: one for one in desk.queue} | {event.type: event}
    over = [one for one in desk.queue if one.type == event.type and one.version != event.version]
    notes = [_passed_over(one, event.version, "it is newer") for one in over]
    ordered = tuple(queue[kind] for kind in ORDER if kind in queue)
    changes = {"queue": ordered, "tried": (*desk.tried, event.version)[-TRIED:]}
    desk, events = _next(desk.model_copy(update=changes), event, settings)
    return desk, [*notes, *events]


def _rolls_out(desk: Desk, event: ModelRegistered, settings: RolloutSettings) -> bool:
    """Whether a registration is a reason to roll it out: later versions have to be proven first."""
    unproven = desk.champion is not None and settings.evidence != "canary"
    return not (_known(desk, event.version) or event.rollout == "manual" or unproven)


def _known(desk: Desk, version: str) -> bool:
    """Whether a registration of it is no news: a version that was rolled back is not tried again."""
    return version in (*desk.tried, desk.champion, desk.previous)


def _next(desk: Desk, trigger: Event, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """Start what waits, if nothing is open. The way back to the previous champion has no steps."""
    held = desk.pinned and desk.queue and not isinstance(desk.queue[0], DeployRequested)
    if desk.open or not desk.queue or held:
        return desk, []
    request, *waiting = desk.queue
    desk = desk.model_copy(update={"queue": tuple(waiting)})
    needless = _needless(desk, request)
    if needless is not None:
        desk, events = _next(desk, trigger, settings)
        return desk, [needless, *events]
    back = not isinstance(request, ModelRegistered) and request.version == desk.previous
    rollout, events = machine.start(
        request,
        stable=desk.champion,
        steps=() if back else settings.steps,
        replicas=request.replicas if isinstance(request, DeployRequested) else desk.replicas,
        spare=(desk.previous,) if desk.previous and desk.previous != request.version else (),
        at=trigger.at,
        paired=_paired(request, settings),
        blend=settings.strategy == "blend",
    )
    return desk.model_copy(update={"open": rollout}), events


def _paired(request: Wanted, settings: RolloutSettings) -> bool:
    """Whether losses on all labelled rows judge it, rather than the labels of its own requests."""
    if isinstance(request, ChallengerProven):
        return request.evidence == "paired"
    return settings.evidence != "canary"


def _needless(desk: Desk, request: Wanted) -> Event | None:
    """What is said where the request has nothing to lead to any more."""
    if request.version == desk.champion:
        return _note(request, f"{desk.model}:{request.version} is already champion")
    if isinstance(request, ChallengerProven) and request.champion != desk.champion:
        why = f"it was proven against {named(request.champion)}, and another version is champion now"
        return _passed_over(request, desk.champion, why)
    return None


def _reported(
    desk: Desk, event: RolloutPerformed | RolloutObstructed, settings: RolloutSettings
) -> tuple[Desk, list[Event]]:
    """A report of another rollout, phase or step is stale; a step performed twice has begun already."""
    rollout = desk.open
    if rollout is None or (event.rollout, event.phase, event.step) != rollout.place:
        return desk, []
    if rollout.phase in TERMINAL:
        return _closed(desk, event, settings)
    if rollout.phase not in REPORTED:
        return desk, []
    if isinstance(event, RolloutObstructed):
        return _moved(desk, *machine.advance(rollout, Signal.OBSTRUCTED, event, because=event.error))
    return _performed(desk, rollout, event)


def _performed(desk: Desk, rollout: Rollout, event: RolloutPerformed) -> tuple[Desk, list[Event]]:
    if rollout.phase is Phase.CANARY and rollout.since is not None:
        return desk, []
    warm = rollout.phase is Phase.WARMING
    signal = machine.onward(rollout, Signal.PERFORMED) if warm else Signal.PERFORMED
    moved, events = machine.advance(rollout, signal, event)
    if rollout.phase is Phase.CANARY:
        moved = machine.counting(moved, desk.measured_until, event.performed_at)
    return _moved(desk, moved, events)


def _measured(desk: Desk, event: PerformanceMeasured, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """Judge the canary by its labels; while it is paused its evidence grows, and nobody judges."""
    desk = desk.model_copy(update={"measured_until": event.until})
    rollout = desk.open
    if rollout is None or rollout.phase not in (Phase.CANARY, Phase.PAUSED):
        return desk, []
    grown = machine.measured(rollout, event)
    if grown is rollout:
        return desk, []
    kept = grown if grown.evidence[-1].finite else rollout
    if rollout.phase is Phase.PAUSED:
        return _moved(desk, kept, [])
    verdict = judge(grown.evidence, rollout.version, rollout.stable or "", settings)
    if rollout.proof == "paired" and (rollout.blend or verdict.outcome != "fail"):
        # Its losses on all rows say more than the few labels of its own; and where stable answers with a
        # blend, its labels are those of several versions.
        return _moved(desk, kept, [])
    return _judged(desk, kept, event, verdict, "labels")


def _traffic(desk: Desk, event: TrafficMeasured, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """Judge the canary by its requests; while it is paused they are counted, and nobody judges."""
    rollout = desk.open
    if rollout is None or rollout.phase not in (Phase.CANARY, Phase.PAUSED):
        return desk, []
    if not rollout.step or len(rollout.requests) < rollout.step:
        return desk, []  # the step's share is not set yet
    *before, now = rollout.requests
    counted = now.plus(event, rollout.version, rollout.stable or "")
    grown = rollout.model_copy(update={"requests": (*before, counted)})
    if rollout.phase is Phase.PAUSED or rollout.since is None:
        return _moved(desk, grown, [])
    names = (rollout.version, rollout.stable or "")
    judgement = operations.judge(grown.requests, grown.agreement, names, settings, event.until)
    alerts: list[Event] = []
    if judgement.overdue:
        grown, alerts = machine.overdue(grown, judgement.evidence.sentence)
    # The time of a request is the machine's; what follows happens at the time of the data.
    trigger = event.model_copy(update={"at": desk.measured_until})
    desk, events = _judged(desk, grown, trigger, judgement.evidence, "requests")
    return desk, [*alerts, *events]


def _evidence(desk: Desk, event: EvidenceMeasured, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """Take over the weights of a blend; take a canary back that predicts surely worse."""
    if settings.strategy == "blend" and not desk.pinned:
        desk = desk.model_copy(update={"blend": _blend(desk.blend, event)})
    rollout = desk.open
    if rollout is None or rollout.phase is not Phase.CANARY or event.champion != rollout.stable:
        return desk, []
    pair = event.pairs.get(rollout.version)
    if pair is None or pair.gain >= 0 or pair.against < 1 / settings.alpha:
        return desk, []
    verdict = VerdictEvidence(
        outcome="fail",
        sentence=(
            f"{named(rollout.version)} lost {-pair.gain:.4f} more per prediction than "
            f"{named(event.champion)} on the same {pair.rows:,} labelled rows"
        ),
        canary_rows=pair.rows,
        stable_rows=pair.rows,
        low=-pair.high,
        high=-pair.low,
    )
    return _moved(desk, *machine.advance(rollout, Signal.FAILED, event, verdict))


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
    desk: Desk,
    rollout: Rollout,
    trigger: Event,
    verdict: VerdictEvidence,
    about: Literal["requests", "labels"],
) -> tuple[Desk, list[Event]]:
    """What a verdict about the canary's requests, or about its labels, leads to."""
    match verdict.outcome:
        case "pass":
            rollout = machine.passing(rollout, about)
            if not machine.complete(rollout):
                return _moved(desk, rollout, [])
            signal = machine.onward(rollout, Signal.PASSED)
        case "fail":
            signal = Signal.FAILED
        case "hold":
            rollout, signal = machine.doubting(rollout, about), Signal.HELD
        case "error":
            rollout = machine.doubting(rollout, about)
            signal = Signal.PAUSED if rollout.errors + 1 >= UNMEASURABLE else Signal.HELD
    return _moved(desk, *machine.advance(rollout, signal, trigger, verdict))


def _commanded(desk: Desk, event: RolloutCommanded, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    if event.action in (RolloutAction.PIN, RolloutAction.UNPIN):
        return _pinned(desk, event, settings)
    if desk.open is None:
        return desk, [_note(event, f"{desk.model} has no rollout in progress: got {event.action}")]
    try:
        moved = machine.advance(
            desk.open, _ordered(desk.open, event.action), event, because=f"a person said {event.action}"
        )
    except errors.Impossible as error:
        return desk, [_note(event, str(error))]
    return _moved(desk, *moved)


def _pinned(desk: Desk, event: RolloutCommanded, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """A pin pauses what nobody asked for before it could replace the champion; an unpin lets it go on."""
    pinned = event.action is RolloutAction.PIN
    desk = desk.model_copy(update={"pinned": pinned})
    rollout = desk.open
    if rollout is None:
        return _next(desk, event, settings)
    if pinned and not rollout.by_hand and rollout.phase in (Phase.WARMING, Phase.CANARY):
        return _moved(desk, *machine.advance(rollout, Signal.PAUSED, event, because=PINNED))
    if not pinned and rollout.phase is Phase.PAUSED and rollout.because == PINNED:
        return _moved(desk, *machine.advance(rollout, machine.resumed(rollout), event, because=UNPINNED))
    return desk, []


def _ordered(rollout: Rollout, action: RolloutAction) -> Signal:
    match action:
        case RolloutAction.PAUSE:
            return Signal.PAUSED
        case RolloutAction.RESUME:
            return machine.resumed(rollout)
        case RolloutAction.ABORT:
            return Signal.ABORTED
        case RolloutAction.PIN | RolloutAction.UNPIN:
            raise errors.Impossible(f"{action} is about the model, not about a rollout")


def _moved(desk: Desk, rollout: Rollout, events: list[Event]) -> tuple[Desk, list[Event]]:
    """The desk with its open rollout where it is now, and what serves because of it."""
    changes: dict[str, object] = {"open": rollout}
    if rollout.phase is Phase.PROMOTED:
        changes |= {"champion": rollout.version, "previous": rollout.stable, "replicas": rollout.replicas}
    elif rollout.phase in TERMINAL and rollout.version == desk.previous:
        changes["previous"] = None
    return desk.model_copy(update=changes), events


def _closed(desk: Desk, event: Event, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """The last phase is settled: the next in the queue has its turn."""
    finished = (*desk.finished, *([desk.open] if desk.open else []))[-FINISHED:]
    return _next(desk.model_copy(update={"open": None, "finished": finished}), event, settings)


def _passed_over(request: Wanted, by: str | None, why: str) -> ChallengerPassedOver:
    """A request that will not be rolled out, and the version that takes its place."""
    instead = f" for {named(by)}" if by else ""
    return ChallengerPassedOver.following(
        request,
        version=request.version,
        by=by,
        sentence=f"{named(request.version)} is passed over{instead}: {why}",
    )


def _note(cause: Event, sentence: str) -> AlertRaised:
    """For whoever wonders why nothing happens."""
    id_ = ids.derived(cause.id, "AlertRaised", sentence)
    return AlertRaised.following(cause, id=id_, severity="info", sentence=sentence)

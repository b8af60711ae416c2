"""One model's rollouts: which is open, what waits, what serves. An event comes in, events follow.

One rollout at a time; it finishes before the next begins, so that a verdict compares two versions and
never three. Of what waits, only the newest is worth its turn: a newer registration passes the older one
over, a newer request of a person the older request; the person's goes first.

Whoever performs effects keeps to this order, so that a crash anywhere loses nothing: handle the event,
publish what follows, store the desk, perform `effects(desk.open)` if its `place` is new, and hand the
report back in as an event. After a start: perform `standing(desk)`, then `effects(desk.open)`, and report.
"""

from typing import Annotated

from pydantic import Field

from mlops_core import errors
from mlops_core.rollout import machine
from mlops_core.rollout.effects import REPORTED, Effect, EnsureRevision, ShiftTraffic
from mlops_core.rollout.machine import Rollout
from mlops_core.rollout.states import TERMINAL, Phase, Signal
from mlops_core.rollout.verdict import judge
from schemas import ids
from schemas.events import (
    AlertRaised,
    AnyEvent,
    DeployRequested,
    Event,
    ModelRegistered,
    Part,
    PerformanceMeasured,
    RolloutAction,
    RolloutCommanded,
    RolloutObstructed,
    RolloutPerformed,
    VerdictEvidence,
)
from schemas.records import Millis
from schemas.settings import RolloutSettings

Wanted = Annotated[ModelRegistered | DeployRequested, Field(discriminator="type")]
"""What asks for a rollout."""
FINISHED = 20
"""Rollouts that are remembered with their evidence."""
SEEN = 256
"""Events that are recognised when they are delivered again; a redelivery is never far behind."""
TRIED = 1000
"""Versions whose registration is never again a reason to roll them out."""
UNMEASURABLE = 3
"""Windows in a row without a measurement until a person is asked."""


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
    """At most a person's request and a registration, in this order."""
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
    if event.id in desk.seen:
        return desk, []
    desk = desk.model_copy(update={"seen": (*desk.seen, event.id)[-SEEN:]})
    # A training takes its time, and the data goes on meanwhile: nothing happens before what was measured.
    event = event.model_copy(update={"at": max(event.at, desk.measured_until)})
    match event:
        case ModelRegistered() | DeployRequested():
            return _wanted(desk, event, settings)
        case RolloutPerformed() | RolloutObstructed():
            return _reported(desk, event, settings)
        case PerformanceMeasured():
            return _measured(desk, event, settings)
        case RolloutCommanded():
            return _commanded(desk, event)
        case _:
            return desk, []


def standing(desk: Desk) -> tuple[Effect, ...]:
    """What must be true apart from the open rollout: the champion serves, the one before is warm."""
    warm = [version for version in (desk.champion, desk.previous) if version]
    ensured = tuple(EnsureRevision(desk.model, version, desk.replicas) for version in warm)
    if desk.champion is None or (desk.open and desk.open.phase not in TERMINAL):
        return ensured
    return (*ensured, ShiftTraffic(desk.model, {desk.champion: 100}))


def _wanted(desk: Desk, event: Wanted, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """Queue it, and start it if nothing is open."""
    if isinstance(event, ModelRegistered) and (_known(desk, event.version) or event.rollout == "manual"):
        return desk, []
    if desk.open and desk.open.version == event.version and desk.open.phase not in TERMINAL:
        return desk, [_note(event, f"{desk.open.who} is already on its way: it is {desk.open.phase}")]
    queue = {one.type: one for one in desk.queue} | {event.type: event}
    over = [one for one in desk.queue if one.type == event.type]
    notes = [_note(one, f"{desk.model}:{one.version} is passed over for {event.version}") for one in over]
    ordered = tuple(queue[kind] for kind in ("DeployRequested", "ModelRegistered") if kind in queue)
    changes = {"queue": ordered, "tried": (*desk.tried, event.version)[-TRIED:]}
    desk, events = _next(desk.model_copy(update=changes), event, settings)
    return desk, [*notes, *events]


def _known(desk: Desk, version: str) -> bool:
    """Whether a registration of it is no news: a version that was rolled back is not tried again."""
    return version in (*desk.tried, desk.champion, desk.previous)


def _next(desk: Desk, trigger: Event, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """Start what waits, if nothing is open. The way back to the previous champion has no steps."""
    if desk.open or not desk.queue:
        return desk, []
    request, *waiting = desk.queue
    desk = desk.model_copy(update={"queue": tuple(waiting)})
    if request.version == desk.champion:
        note = _note(request, f"{desk.model}:{request.version} is already champion")
        desk, events = _next(desk, trigger, settings)
        return desk, [note, *events]
    asked = isinstance(request, DeployRequested)
    rollout, events = machine.start(
        request,
        stable=desk.champion,
        steps=() if asked and request.version == desk.previous else settings.steps,
        replicas=request.replicas if isinstance(request, DeployRequested) else desk.replicas,
        spare=(desk.previous,) if desk.previous and desk.previous != request.version else (),
        at=trigger.at,
    )
    return desk.model_copy(update={"open": rollout}), events


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
        moved = machine.counting(moved, desk.measured_until)
    return _moved(desk, moved, events)


def _measured(desk: Desk, event: PerformanceMeasured, settings: RolloutSettings) -> tuple[Desk, list[Event]]:
    """Judge the canary; while it is paused its evidence grows, and nobody judges."""
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
    return _moved(desk, *machine.advance(kept, _signal(kept, verdict), event, verdict))


def _signal(rollout: Rollout, verdict: VerdictEvidence) -> Signal:
    match verdict.outcome:
        case "pass":
            return machine.onward(rollout, Signal.PASSED)
        case "fail":
            return Signal.FAILED
        case "hold":
            return Signal.HELD
        case "error":
            return Signal.PAUSED if rollout.errors + 1 >= UNMEASURABLE else Signal.HELD


def _commanded(desk: Desk, event: RolloutCommanded) -> tuple[Desk, list[Event]]:
    if desk.open is None:
        return desk, [_note(event, f"{desk.model} has no rollout in progress: got {event.action}")]
    try:
        moved = machine.advance(
            desk.open, _ordered(desk.open, event.action), event, because=f"a person said {event.action}"
        )
    except errors.Impossible as error:
        return desk, [_note(event, str(error))]
    return _moved(desk, *moved)


def _ordered(rollout: Rollout, action: RolloutAction) -> Signal:
    match action:
        case RolloutAction.PAUSE:
            return Signal.PAUSED
        case RolloutAction.RESUME:
            return machine.resumed(rollout)
        case RolloutAction.ABORT:
            return Signal.ABORTED


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


def _note(cause: Event, sentence: str) -> AlertRaised:
    """For whoever wonders why nothing happens."""
    id_ = ids.derived(cause.id, "AlertRaised", sentence)
    return AlertRaised.following(cause, id=id_, severity="info", sentence=sentence)

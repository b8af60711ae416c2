"""One rollout: what it is, and what follows from a signal.

`advance` asks the table for the phase and returns the rollout in it, with the events that tell so. Each
event is caused by the one before it in the rollout's own chain, which begins at the `ModelRegistered` or
`DeployRequested` that asked for it; `rollout.because` keeps in words what else had a part in it.
"""

from types import MappingProxyType
from typing import Literal, TypeVar

from pydantic import Field

from driftloop.mlops_core.rollout import states
from driftloop.mlops_core.rollout.label_verdict import StepLabels, version_name
from driftloop.mlops_core.rollout.request_statistics import StepRequests
from driftloop.mlops_core.rollout.states import Signal
from driftloop.schemas import ids
from driftloop.schemas.events import (
    Agreement,
    AlertRaised,
    ChallengerProven,
    DeployRequested,
    Event,
    ModelRegistered,
    Outcome,
    Part,
    PerformanceMeasured,
    Resources,
    RolloutAdvanced,
    RolloutEvent,
    RolloutFailed,
    RolloutHeld,
    RolloutObstructed,
    RolloutPerformed,
    RolloutPhase,
    RolloutPromoted,
    RolloutRolledBack,
    RolloutStarted,
    VerdictEvidence,
)
from driftloop.schemas.records import Millis

Kind = TypeVar("Kind", bound=Event)
HELD_EVERY = 20
"""Windows between two `RolloutHeld` that say the same: a canary may be held for weeks."""


class Rollout(Part):
    """A version on its way to traffic."""

    id: str
    """That of the event which asked for it."""
    model: str
    version: str
    stable: str | None = None
    """The version that serves meanwhile; None for a model's first."""
    spare: tuple[str, ...] = ()
    """Versions that earlier rollouts left warm; taken down once this one is promoted."""
    replicas: int = 1
    resources: Resources = Field(default_factory=dict)
    phase: RolloutPhase = RolloutPhase.WARMING
    step: int = 0
    """0 before it had any traffic, then 1 to len(steps)."""
    steps: tuple[int, ...] = ()
    """The canary's shares in percent; empty where there is nothing to compare with or nothing to prove."""
    cause: str
    """Id of the last event in its chain."""
    at: Millis
    """When that was, in the time of the data."""
    because: str = ""
    """Why it is in this phase, as a sentence."""
    since: Millis | None = None
    """Windows that begin from here on count; None until the step's shift of traffic was performed."""
    by_hand: bool = False
    """Whether a person asked for it: then a pin doesn't hold it."""
    proof: Literal["paired", "canary"] = "canary"
    """What says how well it predicts: losses on every labelled row, or the labels of its own requests."""
    blend: bool = False
    """Whether stable answers with a blend; then the canary does so too, unless its own labels judge it."""
    evidence: tuple[StepLabels, ...] = ()
    """What labels said, one a step."""
    requests: tuple[StepRequests, ...] = ()
    """What was counted of its requests, one a step whose traffic was shifted."""
    agreement: Agreement = Agreement()
    """Its scores against those recomputed from the same features."""
    passed: tuple[Literal["requests", "labels"], ...] = ()
    """Verdicts that were good at this step."""
    overdue: bool = False
    """Whether it was reported that the step lacks requests."""
    verdict: VerdictEvidence | None = None
    """The last one, spoken or not."""
    quiet: int = 0
    """Windows since a hold was last published."""
    errors: int = 0
    """Windows in a row in which nothing could be measured."""

    @property
    def who(self) -> str:
        """How errors and sentences call it."""
        return f"{self.model}:{self.version}"

    @property
    def share(self) -> int:
        """The canary's percent of traffic at this step."""
        return self.steps[self.step - 1] if self.step else 0

    @property
    def weight(self) -> int:
        """The challenger's percent of the traffic in this phase."""
        match self.phase:
            case RolloutPhase.PROMOTING | RolloutPhase.PROMOTED:
                return 100
            case RolloutPhase.CANARY | RolloutPhase.PAUSED:
                return self.share
            case _:
                return 0

    @property
    def place(self) -> tuple[str, RolloutPhase, int]:
        """What its effects depend on: whoever performs them does so again when this changes."""
        return self.id, self.phase, self.step


def start(  # noqa: PLR0913 - all that a rollout begins with
    request: ModelRegistered | DeployRequested | ChallengerProven,
    stable: str | None,
    steps: tuple[int, ...],
    replicas: int = 1,
    spare: tuple[str, ...] = (),
    at: Millis = 0,
    *,
    resources: Resources = MappingProxyType({}),
    paired: bool = False,
    blend: bool = False,
) -> tuple[Rollout, list[Event]]:
    """The rollout that `request` asks for; `at` is when its turn came. Without stable there are no steps."""
    rollout = Rollout(
        id=request.id,
        model=request.model,
        version=request.version,
        stable=stable,
        spare=spare,
        replicas=replicas,
        resources=dict(resources),
        steps=steps if stable else (),
        by_hand=isinstance(request, DeployRequested),
        proof="paired" if paired else "canary",
        blend=blend,
        cause=request.id,
        at=max(request.at, at),
    )
    fields = {"steps": rollout.steps, "evidence": rollout.proof}
    return _append_event(rollout, RolloutStarted, **fields, sentence=_intention(rollout, request))


def advance(
    rollout: Rollout,
    signal: Signal,
    trigger: Event,
    verdict: VerdictEvidence | None = None,
    because: str = "",
) -> tuple[Rollout, list[Event]]:
    """The rollout after `signal`, and the events that follow.

    `trigger` is what brought the signal: it gives the time, and a report of the rollout's own joins its
    chain. `verdict` is the one behind passed, proven, held or failed; `because` says why otherwise.

    Raises:
        Conflict: the table has no such row.
    """
    changes: dict[str, object] = {
        "phase": states.next_phase(rollout.phase, signal, rollout.who),
        "at": max(rollout.at, trigger.at),
        "because": because or (verdict.sentence if verdict else rollout.because),
    }
    if isinstance(trigger, RolloutPerformed | RolloutObstructed):
        changes["cause"] = trigger.id
    if verdict:
        changes |= {"verdict": verdict, "errors": rollout.errors + 1 if verdict.outcome == "error" else 0}
    moved, events = _announce(rollout, _begin_step(rollout.model_copy(update=changes), signal), signal)
    if (moved.place, moved.cause) == (rollout.place, rollout.cause):
        # Nothing happened that has a time: the same report, made again, must be the same event.
        moved = moved.model_copy(update={"at": rollout.at})
    return moved, events


def next_signal(rollout: Rollout, otherwise: Signal) -> Signal:
    """The signal of going on from here: `otherwise`, or proven where no step is left."""
    return otherwise if rollout.steps[rollout.step :] else Signal.PROVEN


def resume_signal(rollout: Rollout) -> Signal:
    """The signal of going on after a pause: back to the share it had, or on where there are no steps."""
    return Signal.PROVEN if rollout.phase is RolloutPhase.PAUSED and not rollout.steps else Signal.RESUMED


def begin_counting(rollout: Rollout, since: Millis, clock: Millis) -> Rollout:
    """With what comes from now on counting for its step.

    Windows of labels count from `since` on (time of the data), requests from `clock` on (wall clock). A step
    that was taken up again after a pause keeps its requests: the share was the same all the time.
    """
    begun = len(rollout.requests) >= rollout.step
    steps = rollout.requests if begun else (*rollout.requests, StepRequests(share=rollout.share, since=clock))
    return rollout.model_copy(update={"since": since, "requests": steps})


def add_passed_verdict(rollout: Rollout, verdict: Literal["requests", "labels"]) -> Rollout:
    """With one more good verdict at this step."""
    return rollout.model_copy(update={"passed": tuple(dict.fromkeys((*rollout.passed, verdict)))})


def remove_passed_verdict(rollout: Rollout, verdict: Literal["requests", "labels"]) -> Rollout:
    """With a good verdict at this step taken back: what came since made it doubtful."""
    return rollout.model_copy(update={"passed": tuple(one for one in rollout.passed if one != verdict)})


def is_step_passed(rollout: Rollout) -> bool:
    """Whether nothing that has to be good at this step is missing."""
    wanted = {"requests"} if rollout.proof == "paired" else {"requests", "labels"}
    return wanted <= set(rollout.passed)


def add_labels(rollout: Rollout, window: PerformanceMeasured) -> Rollout:
    """With the window in the step's evidence; the same rollout where the window does not count.

    A window counts if it began after the step's traffic was shifted. Within it, each outcome belongs to
    the version that had answered, whenever that was.
    """
    if rollout.since is None or window.since < rollout.since:
        return rollout
    canary = window.versions.get(rollout.version, Outcome())
    stable = window.versions.get(rollout.stable or "", Outcome())
    *before, now = rollout.evidence
    return rollout.model_copy(update={"evidence": (*before, now.plus(canary, stable))})


def performed_report(rollout: Rollout, clock: Millis = 0) -> RolloutPerformed:
    """The report that the effects of its phase were carried out; `clock` is the wall clock (UTC, ms)."""
    return _event(rollout, RolloutPerformed, performed_at=clock)


def obstructed_report(rollout: Rollout, error: str) -> RolloutObstructed:
    """The report that they cannot be carried out, whoever tries."""
    return _event(rollout, RolloutObstructed, error=error, sentence=error)


def _begin_step(rollout: Rollout, signal: Signal) -> Rollout:
    """A canary's share begins or is taken up again, and counts only once its shift was performed."""
    if rollout.phase is not RolloutPhase.CANARY or signal is Signal.HELD:
        return rollout
    step = rollout.step + 1 if signal is Signal.PASSED else max(rollout.step, 1)
    fresh = tuple(StepLabels(share=share) for share in rollout.steps[len(rollout.evidence) : step])
    changes = {
        "step": step,
        "since": None,
        "errors": 0,
        "evidence": rollout.evidence + fresh,
        "passed": (),
        "overdue": False,
    }
    return rollout.model_copy(update=changes)


def _announce(  # noqa: PLR0911 - a phase, a return
    before: Rollout, now: Rollout, signal: Signal
) -> tuple[Rollout, list[Event]]:
    match now.phase:
        case RolloutPhase.CANARY if signal is Signal.HELD:
            return _announce_hold(before, now)
        case RolloutPhase.CANARY if (now.step, signal) != (before.step, Signal.PERFORMED):
            spoken = now.verdict if signal is Signal.PASSED else None
            why = f"{version_name(now.version)} gets {now.share} % of the traffic"
            return _append_event(now, RolloutAdvanced, verdict=spoken, sentence=why)
        case RolloutPhase.PAUSED:
            spoken = now.verdict if now.errors else None
            return _append_event(now, RolloutHeld, verdict=spoken, sentence=now.because)
        case RolloutPhase.PROMOTING:
            why = f"{version_name(now.version)} gets all traffic"
            return _append_event(now, RolloutAdvanced, verdict=now.verdict, sentence=why)
        case RolloutPhase.REVERTING if (
            before.phase is RolloutPhase.REVERTING and now.because != before.because
        ):
            return now, [_alarm(now)]
        case RolloutPhase.PROMOTED:
            why = f"{version_name(now.version)} is champion and serves everything"
            return _append_event(now, RolloutPromoted, verdict=now.verdict, sentence=why)
        case RolloutPhase.REVERTED:
            return _append_event(now, RolloutRolledBack, verdict=now.verdict, sentence=now.because)
        case RolloutPhase.FAILED:
            return _append_event(now, RolloutFailed, error=now.because, sentence=now.because)
        case RolloutPhase.WARMING | RolloutPhase.CANARY | RolloutPhase.REVERTING:
            return now, []


def _announce_hold(before: Rollout, now: Rollout) -> tuple[Rollout, list[Event]]:
    """Spoken when the verdict is another than before, then once in a while."""
    same = before.verdict and now.verdict and before.verdict.outcome == now.verdict.outcome
    if same and before.quiet + 1 < HELD_EVERY:
        return now.model_copy(update={"quiet": before.quiet + 1}), []
    spoken = now.model_copy(update={"quiet": 0})
    return _append_event(spoken, RolloutHeld, verdict=now.verdict, sentence=now.because)


def _alarm(rollout: Rollout) -> AlertRaised:
    """A way back that is barred is the one thing that a rollout cannot settle by itself."""
    sentence = f"{rollout.who} cannot be rolled back: {rollout.because}"
    return _following(rollout, AlertRaised, severity="critical", sentence=sentence)


def overdue_alert(rollout: Rollout, sentence: str) -> tuple[Rollout, list[Event]]:
    """The alert, once a step, that it waits for requests longer than it should."""
    if rollout.overdue:
        return rollout, []
    said = _following(rollout, AlertRaised, severity="warning", sentence=f"{rollout.who}: {sentence}")
    return rollout.model_copy(update={"overdue": True}), [said]


def _intention(rollout: Rollout, request: ModelRegistered | DeployRequested | ChallengerProven) -> str:
    """What a rollout that starts is going to do, and why."""
    return (
        f"{request.sentence}; {_plan(rollout)}" if isinstance(request, ChallengerProven) else _plan(rollout)
    )


def _plan(rollout: Rollout) -> str:
    if not rollout.steps:
        return f"{version_name(rollout.version)} is to serve everything at once"
    steps = ", ".join(str(step) for step in rollout.steps)
    stable = version_name(rollout.stable or "")
    return f"{version_name(rollout.version)} is to replace {stable} in steps of {steps} %"


def _append_event(
    rollout: Rollout, kind: type[RolloutEvent], **fields: object
) -> tuple[Rollout, list[Event]]:
    """The rollout whose chain ends with the event, and the event."""
    event = _event(rollout, kind, **fields)
    return rollout.model_copy(update={"cause": event.id}), [event]


def _event(rollout: Rollout, kind: type[Kind], **fields: object) -> Kind:
    common = {"rollout": rollout.id, "version": rollout.version, "stable": rollout.stable}
    position = {"phase": rollout.phase, "step": rollout.step, "weight": rollout.weight}
    return _following(rollout, kind, **common, **position, **fields)


def _following(rollout: Rollout, kind: type[Kind], /, **fields: object) -> Kind:
    """An event after the last of the chain, with an id that the same step of the same chain repeats."""
    id_ = ids.derive(rollout.cause, kind.__name__, rollout.phase, rollout.step)
    envelope = {"id": id_, "at": rollout.at, "model": rollout.model, "caused_by": rollout.cause}
    return kind.model_validate({**envelope, **fields})

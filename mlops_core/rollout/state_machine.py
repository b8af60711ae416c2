"""One rollout: its state, and what follows from a signal.

`advance` looks the next phase up in the table and returns the rollout in that phase, with the events to
publish. Each event is caused by the one before it in the rollout's own chain, which begins at the request
(`ModelRegistered`, `ChallengerProven` or `DeployRequested`); `rollout.reason` says in words why it advanced.
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
"""Windows between two `RolloutHeld` with the same outcome: a canary may be held for weeks."""


class Rollout(Part):
    """The rollout of one version; stored as JSON with the controller."""

    id: str
    """Id of the event that requested it."""
    model: str
    version: str
    stable: str | None = None
    """The champion when the rollout started, which serves the other traffic; None where there was none."""
    warm_versions: tuple[str, ...] = ()
    """Versions whose replicas still run after earlier rollouts; taken down once this one is promoted."""
    replicas: int = 1
    resources: Resources = Field(default_factory=dict)
    phase: RolloutPhase = RolloutPhase.WARMING
    step: int = 0
    """Number of the present step, 1 to len(steps); 0 before the version had any traffic."""
    steps: tuple[int, ...] = ()
    """The canary's shares in percent; empty where there is nothing to compare with or nothing to prove."""
    cause: str
    """Id of the last event in its chain."""
    at: Millis
    """Time of that event, in the time of the data."""
    reason: str = ""
    """Why it is in this phase, as a sentence."""
    since: Millis | None = None
    """Windows of labels that begin at or after this time count; None until the step's share was set."""
    by_hand: bool = False
    """Whether a person requested it: then a pin does not pause it."""
    proof: Literal["paired", "canary"] = "canary"
    """Evidence of quality: `paired` losses on all labelled rows, or labels of the `canary`'s own requests."""
    blend: bool = False
    """Whether stable serves a blend; then the canary does so too, unless `proof` is `canary`."""
    evidence: tuple[StepLabels, ...] = ()
    """Labels of each step."""
    requests: tuple[StepRequests, ...] = ()
    """Requests of each step whose traffic was shifted."""
    agreement: Agreement = Agreement()
    """The canary's scores compared with those recomputed from the same features."""
    passed: tuple[Literal["requests", "labels"], ...] = ()
    """Verdicts that passed at this step."""
    overdue: bool = False
    """Whether an alert was raised that the step lacks requests."""
    verdict: VerdictEvidence | None = None
    """The newest verdict, published or not."""
    windows_since_hold: int = 0
    """Windows of measurements since `RolloutHeld` was last published."""
    errors: int = 0
    """Windows in a row in which nothing could be measured."""

    @property
    def model_id(self) -> str:
        """`model:version`, as errors and sentences name it."""
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
    def effects_key(self) -> tuple[str, RolloutPhase, int]:
        """Rollout, phase and step: when one of them changes, the effects are performed again."""
        return self.id, self.phase, self.step


def start(  # noqa: PLR0913 - all that a rollout begins with
    request: ModelRegistered | DeployRequested | ChallengerProven,
    stable: str | None,
    steps: tuple[int, ...],
    replicas: int = 1,
    warm_versions: tuple[str, ...] = (),
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
        warm_versions=warm_versions,
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
    reason: str = "",
) -> tuple[Rollout, list[Event]]:
    """The rollout after `signal`, and the events that follow.

    `trigger` is what brought the signal: it gives the time, and a report of the rollout's own joins its
    chain. `verdict` is the one behind passed, proven, held or failed; `reason` says why otherwise.

    Raises:
        Conflict: the table has no such row.
    """
    changes: dict[str, object] = {
        "phase": states.next_phase(rollout.phase, signal, rollout.model_id),
        "at": max(rollout.at, trigger.at),
        "reason": reason or (verdict.sentence if verdict else rollout.reason),
    }
    if isinstance(trigger, RolloutPerformed | RolloutObstructed):
        changes["cause"] = trigger.id
    if verdict:
        changes |= {"verdict": verdict, "errors": rollout.errors + 1 if verdict.outcome == "error" else 0}
    moved, events = _announce(rollout, _begin_step(rollout.model_copy(update=changes), signal), signal)
    if (moved.effects_key, moved.cause) == (rollout.effects_key, rollout.cause):
        # Nothing happened that has a time: the same report, made again, must be the same event.
        moved = moved.model_copy(update={"at": rollout.at})
    return moved, events


def next_signal(rollout: Rollout, otherwise: Signal) -> Signal:
    """The signal that takes the rollout forward: `otherwise`, or `proven` where no step is left."""
    return otherwise if rollout.steps[rollout.step :] else Signal.PROVEN


def resume_signal(rollout: Rollout) -> Signal:
    """The signal that ends a pause: `resumed` at the same share, or `proven` where there are no steps."""
    return Signal.PROVEN if rollout.phase is RolloutPhase.PAUSED and not rollout.steps else Signal.RESUMED


def begin_counting(rollout: Rollout, since: Millis, clock: Millis) -> Rollout:
    """The rollout whose step counts labels and requests from now on.

    Windows of labels count from `since` (time of the data), requests from `clock` (wall clock; UTC, ms). A
    step that is resumed after a pause keeps its requests, as its share did not change.
    """
    begun = len(rollout.requests) >= rollout.step
    steps = rollout.requests if begun else (*rollout.requests, StepRequests(share=rollout.share, since=clock))
    return rollout.model_copy(update={"since": since, "requests": steps})


def add_passed_verdict(rollout: Rollout, verdict: Literal["requests", "labels"]) -> Rollout:
    """The rollout with one more passed verdict at this step."""
    return rollout.model_copy(update={"passed": tuple(dict.fromkeys((*rollout.passed, verdict)))})


def remove_passed_verdict(rollout: Rollout, verdict: Literal["requests", "labels"]) -> Rollout:
    """The rollout without a passed verdict at this step: newer evidence makes it doubtful."""
    return rollout.model_copy(update={"passed": tuple(name for name in rollout.passed if name != verdict)})


def is_step_passed(rollout: Rollout) -> bool:
    """Whether every verdict that this step needs has passed."""
    needed = {"requests"} if rollout.proof == "paired" else {"requests", "labels"}
    return needed <= set(rollout.passed)


def add_labels(rollout: Rollout, window: PerformanceMeasured) -> Rollout:
    """The rollout with the window in its step's evidence; the same object where the window does not count.

    A window counts if it began after the step's traffic was shifted. Within it, each outcome belongs to the
    version that served the prediction, at whatever time.
    """
    if rollout.since is None or window.since < rollout.since:
        return rollout
    canary = window.versions.get(rollout.version, Outcome())
    stable = window.versions.get(rollout.stable or "", Outcome())
    *earlier, present = rollout.evidence
    return rollout.model_copy(update={"evidence": (*earlier, present.plus(canary, stable))})


def performed_report(rollout: Rollout, clock: Millis = 0) -> RolloutPerformed:
    """The report that the effects of its phase were performed; `clock` is the wall clock (UTC, ms)."""
    return _event(rollout, RolloutPerformed, performed_at=clock)


def obstructed_report(rollout: Rollout, error: str) -> RolloutObstructed:
    """The report that the effects of its phase cannot be performed."""
    return _event(rollout, RolloutObstructed, error=error, sentence=error)


def _begin_step(rollout: Rollout, signal: Signal) -> Rollout:
    """The rollout at the canary's next (or same) step, which counts once its share was set."""
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
            verdict = now.verdict if signal is Signal.PASSED else None
            sentence = f"{version_name(now.version)} gets {now.share} % of the traffic"
            return _append_event(now, RolloutAdvanced, verdict=verdict, sentence=sentence)
        case RolloutPhase.PAUSED:
            verdict = now.verdict if now.errors else None
            return _append_event(now, RolloutHeld, verdict=verdict, sentence=now.reason)
        case RolloutPhase.PROMOTING:
            sentence = f"{version_name(now.version)} gets all traffic"
            return _append_event(now, RolloutAdvanced, verdict=now.verdict, sentence=sentence)
        case RolloutPhase.REVERTING if before.phase is RolloutPhase.REVERTING and now.reason != before.reason:
            return now, [_rollback_alert(now)]
        case RolloutPhase.PROMOTED:
            sentence = f"{version_name(now.version)} is champion and serves everything"
            return _append_event(now, RolloutPromoted, verdict=now.verdict, sentence=sentence)
        case RolloutPhase.REVERTED:
            return _append_event(now, RolloutRolledBack, verdict=now.verdict, sentence=now.reason)
        case RolloutPhase.FAILED:
            return _append_event(now, RolloutFailed, error=now.reason, sentence=now.reason)
        case RolloutPhase.WARMING | RolloutPhase.CANARY | RolloutPhase.REVERTING:
            return now, []


def _announce_hold(before: Rollout, now: Rollout) -> tuple[Rollout, list[Event]]:
    """`RolloutHeld` when the verdict's outcome changed, then every `HELD_EVERY` windows."""
    same = before.verdict and now.verdict and before.verdict.outcome == now.verdict.outcome
    if same and before.windows_since_hold + 1 < HELD_EVERY:
        return now.model_copy(update={"windows_since_hold": before.windows_since_hold + 1}), []
    held = now.model_copy(update={"windows_since_hold": 0})
    return _append_event(held, RolloutHeld, verdict=now.verdict, sentence=now.reason)


def _rollback_alert(rollout: Rollout) -> AlertRaised:
    """The alert that a rollback fails; the agent retries it, but a person may have to remove the cause."""
    sentence = f"{rollout.model_id} cannot be rolled back: {rollout.reason}"
    return _following(rollout, AlertRaised, severity="critical", sentence=sentence)


def overdue_alert(rollout: Rollout, sentence: str) -> tuple[Rollout, list[Event]]:
    """The alert, once a step, that requests are missing longer than `rollout.step_minutes`."""
    if rollout.overdue:
        return rollout, []
    alert = _following(rollout, AlertRaised, severity="warning", sentence=f"{rollout.model_id}: {sentence}")
    return rollout.model_copy(update={"overdue": True}), [alert]


def _intention(rollout: Rollout, request: ModelRegistered | DeployRequested | ChallengerProven) -> str:
    """The sentence of `RolloutStarted`: why the rollout starts, and its steps."""
    return (
        f"{request.sentence}; {_plan(rollout)}" if isinstance(request, ChallengerProven) else _plan(rollout)
    )


def _plan(rollout: Rollout) -> str:
    if not rollout.steps:
        return f"{version_name(rollout.version)} gets all traffic in one step"
    steps = ", ".join(str(step) for step in rollout.steps)
    stable = version_name(rollout.stable or "")
    return f"{version_name(rollout.version)} replaces {stable} in steps of {steps} % of the traffic"


def _append_event(
    rollout: Rollout, kind: type[RolloutEvent], **fields: object
) -> tuple[Rollout, list[Event]]:
    """The rollout with the new event at the end of its chain, and the event."""
    event = _event(rollout, kind, **fields)
    return rollout.model_copy(update={"cause": event.id}), [event]


def _event(rollout: Rollout, kind: type[Kind], **fields: object) -> Kind:
    common = {"rollout": rollout.id, "version": rollout.version, "stable": rollout.stable}
    position = {"phase": rollout.phase, "step": rollout.step, "weight": rollout.weight}
    return _following(rollout, kind, **common, **position, **fields)


def _following(rollout: Rollout, kind: type[Kind], /, **fields: object) -> Kind:
    """An event caused by the last of the chain; the same step of the same chain gives the same id."""
    id_ = ids.derive(rollout.cause, kind.__name__, rollout.phase, rollout.step)
    envelope = {"id": id_, "at": rollout.at, "model": rollout.model, "caused_by": rollout.cause}
    return kind.model_validate({**envelope, **fields})

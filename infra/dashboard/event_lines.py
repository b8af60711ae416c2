"""One readable line for each event: a badge, a tone, a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from driftloop.schemas import events
from driftloop.schemas.events import Event

Tone = Literal["bad", "warn", "good", "info", "plain"]
ALERT_TONES: Mapping[str, Tone] = {"info": "info", "warning": "warn", "critical": "bad"}


@dataclass(frozen=True)
class Line:
    """An event as the log shows it; times in ms, UTC."""

    id: str
    at: int
    type: str
    badge: str
    tone: Tone
    text: str
    caused_by: str | None


def line(event: Event) -> Line:
    """The event's line; the name of its type, where no sentence is written for it."""
    badge, tone, text = _words(event)
    return Line(event.id, event.at, event.type, badge, tone, text, event.caused_by)


def _words(event: Event) -> tuple[str, Tone, str]:  # noqa: C901, PLR0911, PLR0912  # a row a kind of event
    match event:
        case events.ColumnsChanged():
            return "columns", "warn" if event.severity == "warning" else "plain", event.sentence
        case events.DriftMeasured() | events.DriftDetected() | events.DriftResolved():
            return _drift(event)
        case events.PerformanceMeasured() | events.PerformanceEstimated():
            return "labels", "plain", _labels(event)
        case events.TrafficMeasured():
            return "traffic", "plain", f"{sum(one.calls for one in event.versions.values())} calls"
        case events.EvidenceMeasured():
            return "evidence", "plain", event.sentence
        case events.AgreementMeasured():
            said = f"{event.agreement.disagreeing:,} of {event.agreement.rows:,} scores of v {event.version}"
            return "agreement", "plain", f"{said} differ from recomputed ones"
        case events.ChallengerProven():
            return "proof", "good", event.sentence
        case events.PoolChanged() | events.ChallengerPassedOver():
            return "pool", "plain", event.sentence
        case events.RetrainRequested() | events.RetrainRefused():
            return _retraining(event)
        case events.AlertRaised():
            return "alert", ALERT_TONES[event.severity], f"{event.severity}: {event.sentence}"
        case events.ModelRegistered():
            by_hand = "" if event.rollout == "automatic" else "; it waits for a person to deploy it"
            return "model", "info", f"v {event.version} registered{by_hand}"
        case events.DeployRequested():
            return "command", "info", f"deploy v {event.version} on {_count(event.replicas, 'replica')}"
        case events.RolloutCommanded():
            return "command", "info", f"a person asked to {event.action.value} the rollout"
        case (
            events.TrainingStarted()
            | events.TrainingCompleted()
            | events.TrainingRefused()
            | events.TrainingFailed()
        ):
            return _training(event)
        case events.RolloutEvent():
            return _rollout(event)
        case _:
            return "event", "plain", event.type


def _drift(
    event: events.DriftMeasured | events.DriftDetected | events.DriftResolved,
) -> tuple[str, Tone, str]:
    match event:
        case events.DriftMeasured():
            return (
                "window",
                "plain",
                f"{event.rows:,} rows of v {event.version} measured{_spans(event.spans)}",
            )
        case events.DriftDetected():
            return "drift", "bad", event.sentence
        case events.DriftResolved():
            how = event.sentence or _back(event.columns)
            within = f"for {event.segment}: " if event.segment else ""
            return "drift", "good", f"{within}{event.kind.value} drift is over: {how}"


def _back(columns: Sequence[str]) -> str:
    """How an episode ended: each column has an end of its own, and so have two that are a pair."""
    if len(columns) == 2:
        return f"{' and '.join(columns)} are correlated as in training again"
    return f"{', '.join(columns) or 'the error'} back to reference"


def _labels(event: events.PerformanceMeasured | events.PerformanceEstimated) -> str:
    match event:
        case events.PerformanceMeasured():
            return f"{event.rows:,} labels met their predictions{_spans(event.spans)}"
        case events.PerformanceEstimated():
            return f"{event.rows:,} predictions of v {event.version}: {event.sentence}"


def _retraining(event: events.RetrainRequested | events.RetrainRefused) -> tuple[str, Tone, str]:
    match event:
        case events.RetrainRequested():
            return "retrain", "info", f"retraining asked for on {event.rows:,} rows: {event.reason}"
        case events.RetrainRefused():
            return "retrain", "warn", f"no retraining: {event.reason}"


def _training(
    event: events.TrainingStarted | events.TrainingCompleted | events.TrainingRefused | events.TrainingFailed,
) -> tuple[str, Tone, str]:
    match event:
        case events.TrainingStarted():
            return "train", "info", "training started"
        case events.TrainingCompleted():
            done = f"v {event.version} trained on {event.rows:,} rows in {event.seconds:.1f} s"
            return "train", "good", f"{done}; {event.gate.sentence}"
        case events.TrainingRefused():
            return "gate", "warn", f"no new version: {event.reason}"
        case events.TrainingFailed():
            return "train", "bad", f"training failed: {event.error}"


def _rollout(event: events.RolloutEvent) -> tuple[str, Tone, str]:
    tone, said = _rollout_line(event)
    verdict = getattr(event, "verdict", None)
    why = verdict.sentence if isinstance(verdict, events.VerdictEvidence) else ""
    return "deploy", tone, f"{said}; {why}" if why else said


def _rollout_line(event: events.RolloutEvent) -> tuple[Tone, str]:  # noqa: PLR0911  # a row a kind of event
    name = f"v {event.version}"
    match event:
        case events.RolloutStarted():
            beside = f" beside v {event.stable}" if event.stable else ", the first version"
            return "info", f"{name} is on its way{beside}"
        case events.RolloutPerformed():
            return "plain", f"{name}: {event.phase} done"
        case events.RolloutObstructed():
            return "bad", f"{name}: {event.phase} is obstructed: {event.error}"
        case events.RolloutAdvanced():
            return "info", f"{name} gets {event.weight} % of the traffic"
        case events.RolloutHeld():
            return "warn", f"{name} is held at {event.weight} %"
        case events.RolloutPromoted():
            return "good", f"{name} is champion"
        case events.RolloutRolledBack():
            return "bad", f"{name} rolled back; all traffic is on v {event.stable or '?'}"
        case events.RolloutFailed():
            return "bad", f"{name} never got to serve: {event.error}"
        case _:
            return "plain", f"{name}: {event.type}"


def _spans(spans: Sequence[events.Span]) -> str:
    told = [f"{span.topic}/{span.partition} {span.first:,}-{span.last:,}" for span in spans[:4]]
    more = f" and {len(spans) - 4} more" if len(spans) > 4 else ""
    return f" ({', '.join(told)}{more})" if told else ""


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"

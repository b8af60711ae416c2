"""ModelMonitor: what the agents measured about a deployment, in one answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from driftloop.mlops_core.ports import EventLog
from driftloop.mlops_core.training.pipeline import parse_model_id
from driftloop.schemas import ids
from driftloop.schemas.configs import MonitoringResult
from driftloop.schemas.events import (
    AlertRaised,
    ColumnDrift,
    DeployRequested,
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    Event,
    PerformanceEstimated,
    PerformanceMeasured,
)

SCORE = "score"
"""The column that stands for the predictions."""


@dataclass(frozen=True)
class Collected:
    """The newest windows of one deployment."""

    drift: DriftMeasured | None
    performance: PerformanceMeasured | None
    concept: DriftDetected | None
    """The newest detection of concept drift, unless it is over."""
    estimated: PerformanceEstimated | None = None
    """What labels will say of the deployment's newest predictions."""
    muted: Sequence[DriftKind] = ()
    """Kinds of drift that nobody wants to be woken for."""


Kind = TypeVar("Kind", bound=Event)
KINDS = (
    DeployRequested,
    DriftMeasured,
    DriftDetected,
    DriftResolved,
    PerformanceMeasured,
    PerformanceEstimated,
)
"""Events that say how a deployment does."""


class MetricCollector:
    """Reads the newest windows from the event log."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def collect_metrics(self, deployment_id: str) -> Collected:
        """The newest windows of a deployment; reads each topic once."""
        model, version = parse_model_id(deployment_id)
        history = await self._events.history(model, KINDS)
        request = _newest(history, DeployRequested)
        return Collected(
            muted=() if request is None else request.muted,
            # Windows of an alarm hold only the columns that alarmed, those of a segment only its rows.
            drift=_newest(history, DriftMeasured, lambda it: it.version == version and not it.partial),
            performance=_newest(history, PerformanceMeasured),
            concept=_open_concept_drift(history, version),
            estimated=_newest(history, PerformanceEstimated, lambda it: it.version == version),
        )


def _open_concept_drift(history: Sequence[Event], version: str) -> DriftDetected | None:
    """The newest detection of concept drift; None where it was resolved."""
    detected = _newest(
        history, DriftDetected, lambda it: it.version == version and it.kind is DriftKind.CONCEPT
    )
    if detected is None or _newest(history, DriftResolved, lambda it: it.caused_by == detected.id):
        return None
    return detected


def _newest(
    history: Sequence[Event], kind: type[Kind], accept: Callable[[Kind], bool] = lambda _: True
) -> Kind | None:
    """The last event of a kind that is accepted."""
    of_kind = (event for event in reversed(history) if isinstance(event, kind))
    return next((event for event in of_kind if accept(event)), None)


class FeatureDriftDetector:
    """Features whose episode is open."""

    def drifted_columns(self, window: DriftMeasured) -> dict[str, ColumnDrift]:
        """By name, worst first."""
        found = {n: c for n, c in window.columns.items() if c.kind == "feature" and n != SCORE}
        open_ = {name: column for name, column in found.items() if column.drifted}
        return dict(sorted(open_.items(), key=lambda item: -item[1].severity))


class PredictionDriftDetector:
    """What is predicted, when an episode is open: the scores, else their confidence or class."""

    def drifted_column(self, window: DriftMeasured) -> ColumnDrift | None:
        """The score column if it drifted, else what is derived from it."""
        own = [one for name, one in window.columns.items() if name == SCORE or one.kind == "prediction"]
        return next((one for one in own if one.drifted), None)


class ConceptDriftDetector:
    """What labels say."""

    def is_drifting(self, newest: DriftDetected | None) -> bool:
        """Whether the newest detection was one of concept drift."""
        return newest is not None and newest.kind == "concept"


class DriftDetector:
    """Feature, prediction and concept drift, as the agents found them."""

    def __init__(self) -> None:
        self.feature_drift = FeatureDriftDetector()
        self.prediction_drift = PredictionDriftDetector()
        self.concept_drift = ConceptDriftDetector()

    async def detect_drift(self, metrics: Collected) -> DriftMeasured | None:
        """The newest window, if anything in it drifted that isn't muted."""
        window = metrics.drift
        if window is None:
            return None
        found = {
            DriftKind.FEATURE: bool(self.feature_drift.drifted_columns(window)),
            DriftKind.PREDICTION: self.prediction_drift.drifted_column(window) is not None,
            DriftKind.CONCEPT: self.concept_drift.is_drifting(metrics.concept),
        }
        return window if any(found[kind] for kind in found if kind not in metrics.muted) else None


class PerformanceAnalyzer:
    """Prequential figures of the newest window of labels, and what is expected of the newest predictions."""

    async def analyze(self, metrics: Collected) -> dict[str, float]:
        """Loss, log loss and error rate over all versions that answered, and estimates of this one."""
        return {**self._realised_metrics(metrics.performance), **self._estimates(metrics.estimated)}

    def _estimates(self, window: PerformanceEstimated | None) -> dict[str, float]:
        if window is None:
            return {}
        known = {
            "estimated_loss": window.loss,
            "estimated_error_rate": window.error_rate,
            "estimated_absolute_error": window.absolute_error,
        }
        figures = {name: one.value for name, one in known.items() if one is not None}
        return {**figures, "estimate_trusted": float(window.trusted)}

    def _realised_metrics(self, window: PerformanceMeasured | None) -> dict[str, float]:
        if window is None or not window.rows:
            return {}
        total = list(window.versions.values())
        rows = sum(one.rows for one in total)
        return {
            "loss": sum(one.loss for one in total) / rows,
            "log_loss": sum(one.log_loss for one in total) / rows,
            "error_rate": sum(one.errors for one in total) / rows,
            "labelled": float(window.labelled),
        }


class AlertManager:
    """Puts what a person should know on the alerts topic."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def send_alerts(self, deployment_id: str, drift: DriftMeasured) -> None:
        """One alert a window; the same window again is the same alert."""
        drifted = [name for name, column in drift.columns.items() if column.drifted]
        what = ", ".join(drifted[:5]) or "how scores relate to the truth"
        sentence = f"{deployment_id}: {what} drifted"
        id_ = ids.derive(drift.id, "monitor")
        await self._events.publish(
            AlertRaised.following(drift, id=id_, severity="warning", sentence=sentence)
        )


class ModelMonitor:
    """Collect, detect, analyse, tell."""

    def __init__(
        self,
        metric_collector: MetricCollector,
        drift_detector: DriftDetector,
        performance_analyzer: PerformanceAnalyzer,
        alert_manager: AlertManager,
    ) -> None:
        self.metric_collector = metric_collector
        self.drift_detector = drift_detector
        self.performance_analyzer = performance_analyzer
        self.alert_manager = alert_manager

    async def monitor_model(self, deployment_id: str) -> MonitoringResult:
        """The newest windows of `name:version`; an alert is raised where something drifted."""
        collected = await self.metric_collector.collect_metrics(deployment_id)
        drifted = await self.drift_detector.detect_drift(collected)
        figures = await self.performance_analyzer.analyze(collected)
        if drifted is not None:
            await self.alert_manager.send_alerts(deployment_id, drifted)
        return MonitoringResult(
            metrics=figures,
            drift=collected.drift,
            performance=collected.performance,
            estimated=collected.estimated,
        )

"""ModelMonitor: the agents' newest measurements of a deployment, in one result."""

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
"""Name of the column of the predictions' scores."""


@dataclass(frozen=True)
class Collected:
    """The newest windows of one deployment."""

    drift: DriftMeasured | None
    performance: PerformanceMeasured | None
    concept: DriftDetected | None
    """The newest detection of concept drift; None where it was resolved."""
    estimated: PerformanceEstimated | None = None
    """Estimated performance on the deployment's newest predictions."""
    muted: Sequence[DriftKind] = ()
    """Kinds of drift that raise no alert."""


Kind = TypeVar("Kind", bound=Event)
KINDS = (
    DeployRequested,
    DriftMeasured,
    DriftDetected,
    DriftResolved,
    PerformanceMeasured,
    PerformanceEstimated,
)
"""Events from which the result is collected."""


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
    """Finds features with an open episode."""

    def drifted_columns(self, window: DriftMeasured) -> dict[str, ColumnDrift]:
        """By name, worst first."""
        found = {n: c for n, c in window.columns.items() if c.kind == "feature" and n != SCORE}
        open_ = {name: column for name, column in found.items() if column.drifted}
        return dict(sorted(open_.items(), key=lambda item: -item[1].severity))


class PredictionDriftDetector:
    """Finds an open episode of the scores, else of their confidence or class."""

    def drifted_column(self, window: DriftMeasured) -> ColumnDrift | None:
        """The score column if it drifted, else what is derived from it."""
        columns = [
            column
            for name, column in window.columns.items()
            if name == SCORE or column.kind == DriftKind.PREDICTION
        ]
        return next((column for column in columns if column.drifted), None)


class ConceptDriftDetector:
    """Finds concept drift, which labels show."""

    def is_drifting(self, newest: DriftDetected | None) -> bool:
        """Whether the newest detection was one of concept drift."""
        return newest is not None and newest.kind == "concept"


class DriftDetector:
    """Feature, prediction and concept drift, as the agents detected them."""

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
    """Prequential metrics of the newest window of labels, and estimates of the newest predictions."""

    async def analyze(self, metrics: Collected) -> dict[str, float]:
        """Loss, log loss and error rate over all versions, and estimates of this version."""
        return {**self._realised_metrics(metrics.performance), **self._estimates(metrics.estimated)}

    def _estimates(self, window: PerformanceEstimated | None) -> dict[str, float]:
        if window is None:
            return {}
        known = {
            "estimated_loss": window.loss,
            "estimated_error_rate": window.error_rate,
            "estimated_absolute_error": window.absolute_error,
        }
        figures = {name: estimate.value for name, estimate in known.items() if estimate is not None}
        return {**figures, "estimate_trusted": float(window.trusted)}

    def _realised_metrics(self, window: PerformanceMeasured | None) -> dict[str, float]:
        if window is None or not window.rows:
            return {}
        outcomes = list(window.versions.values())
        rows = sum(outcome.rows for outcome in outcomes)
        return {
            "loss": sum(outcome.loss for outcome in outcomes) / rows,
            "log_loss": sum(outcome.log_loss for outcome in outcomes) / rows,
            "error_rate": sum(outcome.errors for outcome in outcomes) / rows,
            "labelled": float(window.labelled),
        }


class AlertManager:
    """Publishes alerts."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def send_alerts(self, deployment_id: str, drift: DriftMeasured) -> None:
        """Publish one alert for the window; the same window again gives the same alert (by id)."""
        drifted = [name for name, column in drift.columns.items() if column.drifted]
        more = f" and {len(drifted) - 5} more columns" if len(drifted) > 5 else ""
        columns = ", ".join(drifted[:5]) or "the relation of scores to labels (concept)"
        sentence = f"{deployment_id}: {columns}{more} drifted"
        id_ = ids.derive(drift.id, "monitor")
        await self._events.publish(
            AlertRaised.following(drift, id=id_, severity="warning", sentence=sentence)
        )


class ModelMonitor:
    """Collects measurements, detects drift, analyses performance, and raises an alert."""

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
        """The newest measurements of `name:version`; raises an alert where anything drifted."""
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

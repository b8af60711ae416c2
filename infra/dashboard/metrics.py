"""The board as Prometheus sees it: read at each scrape, nothing kept twice."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from infra.dashboard.state import Board


def registry(read: Callable[[Callable[[Board], list[Metric]]], list[Metric]]) -> CollectorRegistry:
    """A registry over the board; `read` calls its argument with the board while nobody changes it."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_OfBoard(read))
    return made


class _OfBoard(Collector):
    def __init__(self, read: Callable[[Callable[[Board], list[Metric]]], list[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read(families)


def families(board: Board) -> list[Metric]:
    """All metric families of the board."""
    severity = GaugeMetricFamily(
        "driftloop_drift_severity",
        "Distance of a column from its reference in the newest window, in reference standard deviations",
        labels=["model", "column"],
    )
    error = GaugeMetricFamily(
        "driftloop_error_rate",
        "Share of wrong classes in a version's newest window",
        labels=["model", "version"],
    )
    loss = GaugeMetricFamily(
        "driftloop_loss",
        "Mean squared error of the score in a version's newest window",
        labels=["model", "version"],
    )
    estimated = GaugeMetricFamily(
        "driftloop_estimated_loss",
        "Mean squared error of the score to expect of a version's newest predictions, before their labels",
        labels=["model", "version"],
    )
    trusted = GaugeMetricFamily(
        "driftloop_estimate_trusted",
        "1 where labels bear the estimate of a version's performance out, 0 where they contradict it",
        labels=["model", "version"],
    )
    weight = GaugeMetricFamily(
        "driftloop_rollout_weight",
        "A version's share of the traffic, in percent",
        labels=["model", "version"],
    )
    retrainings = CounterMetricFamily(
        "driftloop_retrainings", "Retrainings by what became of them", labels=["model", "outcome"]
    )
    labelled = CounterMetricFamily("driftloop_labelled", "Labels that met their prediction", labels=["model"])
    letters = CounterMetricFamily("driftloop_dead_letters", "What could not be handled", labels=["reason"])
    for name, model in board.models.items():
        for column, current in model.current.items():
            severity.add_metric([name, column], current.severity)
        for version, measured in model.last_measured.items():
            error.add_metric([name, version], measured.error)
            loss.add_metric([name, version], measured.loss)
        for version, one in model.estimated.items():
            trusted.add_metric([name, version], float(one.trusted))
            if one.loss is not None:
                estimated.add_metric([name, version], one.loss.value)
        for version, share in model.story.rollouts.weights.items():
            weight.add_metric([name, version], share)
        for outcome, count in model.story.retrainings.items():
            retrainings.add_metric([name, outcome], count)
        labelled.add_metric([name], model.labelled)
    for reason, count in board.letters.items():
        letters.add_metric([reason], count)
    return [severity, error, loss, estimated, trusted, weight, retrainings, labelled, letters]

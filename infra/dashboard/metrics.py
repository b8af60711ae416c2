"""The board as Prometheus sees it: read at each scrape, nothing kept twice."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from driftloop.infra.dashboard.board import Board


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


Sample = tuple[Sequence[str], float]
"""The values of a family's labels, and the figure."""


@dataclass(frozen=True)
class Family:
    """A metric family, and where its samples come from."""

    name: str
    says: str
    labels: Sequence[str]
    samples: Callable[[Board], Iterable[Sample]]
    counts: bool = False
    """A counter; else a gauge."""

    def read(self, board: Board) -> Metric:
        """The family as it is now."""
        made = CounterMetricFamily if self.counts else GaugeMetricFamily
        family = made(self.name, self.says, labels=self.labels)
        for labels, value in self.samples(board):
            family.add_metric(labels, value)
        return family


def families(board: Board) -> list[Metric]:
    """All metric families of the board."""
    return [one.read(board) for one in FAMILIES]


def _severities(board: Board) -> Iterator[Sample]:
    for name, model in board.models.items():
        for column, current in model.current.items():
            yield (name, column), current.severity


def _open_drift(board: Board) -> Iterator[Sample]:
    for name, model in board.models.items():
        segments = {one.detected.segment for one in model.drifting} - {""}
        columns = [one for one in model.current.values() if one.drifted]
        pairs, off = model.pairs, sum(len(one.columns) + one.more for one in model.deviations)
        found = {"column": len(columns), "pair": len(pairs.rows) + pairs.more, "segment": len(segments)}
        concept = any(one.detected.kind == "concept" for one in model.drifting)
        for of, number in {**found, "concept": int(concept), "deviating column": off}.items():
            yield (name, of), number


def _error_rates(board: Board) -> Iterator[Sample]:
    for name, model in board.models.items():
        for version, measured in model.labels.last.items():
            yield (name, version), measured.error


def _losses(board: Board) -> Iterator[Sample]:
    for name, model in board.models.items():
        for version, measured in model.labels.last.items():
            yield (name, version), measured.loss


def _estimated_losses(board: Board) -> Iterator[Sample]:
    for name, model in board.models.items():
        for version, one in model.labels.estimated.items():
            if one.loss is not None:
                yield (name, version), one.loss.value


def _trust(board: Board) -> Iterator[Sample]:
    for name, model in board.models.items():
        for version, one in model.labels.estimated.items():
            yield (name, version), float(one.trusted)


def _weights(board: Board) -> Iterator[Sample]:
    for name, model in board.models.items():
        for version, share in model.story.rollouts.weights.items():
            yield (name, version), share


def _retrainings(board: Board) -> Iterator[Sample]:
    for name, model in board.models.items():
        for outcome, count in model.story.retrainings.items():
            yield (name, outcome), count


def _label_metrics(board: Board) -> Iterator[Sample]:
    for name, model in board.models.items():
        yield (name,), model.labels.labelled


def _letters(board: Board) -> Iterator[Sample]:
    for reason, count in board.letters.items():
        yield (reason,), count


_OF_COLUMN, _OF_VERSION = ("model", "column"), ("model", "version")
FAMILIES = (
    Family(
        "driftloop_drift_severity",
        "Distance of a column from its reference in the newest window, in reference standard deviations",
        _OF_COLUMN,
        _severities,
    ),
    Family(
        "driftloop_drift_open",
        "What drifts now, or is not as in training: how many columns, pairs of features, segments",
        ("model", "of"),
        _open_drift,
    ),
    Family(
        "driftloop_error_rate",
        "Share of wrong classes in a version's newest window",
        _OF_VERSION,
        _error_rates,
    ),
    Family(
        "driftloop_loss", "Mean squared error of the score in a version's newest window", _OF_VERSION, _losses
    ),
    Family(
        "driftloop_estimated_loss",
        "Mean squared error of the score to expect of a version's newest predictions, before their labels",
        _OF_VERSION,
        _estimated_losses,
    ),
    Family(
        "driftloop_estimate_trusted",
        "1 where labels bear the estimate of a version's performance out, 0 where they contradict it",
        _OF_VERSION,
        _trust,
    ),
    Family("driftloop_rollout_weight", "A version's share of the traffic, in percent", _OF_VERSION, _weights),
    Family(
        "driftloop_retrainings",
        "Retrainings by what became of them",
        ("model", "outcome"),
        _retrainings,
        counts=True,
    ),
    Family("driftloop_labelled", "Labels that met their prediction", ("model",), _label_metrics, counts=True),
    Family("driftloop_dead_letters", "What could not be handled", ("reason",), _letters, counts=True),
)

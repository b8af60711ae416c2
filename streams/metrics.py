"""What agents and publishers count and measure, for Prometheus; `start_server` serves it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar

import numpy as np
from prometheus_client import REGISTRY, Counter, Gauge, start_http_server
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from driftloop.mlops_core.data.features import Floats


class ColumnHistogram(Collector):
    """Counts values of several models up to each of some bounds.

    >>> delays = ColumnHistogram("delay", "Seconds from a prediction to its label", bounds=(1, 60))
    >>> delays.observe("fraud", np.array([0.5, 1.0, 7.0, 99.0]))
    >>> [family] = delays.collect()
    >>> [(sample.labels.get("le", sample.name), sample.value) for sample in family.samples]
    [('1.0', 2.0), ('60.0', 3.0), ('+Inf', 4.0), ('delay_count', 4.0), ('delay_sum', 107.5)]
    """

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = np.array([*bounds, np.inf])
        self._counts: dict[str, Floats] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()

    def observe(self, model: str, values: Floats) -> None:
        """Count values of shape (n,); one that is on a bound belongs to it."""
        places = np.searchsorted(self._bounds, values, side="left")
        counts = np.bincount(places, minlength=len(self._bounds)).astype(np.float64)
        with self._lock:
            self._counts[model] = self._counts.get(model, 0.0) + counts
            self._sums[model] = self._sums.get(model, 0.0) + float(values.sum())

    def remove(self, model: str) -> None:
        """Remove the model's series."""
        with self._lock:
            self._counts.pop(model, None)
            self._sums.pop(model, None)

    def collect(self) -> Iterator[Metric]:
        """The histogram for Prometheus, whose buckets are cumulative."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=["model"])
        with self._lock:
            found = [(model, np.cumsum(counts), self._sums[model]) for model, counts in self._counts.items()]
        for model, counts, total in found:
            buckets = zip(map(floatToGoString, self._bounds), counts.tolist(), strict=True)
            family.add_metric([model], list(buckets), total)
        yield family


_APPLIED = Counter("driftloop_records_applied", "Records applied to an agent's state", ["agent", "topic"])
_PERFORMING = Gauge("driftloop_effects_performing", "Effects that an agent is carrying out", ["agent"])
_RETRIED = Counter("driftloop_retries", "Attempts that failed and were tried again", ["agent"])
_DEAD_LETTERS = Counter(
    "driftloop_dead_letters",
    "Records and rows that an agent made dead letters of; what two agents read, each of them counts",
    ["agent", "reason"],
)
_MISPLACED = Counter(
    "driftloop_records_misplaced",
    "Records that a client put into another partition than that of their ids, and that were sent there",
    ["topic"],
)
_DELIVERED = Counter("driftloop_published", "Messages that the broker acknowledged")
_FAILED = Counter("driftloop_publish_failed", "Messages that the broker never acknowledged")
_WAITING = Gauge("driftloop_publish_waiting", "Rows and messages accepted and not acknowledged yet")
_SPOOLED = Gauge("driftloop_publish_spooled", "Messages on the disk that are not acknowledged yet")
_LAG_RECORDS = Gauge(
    "driftloop_consumer_lag_records", "Records not done, at least", ["agent", "topic", "partition"]
)
_LAG_SECONDS = Gauge(
    "driftloop_consumer_lag_seconds", "Age of the oldest record not done", ["agent", "topic", "partition"]
)
_JOINED = Counter(
    "driftloop_label_join_rows",
    "Rows in the label join: predictions came, labels came, joined, unlabelled or orphans gave up waiting",
    ["model", "what"],
)
_COVERAGE = Gauge(
    "driftloop_label_coverage_ratio",
    "Share of this process's predictions that have got their label; those that still wait count as without",
    ["model"],
)
_FORGOTTEN = Counter(
    "driftloop_models_evicted",
    "Models that nobody registered, evicted because clients named too many others",
    ["agent"],
)
_DELAY = ColumnHistogram(
    "driftloop_label_delay_seconds",
    "From a prediction to its label, in the time of the data",
    bounds=(1, 10, 60, 600, 3600, 6 * 3600, 86_400, 2 * 86_400, 7 * 86_400, 14 * 86_400, 30 * 86_400),
)
REGISTRY.register(_DELAY)
_JOIN = ("predictions", "labels", "joined", "unlabelled", "orphans")
_replaying: ContextVar[bool] = ContextVar("again", default=False)
_seen: dict[str, dict[str, int]] = {}
"""By model: rows of the label join since this process began."""


def count_applied(agent: str, topic: str, records: int) -> None:
    """Records became part of an agent's state."""
    _APPLIED.labels(agent, topic).inc(records)


def change_performing(agent: str, change: int) -> None:
    """An effect began (+1), or it ended and Kafka has acknowledged what followed from it (-1)."""
    _PERFORMING.labels(agent).inc(change)


def count_misplaced(topic: str, records: int) -> None:
    """Count records that were sent to the partition of their ids."""
    _MISPLACED.labels(topic).inc(records)


def count_retry(agent: str) -> None:
    """Something failed and is tried again."""
    _RETRIED.labels(agent).inc()


def count_dead_letter(agent: str, reason: str) -> None:
    """An agent made a dead letter of a record or row."""
    _DEAD_LETTERS.labels(agent, reason).inc()


@contextmanager
def replaying() -> Iterator[None]:
    """In this block nothing is counted: a replay handles records that were counted before."""
    token = _replaying.set(True)
    try:
        yield
    finally:
        _replaying.reset(token)


class PublisherCounters:
    """What one publisher has counted, of which the process's metrics are the sum."""

    def __init__(self) -> None:
        self._delivered = self._failed = self._waiting = self._spooled = 0

    def update(self, delivered: int, failed: int, waiting: int, spooled: int) -> None:
        """Its figures as they are now."""
        _DELIVERED.inc(delivered - self._delivered)
        _FAILED.inc(failed - self._failed)
        _WAITING.inc(waiting - self._waiting)
        _SPOOLED.inc(spooled - self._spooled)
        self._delivered, self._failed, self._waiting, self._spooled = delivered, failed, waiting, spooled


def set_lag(agent: str, topic: str, partition: int, records: int, seconds: float) -> None:
    """How far an agent is behind in a partition that this process reads."""
    _LAG_RECORDS.labels(agent, topic, partition).set(records)
    _LAG_SECONDS.labels(agent, topic, partition).set(seconds)


def remove_lag(agent: str, topic: str, partition: int) -> None:
    """Remove the lag of a partition that went to another process."""
    for gauge in (_LAG_RECORDS, _LAG_SECONDS):
        gauge.remove(agent, topic, partition)


def count_label_join(model: str, rows: Mapping[str, int]) -> None:
    """Count rows of the label join since the last call; the keys are those of `LabelJoin.counts`."""
    if _replaying.get():
        return
    seen = _seen.setdefault(model, {})
    for what in _JOIN:
        seen[what] = seen.get(what, 0) + rows[what]
        _JOINED.labels(model, what).inc(rows[what])
    if seen["predictions"]:
        _COVERAGE.labels(model).set(min(1.0, seen["joined"] / seen["predictions"]))


def observe_label_delays(model: str, seconds: Floats) -> None:
    """How long after their predictions labels came, shape (rows,)."""
    if not _replaying.get() and len(seconds):
        _DELAY.observe(model, seconds)


def count_evicted_model(agent: str, model: str) -> None:
    """An agent evicted an unregistered model; the model's series are removed."""
    if not _replaying.get():
        _FORGOTTEN.labels(agent).inc()
    if _seen.pop(model, None) is not None:
        for what in _JOIN:
            _JOINED.remove(model, what)
        with suppress(KeyError):  # no prediction of it came, or prometheus_client is older than 0.22
            _COVERAGE.remove(model)
        _DELAY.remove(model)


def start_server(host: str, port: int) -> int:
    """Answer `GET /metrics` from a thread of its own; returns the port, a free one for 0."""
    server, _ = start_http_server(port, host)
    return int(server.server_port)

"""What the processes of agents count and measure, for Prometheus; `serve` is where it is read."""

from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram, start_http_server

_APPLIED = Counter("driftloop_records_applied", "Records applied to an agent's state", ["agent", "topic"])
_RETRIED = Counter("driftloop_retries", "Attempts that failed and were tried again", ["agent"])
_PARKED = Counter("driftloop_parked", "Records and rows that became dead letters", ["reason"])
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
_DELAY = Histogram(
    "driftloop_label_delay_seconds",
    "From a prediction to its label, in the time of the data",
    ["model"],
    buckets=(1, 10, 60, 600, 3600, 6 * 3600, 86_400, 2 * 86_400, 7 * 86_400, 14 * 86_400, 30 * 86_400),
)
_seen: dict[str, dict[str, int]] = {}
"""By model: rows of the label join since this process began."""


def applied(agent: str, topic: str, records: int) -> None:
    """Records became part of an agent's state."""
    _APPLIED.labels(agent, topic).inc(records)


def retried(agent: str) -> None:
    """Something failed and is tried again."""
    _RETRIED.labels(agent).inc()


def parked(reason: str) -> None:
    """A record or row became a dead letter."""
    _PARKED.labels(reason).inc()


def behind(agent: str, topic: str, partition: int, records: int, seconds: float) -> None:
    """How far an agent is behind in a partition that this process reads."""
    _LAG_RECORDS.labels(agent, topic, partition).set(records)
    _LAG_SECONDS.labels(agent, topic, partition).set(seconds)


def not_read(agent: str, topic: str, partition: int) -> None:
    """The partition is another process's now, and so are its figures."""
    for gauge in (_LAG_RECORDS, _LAG_SECONDS):
        gauge.remove(agent, topic, partition)


def label_join(model: str, rows: Mapping[str, int]) -> None:
    """What became of so many rows since the last call; the keys are those of `LabelJoin.counts`."""
    seen = _seen.setdefault(model, {})
    for what in ("predictions", "labels", "joined", "unlabelled", "orphans"):
        seen[what] = seen.get(what, 0) + rows[what]
        _JOINED.labels(model, what).inc(rows[what])
    if seen["predictions"]:
        _COVERAGE.labels(model).set(min(1.0, seen["joined"] / seen["predictions"]))


def label_delays(model: str, seconds: Iterable[float]) -> None:
    """How long after their predictions labels came."""
    histogram = _DELAY.labels(model)
    for one in seconds:
        histogram.observe(one)


def serve(host: str, port: int) -> int:
    """Answer `GET /metrics` from a thread of its own; returns the port, a free one for 0."""
    server, _ = start_http_server(port, host)
    return int(server.server_port)

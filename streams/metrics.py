"""What the consuming loop counts, for Prometheus."""

from prometheus_client import Counter

_APPLIED = Counter("driftloop_records_applied", "Records applied to an agent's state", ["agent", "topic"])
_RETRIED = Counter("driftloop_retries", "Attempts that failed and were tried again", ["agent"])
_PARKED = Counter("driftloop_parked", "Records and rows that became dead letters", ["reason"])


def applied(agent: str, topic: str, records: int) -> None:
    """Records became part of an agent's state."""
    _APPLIED.labels(agent, topic).inc(records)


def retried(agent: str) -> None:
    """Something failed and is tried again."""
    _RETRIED.labels(agent).inc()


def parked(reason: str) -> None:
    """A record or row became a dead letter."""
    _PARKED.labels(reason).inc()

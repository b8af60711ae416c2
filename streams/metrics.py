"""What the consuming loop and the publishers count, for Prometheus."""

from prometheus_client import Counter, Gauge

_APPLIED = Counter("driftloop_records_applied", "Records applied to an agent's state", ["agent", "topic"])
_RETRIED = Counter("driftloop_retries", "Attempts that failed and were tried again", ["agent"])
_PARKED = Counter("driftloop_parked", "Records and rows that became dead letters", ["reason"])
_DELIVERED = Counter("driftloop_published", "Messages that the broker acknowledged")
_FAILED = Counter("driftloop_publish_given_up", "Messages that the broker never acknowledged")
_WAITING = Gauge("driftloop_publish_waiting", "Rows and messages accepted and not acknowledged yet")
_SPOOLED = Gauge("driftloop_publish_spooled", "Messages on the disk that are not acknowledged yet")


def applied(agent: str, topic: str, records: int) -> None:
    """Records became part of an agent's state."""
    _APPLIED.labels(agent, topic).inc(records)


def retried(agent: str) -> None:
    """Something failed and is tried again."""
    _RETRIED.labels(agent).inc()


def parked(reason: str) -> None:
    """A record or row became a dead letter."""
    _PARKED.labels(reason).inc()


class Published:
    """What one publisher has counted, of which the process's metrics are the sum."""

    def __init__(self) -> None:
        self._delivered = self._failed = self._waiting = self._spooled = 0

    def now(self, delivered: int, failed: int, waiting: int, spooled: int) -> None:
        """Its figures as they are now."""
        _DELIVERED.inc(delivered - self._delivered)
        _FAILED.inc(failed - self._failed)
        _WAITING.inc(waiting - self._waiting)
        _SPOOLED.inc(spooled - self._spooled)
        self._delivered, self._failed, self._waiting, self._spooled = delivered, failed, waiting, spooled

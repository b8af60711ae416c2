"""Requests to the replicas, as the serving hosts count them: of each version, since a share was set and now.

Spans are those of the wall clock. The newest are kept one by one, older ones add up to minutes: a step of a
rollout that is shorter than some minutes is counted exactly, and of a longer one the first minute is missing.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from driftloop.infra.dashboard.ring_buffer import bound
from driftloop.schemas import events
from driftloop.schemas.events import Traffic

SPANS, MINUTES = 300, 1440
MINUTE_MS = 60_000
TIMED = 20
"""Calls below which a p95 is not shown."""

Counts = Mapping[str, Traffic]


@dataclass(frozen=True)
class Requests:
    """One version's requests over some spans."""

    predictions: int
    calls: int
    failed: float | None
    """Share of the calls without an answer; None without calls."""
    timeouts: int
    p95: float | None
    """Milliseconds; None where too few calls were timed."""

    @classmethod
    def of(cls, traffic: Traffic) -> "Requests":
        """The figures of counts."""
        return cls(
            traffic.predictions,
            traffic.calls,
            round(traffic.failures / traffic.calls, 5) if traffic.calls else None,
            traffic.timeouts,
            round(traffic.quantile(0.95), 2) if traffic.timed_calls >= TIMED else None,
        )


@dataclass(frozen=True)
class Served:
    """What each version answered in the newest minute that was counted."""

    until: int
    """Wall clock (UTC, ms)."""
    seconds: float
    versions: Mapping[str, Requests]


class RequestCounts:
    """Takes in counts of requests, in the order of their topic."""

    def __init__(self) -> None:
        self._newest: deque[events.TrafficMeasured] = deque()
        self._minutes: dict[int, Counts] = {}
        """Start of a minute -> what was counted in spans that began in it."""

    def on_traffic(self, event: events.TrafficMeasured) -> None:
        """A span of a host."""
        self._newest.append(event)
        if len(self._newest) > SPANS:
            old = self._newest.popleft()
            minute = old.since - old.since % MINUTE_MS
            self._minutes[minute] = _sum([self._minutes.get(minute, {}), old.versions])
            bound(self._minutes, MINUTES)

    def between(self, since: int, until: int | None) -> Mapping[str, Requests]:
        """Requests per version in spans that began from `since` on and ended by `until` (None: all)."""
        spans = [(minute, minute + MINUTE_MS, counts) for minute, counts in self._minutes.items()]
        spans += [(one.since, one.until, one.versions) for one in self._newest]
        last = until if until is not None else max((end for _, end, _ in spans), default=0)
        within = _sum(counts for begin, end, counts in spans if begin >= since and end <= last)
        return {version: Requests.of(traffic) for version, traffic in within.items()}

    @property
    def now(self) -> Served | None:
        """The newest minute; None before anything was counted."""
        if not self._newest:
            return None
        until = max(one.until for one in self._newest)
        spans = [one for one in self._newest if one.until > until - MINUTE_MS]
        lasted = (until - min(one.since for one in spans)) / 1000
        counts = _sum(one.versions for one in spans)
        served = {version: Requests.of(traffic) for version, traffic in sorted(counts.items())}
        return Served(until, round(max(lasted, 0.001), 3), served)


def _sum(counts: Iterable[Counts]) -> dict[str, Traffic]:
    total: dict[str, Traffic] = {}
    for versions in counts:
        for version, traffic in versions.items():
            total[version] = total.get(version, Traffic()) + traffic
    return total

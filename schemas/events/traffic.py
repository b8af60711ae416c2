"""Requests to replicas per version over a span of the wall clock, as the serving host counts them."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, zip_longest
from typing import ClassVar, Literal

from driftloop.schemas import topics
from driftloop.schemas.events.envelope import Event, Part
from driftloop.schemas.records import Millis

OCTAVE = 4
"""Latency buckets in each doubling."""
LATENCY_BOUNDS: Sequence[float] = tuple(round(math.exp2(step / OCTAVE), 4) for step in range(-8, 57))
"""Upper bounds of the latency buckets in ms, four to an octave: 0.25 ms to 16.4 s. They are part of version 1
of the event: counts of other bounds don't add up."""


class Traffic(Part):
    """Requests to the replicas of one version: counts, so that spans and hosts add up.

    A call is one HTTP request from the router to a replica; it may carry many predictions. A call has an
    answer, is an error, or is a timeout. An answer that refuses the rows (4xx) is an answer.
    """

    predictions: int = 0
    """Rows that were scored."""
    calls: int = 0
    errors: int = 0
    """Calls that got 5xx or no answer (connection refused or broken), and requests that found no replica
    of this version ready, so that another version had to answer."""
    timeouts: int = 0
    """Calls without an answer within the router's time limit."""
    latency: Sequence[int] = ()
    """Answers and timeouts per bucket of `LATENCY_BOUNDS`; the last bucket is above all bounds. Empty buckets
    at the end are left out."""

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            predictions=self.predictions + other.predictions,
            calls=self.calls + other.calls,
            errors=self.errors + other.errors,
            timeouts=self.timeouts + other.timeouts,
            latency=[a + b for a, b in zip_longest(self.latency, other.latency, fillvalue=0)],
        )

    @property
    def failures(self) -> int:
        """Calls without an answer: errors and timeouts."""
        return self.errors + self.timeouts

    @property
    def timed_calls(self) -> int:
        """Calls whose latency is known."""
        return sum(self.latency)

    def slower(self, bucket: int) -> int:
        """Calls above the bucket with this number.

        >>> Traffic(latency=[5, 3, 1]).slower(0)
        4
        """
        return sum(self.latency[bucket + 1 :])

    def bucket(self, quantile: float) -> int:
        """Number of the bucket in which the quantile lies; at most `1 - quantile` of the calls are above it.

        >>> Traffic(latency=[90, 5, 4, 1]).bucket(0.95)
        1
        """
        return bisect_left(list(accumulate(self.latency)), quantile * self.timed_calls)

    def quantile(self, quantile: float) -> float:
        """The latency in ms that this share of the calls doesn't exceed; 0 without calls.

        Within a bucket it is interpolated on the logarithm, so it is off by a few percent at most.

        >>> round(Traffic(latency=[0] * 16 + [100]).quantile(0.5), 2)
        3.67
        """
        if not self.timed_calls:
            return 0.0
        bucket = min(self.bucket(quantile), len(LATENCY_BOUNDS) - 1)
        below, within = sum(self.latency[:bucket]), self.latency[bucket]
        part = (quantile * self.timed_calls - below) / within if within else 1.0
        return LATENCY_BOUNDS[bucket] * math.exp2((min(max(part, 0.0), 1.0) - 1) / OCTAVE)


class TrafficMeasured(Event):
    """Calls, errors and latencies of each version of a model on one serving host.

    The only event whose times are those of the machine: `at` is `until`. A host publishes one about every
    second while several versions share the traffic, and less often otherwise; spans of a host don't overlap.
    """

    kafka_topic: ClassVar = topics.METRICS
    type: Literal["TrafficMeasured"] = "TrafficMeasured"
    since: Millis
    """Wall clock (UTC, ms)."""
    until: Millis
    versions: Mapping[str, Traffic]


def latency_bucket(milliseconds: float) -> int:
    """Number of the bucket of a latency.

    >>> latency_bucket(1.0), latency_bucket(1.1), latency_bucket(1e9)
    (8, 9, 65)
    """
    return bisect_left(LATENCY_BOUNDS, milliseconds)

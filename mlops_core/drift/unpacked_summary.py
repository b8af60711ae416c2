"""A drift summary with its packed arrays as numpy arrays."""

import hashlib
from dataclasses import dataclass
from typing import Self

from driftloop.mlops_core.drift.microbatches import Counts, Groups, Times
from driftloop.schemas import ids
from driftloop.schemas.summaries import DriftSummary


@dataclass(frozen=True)
class UnpackedSummary:
    """A summary and its micro-batches as arrays."""

    summary: DriftSummary
    counts: Counts
    times: Times
    groups: Groups

    @classmethod
    def of(cls, summary: DriftSummary) -> Self:
        """Unpack. Raises ValueError if sizes and arrays disagree."""
        counts, times = summary.unpack()
        return cls(summary, counts, times, Groups(*summary.groups()))

    @property
    def first_batch_id(self) -> str:
        """Id of its first micro-batch: topic, partition, counts and times; the same however rows are cut."""
        span = self.summary.span
        digest = hashlib.sha256(self.counts[0].tobytes() + self.times[0].tobytes()).hexdigest()
        return ids.derive(span.topic, span.partition, digest)

    @property
    def until(self) -> int:
        """The newest row's time (UTC, ms)."""
        return int(self.times[:, 1].max())

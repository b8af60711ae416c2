"""Stage one: from binned rows to counts of 32 rows, small enough to send and mergeable over partitions.

How columns move together is summed over 256 rows, eight micro-batches of one partition.

The mean of 32 rows carries the autocorrelation of its rows into the detector's own variance (the method
of batch means), which is why a detector fed with it does not alarm on a stream that merely drifts about.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.correlations import GROUP, Pairs, Sums
from driftloop.mlops_core.data.profile import BINS_MAX
from driftloop.mlops_core.errors import InvalidData
from driftloop.schemas import ids
from driftloop.schemas.summaries import DriftSummary

ROWS = 32
"""Rows of a micro-batch."""

Counts = NDArray[np.uint8]
"""Rows per bin, shape (micro-batches, columns, BINS_MAX); each column's bins add up to 32."""
Times = NDArray[np.int64]
"""Earliest and latest `at` of each micro-batch (UTC, ms), without rows far from most, (micro-batches, 2)."""
State = Mapping[str, Any]

_EIGHT = GROUP // ROWS
_FAR = 3
"""Distances between the quartiles that make a time far out (Tukey, "Exploratory data analysis", 1977)."""
_CLOSE = 60_000
"""Least such distance, in ms: what is within three minutes is together, whatever the others do."""


@dataclass(frozen=True)
class Groups:
    """Sums over 256 rows each, that micro-batches completed."""

    sums: Sums
    """Shape (groups, `Pairs.width`)."""
    ends: NDArray[np.int64]
    """Which of the micro-batches, counted from 1, completed each."""
    since: NDArray[np.int64]
    """Earliest `at` of each (UTC, ms)."""

    @classmethod
    def none(cls, width: int = 0) -> Self:
        """No group was completed."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(np.empty((0, width), dtype=np.int64), nothing, nothing)


class Summariser:
    """Counts rows in groups of 32; what is left over waits. How rows are chunked changes nothing.

    >>> summariser = Summariser(columns=2)
    >>> counts, times, groups = summariser.add(np.zeros((40, 2), np.uint8), np.arange(40))
    >>> counts.shape, int(counts[0, 0, 0]), times.tolist(), summariser.waiting
    ((1, 2, 33), 32, [[0, 31]], 8)
    """

    def __init__(self, columns: int) -> None:
        self._bins = np.empty((0, columns), dtype=np.uint8)
        self._at = np.empty(0, dtype=np.int64)
        self._sums = np.zeros(0, dtype=np.int64)
        """Of micro-batches that wait for the rest of their group."""
        self._started: list[int] = []
        """Earliest `at` of each of these."""

    @property
    def columns(self) -> int:
        """Columns of each row."""
        return self._bins.shape[1]

    @property
    def waiting(self) -> int:
        """Rows that wait for the rest of their micro-batch."""
        return len(self._at)

    def add(
        self, bins: NDArray[np.uint8], at: NDArray[np.int64], pairs: Pairs | None = None
    ) -> tuple[Counts, Times, Groups]:
        """Take in rows, `bins` of shape (rows, columns) and `at` of shape (rows,).

        With `pairs`, the same each time, also sum up how columns move together.

        Returns:
            Counts and times of the micro-batches that they completed, oldest first, and the groups that
            these completed; perhaps none.

        Raises:
            InvalidData: another number of columns or times, or a bin that can't be.
        """
        columns = self._bins.shape[1]
        if bins.ndim != 2 or bins.shape[1] != columns or at.shape != bins.shape[:1]:
            raise InvalidData(
                f"expected bins (rows, {columns}) and at (rows,), got {bins.shape} and {at.shape}"
            )
        if bins.size and int(bins.max()) >= BINS_MAX:
            raise InvalidData(f"bin {int(bins.max())} of at most {BINS_MAX - 1}")
        # Column by column in memory, as they come and as they are read.
        bins = np.concatenate([self._bins.T, bins.T], axis=1).T
        at = np.concatenate([self._at, at])
        whole = len(at) // ROWS * ROWS
        self._bins, self._at = bins[whole:].copy(), at[whole:].copy()
        times = _spans(at[:whole])
        groups = Groups.none() if pairs is None else self._pair_groups(bins[:whole], times, pairs)
        return _count_bins(bins[:whole]), times, groups

    def state(self) -> State:
        """What waits, as plain lists for JSON."""
        return {
            "columns": [self._bins.shape[1]],
            "bins": self._bins.ravel().tolist(),
            "at": self._at.tolist(),
            "sums": self._sums.tolist(),
            "started": self._started,
        }

    @classmethod
    def restore(cls, state: State) -> Self:
        """Continue where `state` was taken; one from before there were sums begins a group of its own."""
        (columns,) = state["columns"]
        restored = cls(columns)
        restored._at = np.array(state["at"], dtype=np.int64)
        restored._bins = np.array(state["bins"], dtype=np.uint8).reshape(len(restored._at), columns)
        restored._sums = np.array(state.get("sums", ()), dtype=np.int64)
        restored._started = list(state.get("started", ()))
        return restored

    def _pair_groups(self, bins: NDArray[np.uint8], times: Times, pairs: Pairs) -> Groups:
        """The groups that whole micro-batches complete."""
        if not len(times):
            return Groups.none(pairs.width)
        if len(self._sums) != pairs.width:
            self._sums, self._started = np.zeros(pairs.width, dtype=np.int64), []
        waited = len(self._started)
        sums = pairs.sums(bins, ROWS)
        started = [*self._started, *times[:, 0].tolist()]
        whole = len(started) // _EIGHT
        ends = _EIGHT * np.arange(1, whole + 1) - waited
        begins = np.concatenate([[0], ends])
        totals = np.add.reduceat(np.vstack([sums, np.zeros_like(sums[:1])]), begins, axis=0)
        totals[0] += self._sums
        self._sums, self._started = totals[-1], started[whole * _EIGHT :]
        since = np.array(started[: whole * _EIGHT], dtype=np.int64).reshape(whole, _EIGHT).min(axis=1)
        return Groups(totals[:-1], ends, since)


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


def _count_bins(bins: NDArray[np.uint8]) -> Counts:
    """One bincount for all: each (micro-batch, column) has BINS_MAX places of its own."""
    rows, columns = bins.shape
    batches = rows // ROWS
    first = np.arange(batches)[:, None, None] * columns + np.arange(columns)
    places = first * BINS_MAX + bins.reshape(batches, ROWS, columns)
    counts = np.bincount(places.ravel("K"), minlength=batches * columns * BINS_MAX)
    return counts.astype(np.uint8).reshape(batches, columns, BINS_MAX)


def _spans(at: NDArray[np.int64]) -> Times:
    """A few rows that come hours late, or from a clock that is wrong, don't stretch their micro-batch."""
    grouped = at.reshape(-1, ROWS)
    spans = np.stack([grouped.min(axis=1), grouped.max(axis=1)], axis=1)
    wide = spans[:, 1] - spans[:, 0] > _FAR * _CLOSE
    if wide.any():
        spans[wide] = _near(np.sort(grouped[wide], axis=1))
    return spans


def _near(at: Times) -> Times:
    """First and last of sorted times, shape (k, ROWS), that aren't far out."""
    low, high = at[:, ROWS // 4, None], at[:, -ROWS // 4 - 1, None]
    reach = _FAR * np.maximum(high - low, _CLOSE)
    near = (at >= low - reach) & (at <= high + reach)
    first, last = near.argmax(axis=1), ROWS - 1 - near[:, ::-1].argmax(axis=1)
    each = np.arange(len(at))
    return np.stack([at[each, first], at[each, last]], axis=1)

"""Stage one: from binned rows to counts of 32 rows, small enough to send and mergeable over partitions.

The mean of 32 rows carries the autocorrelation of its rows into the detector's own variance (the method
of batch means), which is why a detector fed with it does not alarm on a stream that merely drifts about.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mlops_core.data.profile import BINS_MAX
from mlops_core.errors import BadData

ROWS = 32
"""Rows of a micro-batch."""

Counts = NDArray[np.uint8]
"""Rows per bin, shape (micro-batches, columns, BINS_MAX); each column's bins add up to 32."""
Times = NDArray[np.int64]
"""Earliest and latest `at` of each micro-batch (UTC, ms), shape (micro-batches, 2)."""
State = Mapping[str, Sequence[int]]


class Summariser:
    """Counts rows in groups of 32; what is left over waits. How rows are chunked changes nothing.

    >>> summariser = Summariser(columns=2)
    >>> counts, times = summariser.add(np.zeros((40, 2), np.uint8), np.arange(40))
    >>> counts.shape, int(counts[0, 0, 0]), times.tolist(), summariser.waiting
    ((1, 2, 33), 32, [[0, 31]], 8)
    """

    def __init__(self, columns: int) -> None:
        self._bins = np.empty((0, columns), dtype=np.uint8)
        self._at = np.empty(0, dtype=np.int64)

    @property
    def waiting(self) -> int:
        """Rows that wait for the rest of their micro-batch."""
        return len(self._at)

    def add(self, bins: NDArray[np.uint8], at: NDArray[np.int64]) -> tuple[Counts, Times]:
        """Take in rows, `bins` of shape (rows, columns) and `at` of shape (rows,).

        Returns:
            Counts and times of the micro-batches that they completed, oldest first; perhaps none.

        Raises:
            BadData: another number of columns or times, or a bin that can't be.
        """
        columns = self._bins.shape[1]
        if bins.ndim != 2 or bins.shape[1] != columns or at.shape != bins.shape[:1]:
            raise BadData(f"expected bins (rows, {columns}) and at (rows,), got {bins.shape} and {at.shape}")
        if bins.size and int(bins.max()) >= BINS_MAX:
            raise BadData(f"bin {int(bins.max())} of at most {BINS_MAX - 1}")
        bins = np.concatenate([self._bins, bins])
        at = np.concatenate([self._at, at])
        whole = len(at) // ROWS * ROWS
        self._bins, self._at = bins[whole:].copy(), at[whole:].copy()
        return _counted(bins[:whole]), _spans(at[:whole])

    def state(self) -> State:
        """What waits, as plain lists for JSON."""
        return {
            "columns": [self._bins.shape[1]],
            "bins": self._bins.ravel().tolist(),
            "at": self._at.tolist(),
        }

    @classmethod
    def restore(cls, state: State) -> Self:
        """Continue where `state` was taken."""
        (columns,) = state["columns"]
        restored = cls(columns)
        restored._at = np.array(state["at"], dtype=np.int64)
        restored._bins = np.array(state["bins"], dtype=np.uint8).reshape(len(restored._at), columns)
        return restored


def _counted(bins: NDArray[np.uint8]) -> Counts:
    """One bincount for all: each (micro-batch, column) has BINS_MAX places of its own."""
    rows, columns = bins.shape
    batches = rows // ROWS
    first = np.arange(batches)[:, None, None] * columns + np.arange(columns)
    places = first * BINS_MAX + bins.reshape(batches, ROWS, columns)
    counts = np.bincount(places.ravel(), minlength=batches * columns * BINS_MAX)
    return counts.astype(np.uint8).reshape(batches, columns, BINS_MAX)


def _spans(at: NDArray[np.int64]) -> Times:
    grouped = at.reshape(-1, ROWS)
    return np.stack([grouped.min(axis=1), grouped.max(axis=1)], axis=1)

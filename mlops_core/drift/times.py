"""When the n-th value came, for the recent ones: a change point is an index, people want a time."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

KEPT = 1024
"""Times kept: 8 kB."""


class RecentTimes:
    """The time of every `stride`-th value, for the last 1024 of these.

    >>> times = RecentTimes(stride=2)
    >>> times.add([10, 20, 30, 40])
    >>> times.at(0), times.at(3), times.at(99)
    (10, 30, 30)
    """

    def __init__(self, stride: int, kept: Iterable[int] = (), seen: int = 0) -> None:
        self._stride = stride
        self.kept: NDArray[np.int64] = np.array(list(kept), dtype=np.int64)
        self.seen = seen
        """Values so far."""

    def add(self, at: Iterable[int]) -> None:
        """The times of the next values (UTC, ms)."""
        times = np.array(list(at), dtype=np.int64)
        self.kept = np.concatenate([self.kept, times[-self.seen % self._stride :: self._stride]])[-KEPT:]
        self.seen += len(times)

    def at(self, index: int) -> int:
        """About when value `index` came; the oldest known time if that is long past."""
        newest = -(-self.seen // self._stride)
        place = index // self._stride - (newest - len(self.kept))
        return int(self.kept[min(max(place, 0), len(self.kept) - 1)])

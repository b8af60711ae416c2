"""When the n-th value came, for the recent ones: a change point is an index, people want a time."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

KEPT = 1024
"""Times kept: 8 kB."""


class RecentTimes:
    """The time of every `stride`-th value, for the last 1024 of these before whatever is looked at.

    >>> times = RecentTimes(stride=2)
    >>> times.add([10, 20, 30, 40])
    >>> times.at(0, now=4), times.at(3, now=4)
    (10, 30)
    """

    def __init__(self, stride: int, kept: Iterable[int] = (), seen: int = 0) -> None:
        self._stride = stride
        self._times: NDArray[np.int64] = np.array(list(kept), dtype=np.int64)
        """Those before the newest values, and of all of these."""
        self.seen = seen
        """Values so far."""

    def add(self, at: Iterable[int]) -> None:
        """The times of the next values (UTC, ms)."""
        times = np.array(list(at), dtype=np.int64)
        self._times = np.concatenate([self.recent, times[-self.seen % self._stride :: self._stride]])
        self.seen += len(times)

    @property
    def recent(self) -> NDArray[np.int64]:
        """What is remembered until the next values come."""
        return self._times[-KEPT:]

    def at(self, index: int, now: int) -> int:
        """About when value `index` came, seen after `now` values; the oldest known time if it is long past.

        However many came in one go: what `now` knew doesn't depend on what came after it.
        """
        oldest = -(-now // self._stride) - KEPT
        first = -(-self.seen // self._stride) - len(self._times)
        place = max(index // self._stride, oldest) - first
        return int(self._times[min(max(place, 0), len(self._times) - 1)])

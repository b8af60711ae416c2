"""Times of the recent values by index: a change point is an index, and events need its time."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

KEPT = 1024
"""Times kept: 8 kB."""


class RecentTimes:
    """The time of every `stride`-th value, for the newest 1,024 of them.

    >>> times = RecentTimes(stride=2)
    >>> times.add([10, 20, 30, 40])
    >>> times.at(0, now=4), times.at(3, now=4)
    (10, 30)
    """

    def __init__(self, stride: int, kept: Iterable[int] = (), seen: int = 0) -> None:
        self._stride = stride
        self._times: NDArray[np.int64] = np.array(list(kept), dtype=np.int64)
        """Times of the newest `KEPT` values before the last `add`, and of all values of that."""
        self.seen = seen
        """Number of values so far."""

    def add(self, at: Iterable[int]) -> None:
        """Add the times of the next values (UTC, ms)."""
        times = np.array(list(at), dtype=np.int64)
        self._times = np.concatenate([self.recent, times[-self.seen % self._stride :: self._stride]])
        self.seen += len(times)

    @property
    def recent(self) -> NDArray[np.int64]:
        """The newest `KEPT` times."""
        return self._times[-KEPT:]

    def at(self, index: int, now: int) -> int:
        """The time of value `index` (to `stride` values) as known after `now` values, or the oldest known.

        The result does not depend on values after `now`.
        """
        oldest = -(-now // self._stride) - KEPT
        first = -(-self.seen // self._stride) - len(self._times)
        place = max(index // self._stride, oldest) - first
        return int(self._times[min(max(place, 0), len(self._times) - 1)])

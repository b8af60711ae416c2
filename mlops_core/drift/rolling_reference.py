"""A reference that follows the stream, so that a change which stays is accepted after a while.

The shares of each column's bins, and how pairs of features move together, are averaged exponentially over the
stream's own earlier windows; edges and weights stay those of the training data. What it can't see is slow
drift: a change that takes much longer than `rows` is always accepted before it is large, however far it leads
from what the model was trained on.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import BINS_MAX, Profile
from driftloop.mlops_core.drift.season_adjustment import Due


class RollingMean:
    """Forgets all but 1/e of what was over each `rows` rows; the newest window is not in it yet.

    >>> mean = RollingMean(np.zeros(1), rows=1000)
    >>> levels = [mean.follow(np.ones(1), rows=1000).level.round(2).tolist() for _ in range(3)]
    >>> levels
    [[0.0], [0.63], [0.86]]
    """

    def __init__(self, level: Floats, rows: int) -> None:
        """Begin at `level`, of any shape."""
        self.level, self._rows = level, rows
        self._newest, self._within = np.zeros_like(level), 0
        """The last window, which is still compared with what was before it, and its rows."""

    def follow(self, window: Floats, rows: int) -> Self:
        """Take in a full window's values; the one before it becomes reference."""
        if self._within:
            kept = float(np.exp(-self._within / self._rows))
            self.level = kept * self.level + (1 - kept) * self._newest
        self._newest, self._within = window, rows
        return self

    def state(self) -> dict[str, NDArray[Any]]:
        """What changes over time."""
        within = np.array([self._within])
        return {"rolling_level": self.level, "rolling_newest": self._newest, "rolling_within": within}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Continue where `state` was taken; a state of what didn't roll leaves it as it is."""
        if "rolling_within" in arrays:
            self.level, self._newest = arrays["rolling_level"], arrays["rolling_newest"]
            self._within = int(arrays["rolling_within"][0])
        return self


class Rolling:
    """The shares of each column: begins as the profile's.

    >>> rolling = Rolling(Profile.of({"x": [1, 2]}, np.ones(2)), weights=np.zeros((2, 33, 3)), rows=2048)
    >>> for _ in range(20):
    ...     rolling.follow(np.full((2, BINS_MAX), 1024) * np.eye(BINS_MAX, dtype=np.int64)[3])
    >>> rolling.due.shares[0, :4].round(3).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """

    def __init__(self, profile: Profile, weights: Floats, rows: int) -> None:
        self._weights = weights
        shares = np.zeros((len(profile.columns), BINS_MAX))
        for place, column in enumerate(profile.columns):
            shares[place, : column.null + 1] = column.shares
        self._shares = RollingMean(shares, rows)

    @property
    def due(self) -> Due:
        """What a window is held against now."""
        shares = self._shares.level
        return Due(np.matmul(shares[:, None, :], self._weights)[:, 0, :], shares)

    def follow(self, window: NDArray[np.int64]) -> None:
        """Take in a full window's counts, shape (columns, BINS_MAX), the same number of rows in each."""
        rows = int(window[0].sum())
        self._shares.follow(window / rows, rows)

    def state(self) -> dict[str, NDArray[Any]]:
        """What changes over time."""
        return self._shares.state()

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Continue where `state` was taken, also from before pairs rolled; else stay as it is."""
        if "rolling_shares" in arrays:
            counts = arrays["rolling_newest"]
            rows = max(int(counts[0].sum()), 1)
            former = {"rolling_level": arrays["rolling_shares"], "rolling_newest": counts / rows}
            arrays = {**former, "rolling_within": counts[:1].sum(axis=1)}
        self._shares.restore(arrays)
        return self

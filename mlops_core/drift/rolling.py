"""A reference that follows the stream, so that a change which stays is accepted after a while.

The shares of each column's bins are averaged exponentially over the stream's own earlier windows; edges and
weights stay those of the training data. What it can't see is slow drift: a change that takes much longer than
`rows` is always accepted before it is large, however far it leads from what the model was trained on.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlops_core.data.features import Floats
from mlops_core.data.profile import BINS_MAX, Profile
from mlops_core.drift.seasonal import Due


class Rolling:
    """Begins as the profile, and forgets all but 1/e of what was over each `rows` rows.

    >>> rolling = Rolling(Profile.of({"x": [1, 2]}, np.ones(2)), weights=np.zeros((2, 33, 3)), rows=2048)
    >>> for _ in range(20):
    ...     rolling.follow(np.full((2, BINS_MAX), 1024) * np.eye(BINS_MAX, dtype=np.int64)[3])
    >>> rolling.due.shares[0, :4].round(3).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """

    def __init__(self, profile: Profile, weights: Floats, rows: int) -> None:
        self._weights, self._rows = weights, rows
        self._shares = np.zeros((len(profile.columns), BINS_MAX))
        for place, column in enumerate(profile.columns):
            self._shares[place, : column.null + 1] = column.shares
        self._newest = np.zeros(self._shares.shape, dtype=np.int64)
        """The last window, which is still compared with what was before it."""

    @property
    def due(self) -> Due:
        """What a window is held against now."""
        means = np.matmul(self._shares[:, None, :], self._weights)[:, 0, :]
        return Due(means, self._shares)

    def follow(self, window: NDArray[np.int64]) -> None:
        """Take in a full window's counts, shape (columns, BINS_MAX); the one before it becomes reference."""
        rows = self._newest.sum(axis=1, keepdims=True)
        if rows.all():
            kept = float(np.exp(-rows[0, 0] / self._rows))
            self._shares = kept * self._shares + (1 - kept) * (self._newest / rows)
        self._newest = window

    def state(self) -> dict[str, NDArray[Any]]:
        """What changes over time."""
        return {"rolling_shares": self._shares, "rolling_newest": self._newest}

    def restored(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Continue where `state` was taken; a state of a detector that didn't roll leaves it as it is."""
        if "rolling_shares" in arrays:
            self._shares, self._newest = arrays["rolling_shares"], arrays["rolling_newest"]
        return self

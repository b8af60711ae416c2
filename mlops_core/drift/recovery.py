"""Whether a level that changed is back near home: the end of an episode that an alarm began, by hysteresis.

Home is the mean before the first alarm. A level is near home when it has come within an eighth of a standard
deviation of it, as a column's severity must (`drift.close_severity`), or within a third of a change that was
small.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats

_NEAR = 0.125
"""Standard deviations of a value."""
_WINDOW = 1024
"""Values that a level is taken over, at most: a standard error of 0.03 deviations."""
_LEAST = 512
"""Values since the change before anything can be over."""


class Recovery:
    """Levels of some series; `rising` are those that can only be too high.

    >>> recovery = Recovery(np.array([True]))
    >>> recovery.on_alarm(0, before=0.1, after=0.3, deviation=0.3, changed=5000)
    True
    >>> recovery.recovered_series(np.full((1, 1024), 0.2), rows=6024), recovery.open.tolist()
    ([], [True])
    >>> recovery.recovered_series(np.full((1, 1024), 0.13), rows=7048), recovery.open.tolist()
    ([0], [False])
    """

    def __init__(self, rising: NDArray[np.bool_]) -> None:
        self._rising = rising
        self.open = np.zeros(len(rising), dtype=np.bool_)
        self.home = np.zeros(len(rising))
        """The mean before the first alarm."""
        self._near = np.zeros(len(rising))
        self._changed = np.zeros(len(rising), dtype=np.int64)

    def on_alarm(self, series: int, before: float, after: float, deviation: float, changed: int) -> bool:
        """A mean changed after `changed` values; True if that is news: further from home than it was.

        A level that has jumped back near home is no longer open.
        """
        self._changed[series] = changed
        if not self.open[series]:
            if self._rising[series] and after <= before:
                return False
            self.open[series], self.home[series] = True, before
            self._near[series] = min(_NEAR * deviation, abs(after - before) / 3)
            return True
        self.open[series] = not self._is_near(series, after)
        return bool(self.open[series] and self._off(series, after) > self._off(series, before))

    def recovered_series(self, recent: Floats, rows: int) -> list[int]:
        """The series that are back near home, no longer open; `recent` are the newest of `rows` values."""
        back: list[int] = []
        for series in np.flatnonzero(self.open).tolist():
            since = max(min(rows - int(self._changed[series]), _WINDOW), 1)
            if since >= _LEAST and self._is_near(
                series, float(recent[series, -since:].mean(dtype=np.float64))
            ):
                self.open[series] = False
                back.append(series)
        return back

    def state(self) -> Mapping[str, NDArray[Any]]:
        """What changes over time."""
        return {"open": self.open, "home": self.home, "near": self._near, "changed": self._changed}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue where `state` was taken."""
        self.open, self.home = arrays["open"], arrays["home"]
        self._near, self._changed = arrays["near"], arrays["changed"]

    def _is_near(self, series: int, level: float) -> bool:
        return self._off(series, level) < float(self._near[series])

    def _off(self, series: int, level: float) -> float:
        off = level - float(self.home[series])
        return off if self._rising[series] else abs(off)

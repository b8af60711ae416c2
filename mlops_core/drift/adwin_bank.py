"""One ADWIN of river per channel, updated with arrays of values; the state survives a restart.

ADWIN keeps a window as long as its mean holds, and alarms where two parts of it differ: Bifet and Gavalda,
"Learning from time-changing data with adaptive windowing", SDM 2007. Values must be finite, with a standard
deviation of about 1 or more. After one NaN or 1e308 ADWIN never alarms again, so callers bin or clip.
"""

from collections.abc import Callable
from itertools import repeat
from operator import length_hint
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift import adwin_state, serialization
from driftloop.mlops_core.drift.detector import Alarm
from driftloop.mlops_core.errors import InvalidData

KEPT = 128
"""Values per channel from which a change is dated: 4,096 rows."""
LONGEST_STEADY = 100_000
"""Equal values that a window takes in, at most; this takes 25 ms. They stand for 3.2 million rows; more of
them would not change what follows."""


def adwin(channels: int, delta: float) -> "AdwinBank":
    """The default detector (a `detector.DetectorFactory`)."""
    return AdwinBank(channels, delta, clock=1, kept=KEPT)


class AdwinBank:
    """`channels` ADWINs of confidence `delta` that look for a change every `clock` values.

    The last `kept` values of each channel date its changes: at its first alarm ADWIN has dropped one bucket
    only, so that its width still reaches far behind the change.

    A channel whose values were all equal (such as the missing values of a column that has none) can't alarm:
    its means differ by rounding only, and ADWIN asks for a difference of more than 2/3 of its logarithm over
    the window's width. Such values are counted only; ADWIN gets them when a different value comes.

    >>> adwins = AdwinBank(channels=1, delta=1e-6, clock=1, kept=64)
    >>> adwins.update(np.array([[0.0, 2.0] * 50 + [9.0, 11.0] * 10]))
    [Alarm(position=109, channel=0, width=10, before=1.0, after=10.0)]
    """

    def __init__(self, channels: int, delta: float, clock: int, kept: int) -> None:
        from river.drift import ADWIN  # takes seconds, and only agents need it

        self._settings = {"delta": delta, "clock": clock, "kept": kept}
        self._kept = kept
        self._fresh: Callable[[], Any] = lambda: ADWIN(delta=delta, clock=clock)._helper
        self._windows = [self._fresh() for _ in range(channels)]
        """The window inside each ADWIN; river's shell around it doubles the cost of an update."""
        self._totals = [0.0] * channels
        self._counts = [0] * channels
        self._recent = np.empty((channels, 0), dtype=np.float32)
        self._steady = np.ones(channels, dtype=np.bool_)
        """True for a channel whose values were all equal."""
        self._level = np.zeros(channels)
        """A channel's first value."""

    @property
    def recent(self) -> NDArray[np.float32]:
        """The newest values, shape (channels, at most `kept`)."""
        return self._recent

    def update(self, values: Floats) -> list[Alarm]:
        """Alarms of values of shape (channels, n), oldest first; a channel starts afresh after an alarm."""
        series = np.concatenate([self._recent, values.astype(np.float32)], axis=1)
        alarms: list[Alarm] = []
        for channel, start in self._moving(values):
            alarms += self._update_channel(channel, values[channel].tolist(), start, series)
        self._recent = series[:, -self._kept :].copy()
        return alarms

    def _moving(self, values: Floats) -> list[tuple[int, int]]:
        """(channel, first value) of each ADWIN that must be updated; steady channels are counted here."""
        if not values.shape[1]:
            return []
        new = self._steady & (np.array(self._counts) == 0)
        self._level[new] = values[new, 0]
        same = (values == self._level[:, None]) & self._steady[:, None]
        steady = same.all(axis=1)
        for channel in np.flatnonzero(steady).tolist():
            self._counts[channel] += values.shape[1]
        starts = np.zeros(len(values), dtype=np.int64)
        for channel in np.flatnonzero(self._steady & ~steady).tolist():
            starts[channel] = int(np.argmin(same[channel]))
            self._catch_up(channel, int(starts[channel]))
        self._steady = steady
        moving = np.flatnonzero(~steady)
        return list(zip(moving.tolist(), starts[moving].tolist(), strict=True))

    def _catch_up(self, channel: int, more: int) -> None:
        """Update a channel's window with the equal values that were counted so far and `more` of them."""
        level, count = float(self._level[channel]), self._counts[channel] + more
        any(map(self._windows[channel].update, repeat(level, min(count, LONGEST_STEADY))))
        self._totals[channel], self._counts[channel] = level * count, count

    def dump(self) -> bytes:
        """The windows, sums and newest values as bytes."""
        meta = {"settings": self._settings, "totals": self._totals, "counts": self._counts}
        arrays = {"recent": self._recent, "steady": self._steady, "level": self._level}
        return serialization.dump_state(meta, {**arrays, **adwin_state.dump_windows(self._windows)})

    def load(self, data: bytes) -> Self:
        """Continue from a `dump`; one of other settings or another number of channels is ignored.

        Raises:
            InvalidData: not a dump, or numbers that can't be those of an ADWIN.
        """
        meta, arrays = serialization.load_state(data)
        if {"settings", "totals", "counts"} - set(meta):
            raise InvalidData(f"not an ADWIN state: it has only {sorted(meta)}")
        if meta["settings"] == self._settings and len(meta["counts"]) == len(self._counts):
            delta, clock = self._settings["delta"], int(self._settings["clock"])
            adwin_state.load_windows(arrays, self._windows, delta, clock)
            self._totals, self._counts = meta["totals"], meta["counts"]
            self._recent, self._steady, self._level = arrays["recent"], arrays["steady"], arrays["level"]
        return self

    def _update_channel(
        self, channel: int, values: list[float], start: int, series: NDArray[np.float32]
    ) -> list[Alarm]:
        """Update one channel with `values` from `start` on; its `series`, (channels, n), ends with `values`.

        `any` stops at the value that alarms.
        """
        alarms: list[Alarm] = []
        total, count = self._totals[channel], self._counts[channel]
        while start < len(values):
            rest = iter(values[start:] if start else values)
            alarmed = any(map(self._windows[channel].update, rest))
            end = len(values) - length_hint(rest)
            total, count = sum(values[start:end], total), count + end - start
            if alarmed:
                until = series.shape[1] - len(values) + end
                recent = series[channel, max(until - min(count, self._kept), 0) : until]
                alarms.append(Alarm(end - 1, channel, *_locate_change(recent, total, count)))
                self._windows[channel], total, count = self._fresh(), 0.0, 0
            start = end
        self._totals[channel], self._counts[channel] = total, count
        return alarms


def _locate_change(recent: NDArray[np.float32], total: float, count: int) -> tuple[int, float, float]:
    """Width, mean before and mean after of the likeliest change in the mean.

    The split with the greatest difference between its parts in standard errors (Hinkley, 1970, Biometrika
    57:1), among the `recent` of `count` values that add up to `total`.
    """
    sums = np.cumsum(recent[::-1], dtype=np.float64)
    widths = np.arange(1, len(sums) + 1)
    allowed = slice(adwin_state.MIN_PART - 1, min(len(sums), count - adwin_state.MIN_PART))
    sums, widths = sums[allowed], widths[allowed]
    after, before = sums / widths, (total - sums) / (count - widths)
    best = int(np.argmax(np.abs(after - before) * np.sqrt(widths * (count - widths))))
    return int(widths[best]), float(before[best]), float(after[best])

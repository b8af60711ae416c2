"""A row of river's ADWINs, one a channel, fed in columns and kept over restarts.

ADWIN keeps a window as long as its mean holds, and alarms where two parts of it differ: Bifet and Gavalda,
"Learning from time-changing data with adaptive windowing", SDM 2007. Values must be finite and of a
standard deviation of about 1 or more; one NaN or 1e308 would blind it for ever, so callers bin or clip.
"""

import io
import pickle
from functools import partial
from itertools import repeat
from operator import length_hint
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift import serialization
from driftloop.mlops_core.drift.detector import Alarm
from driftloop.mlops_core.errors import InvalidData

_ALLOWED = {("river.drift.adwin", "ADWIN"), ("river._river_rust.drift", "AdaptiveWindowing")}
"""All that a pickle of ours may name: river's detector and its window."""
KEPT = 128
"""Values a channel remembers to date a change: 4,096 rows."""
_LEAST = 5
"""River's own least width of a part."""
LONGEST_STEADY = 100_000
"""Equal values that a detector remembers, at most: it takes 25 ms to feed them. As micro-batches they are 3.2
million rows, against which whatever comes next is as new as against more."""


def adwin(channels: int, delta: float) -> "AdwinBank":
    """What listens unless another detector is chosen (see `detector.DetectorFactory`)."""
    return AdwinBank(channels, delta, clock=1, kept=KEPT)


class AdwinBank:
    """`channels` detectors of confidence `delta` that look for a change every `clock` values.

    The last `kept` values of each are remembered to say where the change lies: at its first alarm ADWIN has
    dropped but one bucket, so that its width still reaches far behind the change.

    A channel that has only ever had one value (the missing values of a column that has none) can't alarm: its
    means differ by rounding, and ADWIN asks for a difference of more than 2/3 of its logarithm over the
    window's width. So its values are only counted, and fed on the day that another one comes.

    >>> adwins = AdwinBank(channels=1, delta=1e-6, clock=1, kept=64)
    >>> adwins.update(np.array([[0.0, 2.0] * 50 + [9.0, 11.0] * 10]))
    [Alarm(position=109, channel=0, width=10, before=1.0, after=10.0)]
    """

    def __init__(self, channels: int, delta: float, clock: int, kept: int) -> None:
        import river  # takes seconds, and only agents need it
        from river.drift import ADWIN

        self._kind = {"river": river.__version__, "delta": delta, "clock": clock, "kept": kept}
        self._kept = kept
        self._fresh = partial(ADWIN, delta=delta, clock=clock)
        self._detectors: list[Any] = [self._fresh() for _ in range(channels)]
        self._totals = [0.0] * channels
        self._counts = [0] * channels
        self._recent = np.empty((channels, 0), dtype=np.float32)
        self._steady = np.ones(channels, dtype=np.bool_)
        """Which channels have had equal values only."""
        self._level = np.zeros(channels)
        """The first of them."""

    @property
    def recent(self) -> NDArray[np.float32]:
        """The last values fed, shape (channels, at most `kept`)."""
        return self._recent

    def update(self, values: Floats) -> list[Alarm]:
        """Feed values of shape (channels, n), oldest first; a detector begins anew after an alarm."""
        series = np.concatenate([self._recent, values.astype(np.float32)], axis=1)
        alarms: list[Alarm] = []
        for channel, start in self._moving(values):
            alarms += self._update_channel(channel, values[channel].tolist(), start, series)
        self._recent = series[:, -self._kept :].copy()
        return alarms

    def _moving(self, values: Floats) -> list[tuple[int, int]]:
        """The channels that must be fed, and from where on; what is steady is only counted."""
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
        """Feed what was only counted, and so many more of it."""
        level, count = float(self._level[channel]), self._counts[channel] + more
        any(map(self._detectors[channel]._helper.update, repeat(level, min(count, LONGEST_STEADY))))
        self._totals[channel], self._counts[channel] = level * count, count

    def dump(self) -> bytes:
        """The detectors as bytes."""
        pickled = np.frombuffer(pickle.dumps(self._detectors, protocol=4), dtype=np.uint8)
        meta = {"kind": self._kind, "totals": self._totals, "counts": self._counts}
        arrays: dict[str, NDArray[Any]] = {
            "recent": self._recent,
            "steady": self._steady,
            "level": self._level,
        }
        return serialization.dump_state(meta, {"detectors": pickled, **arrays})

    def load(self, data: bytes) -> Self:
        """Continue where `data` was dumped.

        Another version of river, other settings or another number of channels stay fresh: what river
        pickles is opaque and promises nothing between versions.

        Raises:
            InvalidData: not a dump, or one that names anything but river's ADWIN.
        """
        meta, arrays = serialization.load_state(data)
        if meta.get("kind") == self._kind and len(meta["counts"]) == len(self._counts):
            loaded = _Restricted(io.BytesIO(arrays["detectors"].tobytes())).load()
            # One that has just alarmed begins anew; we no longer keep such, older versions did.
            self._detectors = [self._fresh() if one.drift_detected else one for one in loaded]
            self._totals, self._counts = meta["totals"], meta["counts"]
            self._recent = arrays["recent"]
            self._steady = arrays.get("steady", np.zeros(len(loaded), dtype=np.bool_))  # older: all were fed
            self._level = arrays.get("level", np.zeros(len(loaded)))
        return self

    def _update_channel(
        self, channel: int, values: list[float], start: int, series: NDArray[np.float32]
    ) -> list[Alarm]:
        """Feed one channel from `start` on; its `series`, of shape (channels, n), ends with `values`.

        `any` stops at the value that alarms. It drives the window inside river's detector, because the shell
        around it (a flag, two properties) costs as much again as the window itself.
        """
        alarms: list[Alarm] = []
        total, count = self._totals[channel], self._counts[channel]
        while start < len(values):
            rest = iter(values[start:] if start else values)
            alarmed = any(map(self._detectors[channel]._helper.update, rest))
            end = len(values) - length_hint(rest)
            total, count = sum(values[start:end], total), count + end - start
            if alarmed:
                until = series.shape[1] - len(values) + end
                recent = series[channel, max(until - min(count, self._kept), 0) : until]
                alarms.append(Alarm(end - 1, channel, *_locate_change(recent, total, count)))
                self._detectors[channel], total, count = self._fresh(), 0.0, 0
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
    allowed = slice(_LEAST - 1, min(len(sums), count - _LEAST))
    sums, widths = sums[allowed], widths[allowed]
    after, before = sums / widths, (total - sums) / (count - widths)
    best = int(np.argmax(np.abs(after - before) * np.sqrt(widths * (count - widths))))
    return int(widths[best]), float(before[best]), float(after[best])


class _Restricted(pickle.Unpickler):
    """Reads river's ADWIN and nothing else, so that a forged state can't run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise InvalidData(f"a detector's state names {module}.{name}; only river's ADWIN may be there")
        return super().find_class(module, name)

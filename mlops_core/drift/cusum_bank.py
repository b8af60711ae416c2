"""Cumulative sums: they alarm sooner than ADWIN on a sudden shift, and more often on autocorrelated streams.

Page, "Continuous inspection schemes", 1954, Biometrika 41:100. Each value is compared with the mean of the
values before it, so that no level needs to be known (self-starting: Hawkins, 1987, The Statistician 36:299).
The difference is in standard deviations: the reference's or the stream's, whichever is larger. The limit
follows from Siegmund's approximation of the run length ("Sequential Analysis", 1985, section 2.6).
"""

from math import exp, log
from typing import Self

import numpy as np

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift import serialization
from driftloop.mlops_core.drift.detector import SCALE, Alarm

_SLACK = 0.7
"""Half of the shift to be found, in deviations of a value: a quarter of a row's over 32 rows is 1.4."""
_OVERSHOOT = 1.166
"""Siegmund's correction for sums that pass the limit in steps."""
_KNOWN = 32
"""Values after which the stream's own standard deviation is used, where it exceeds the reference's."""
_MOMENTS, _SIDES = ("count", "mean", "squares"), ("sum", "run", "total")


class CusumBank:
    """One self-starting, two-sided cumulative sum per channel; one false alarm in 1 / `delta` values.

    >>> cusums = CusumBank(channels=1, delta=1e-6)
    >>> [alarm] = cusums.update(np.array([[10.0, -10.0] * 50 + [30.0] * 10]))
    >>> alarm.position, alarm.width, round(abs(alarm.before), 9), alarm.after
    (104, 5, 0.0, 30.0)
    """

    def __init__(self, channels: int, delta: float) -> None:
        self._settings = {"delta": delta, "channels": channels}
        self._limit = limit(delta)
        self._moments = np.zeros((len(_MOMENTS), channels))
        """Count, mean and squared deviations of the values since the last alarm."""
        self._sides = np.zeros((len(_SIDES), 2, channels))
        """Per direction (up, down): the sum, and the count and total of the values since it was 0."""

    def update(self, values: Floats) -> list[Alarm]:
        """Alarms of values of shape (channels, n), oldest first; a channel starts afresh after an alarm."""
        return [alarm for place, column in enumerate(values.T) for alarm in self._update_at(place, column)]

    def dump(self) -> bytes:
        """The sums as bytes."""
        return serialization.dump_state(self._settings, {"moments": self._moments, "sides": self._sides})

    def load(self, data: bytes) -> Self:
        """Continue from a `dump`; a dump of other settings or channels is ignored.

        Raises:
            InvalidData: not the bytes of a dump.
        """
        settings, arrays = serialization.load_state(data)
        if settings == self._settings:
            self._moments, self._sides = arrays["moments"], arrays["sides"]
        return self

    def _update_at(self, place: int, values: Floats) -> list[Alarm]:
        """Alarms of one value per channel."""
        step = self._step(values)
        sums, runs, totals = self._sides
        sums[:] = np.maximum(sums + np.stack([step, -step]) - _SLACK, 0.0)
        rising = sums > 0
        runs[:] = np.where(rising, runs + 1, 0.0)
        totals[:] = np.where(rising, totals + values, 0.0)
        self._learn(values)
        alarmed = (sums > self._limit).any(axis=0)
        alarms = [self._alarm(place, channel) for channel in np.flatnonzero(alarmed).tolist()]
        self._moments[:, alarmed], self._sides[:, :, alarmed] = 0.0, 0.0
        return alarms

    def _step(self, values: Floats) -> Floats:
        """Difference of each value from the mean before it, in standard deviations; 0 for the first."""
        count, mean, squares = self._moments
        own = np.where(count >= _KNOWN, np.sqrt(squares / np.maximum(count, 1)), 0.0)
        step: Floats = (values - mean) / np.maximum(own, SCALE) * np.sqrt(count / (count + 1))
        return step

    def _learn(self, values: Floats) -> None:
        """Welford's running moments (1962, Technometrics 4:419)."""
        count, mean, squares = self._moments
        count += 1
        gap = values - mean
        mean += gap / count
        squares += gap * (values - mean)

    def _alarm(self, place: int, channel: int) -> Alarm:
        """The change began where the larger sum was last 0."""
        side = int(self._sides[0, :, channel].argmax())
        _, run, total = self._sides[:, side, channel]
        count, mean, _ = self._moments[:, channel]
        before = (mean * count - total) / max(count - run, 1)
        return Alarm(place, channel, int(run), float(before), float(total / run))


def limit(delta: float) -> float:
    """The limit that a two-sided sum passes once in 1 / delta values without any change.

    >>> round(limit(1e-6), 1), round(limit(1e-3), 1)
    (9.2, 4.3)
    """
    wanted, b = 2 / delta, _OVERSHOOT
    for _ in range(50):
        b = log(2 * _SLACK**2 * wanted + 2 * _SLACK * b + 1) / (2 * _SLACK)
    assert abs((exp(2 * _SLACK * b) - 2 * _SLACK * b - 1) / (2 * _SLACK**2) / wanted - 1) < 1e-6
    return b - _OVERSHOOT

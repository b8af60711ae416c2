"""Cumulative sums: quicker than ADWIN on a sudden shift, and less patient with restless streams.

Page, "Continuous inspection schemes", 1954, Biometrika 41:100. Each value is compared with the mean of those
before it, so that no level needs to be known (self-starting: Hawkins, 1987, The Statistician 36:299), in the
deviation that the reference promises or the stream turns out to have, whichever is more. The limit follows
from Siegmund's approximation of the run length ("Sequential Analysis", 1985, section 2.6).
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
"""Values from which their own deviation counts, where it is more than was promised."""
_MOMENTS, _SIDES = ("count", "mean", "squares"), ("sum", "run", "total")


class CusumBank:
    """A self-starting, two-sided cumulative sum a channel; a false alarm comes in 1 / `delta` values.

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
        """Upwards and downwards: the sum, and count and total of the values since it was 0."""

    def update(self, values: Floats) -> list[Alarm]:
        """Take in values of shape (channels, n), oldest first; a channel begins anew after an alarm."""
        return [alarm for place, column in enumerate(values.T) for alarm in self._update_at(place, column)]

    def dump(self) -> bytes:
        """The sums as bytes."""
        return serialization.dump_state(self._settings, {"moments": self._moments, "sides": self._sides})

    def load(self, data: bytes) -> Self:
        """Go on where `dump` was taken, or stay fresh if it was taken with other settings.

        Raises:
            InvalidData: not such bytes.
        """
        settings, arrays = serialization.load_state(data)
        if settings == self._settings:
            self._moments, self._sides = arrays["moments"], arrays["sides"]
        return self

    def _update_at(self, place: int, values: Floats) -> list[Alarm]:
        """One value a channel."""
        step = self._step(values)
        sums, runs, totals = self._sides
        sums[:] = np.maximum(sums + np.stack([step, -step]) - _SLACK, 0.0)
        rising = sums > 0
        runs[:] = np.where(rising, runs + 1, 0.0)
        totals[:] = np.where(rising, totals + values, 0.0)
        self._learn(values)
        loud = (sums > self._limit).any(axis=0)
        alarms = [self._alarm(place, channel) for channel in np.flatnonzero(loud).tolist()]
        self._moments[:, loud], self._sides[:, :, loud] = 0.0, 0.0
        return alarms

    def _step(self, values: Floats) -> Floats:
        """How far each value is from those before it, in deviations; 0 for the first."""
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
    """The limit that two sides pass once in 1 / delta values without any change.

    >>> round(limit(1e-6), 1), round(limit(1e-3), 1)
    (9.2, 4.3)
    """
    wanted, b = 2 / delta, _OVERSHOOT
    for _ in range(50):
        b = log(2 * _SLACK**2 * wanted + 2 * _SLACK * b + 1) / (2 * _SLACK)
    assert abs((exp(2 * _SLACK * b) - 2 * _SLACK * b - 1) / (2 * _SLACK**2) / wanted - 1) < 1e-6
    return b - _OVERSHOOT

"""A detector of your own: Roberts' moving averages (1959, Technometrics 1:239) in place of ADWIN.

Run it with `python examples/own_detector.py`. In a package of yours, name it in pyproject.toml:

    [project.entry-points."driftloop.detectors"]
    ewma = "your_package:Ewma"

and set `drift.detector: ewma`. `TestEwma` tests all that a detector must promise.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from driftloop.drift import (
    SCALE,
    Alarm,
    Batch,
    Detector,
    OnlineDrift,
    Opened,
    Profile,
    dump_state,
    load_state,
)
from driftloop.testing import DetectorContract

Floats = NDArray[np.float64]

WEIGHT = 0.15
"""Weight of the newest value in the fast average: it covers about 12 values, 400 rows."""
LEVEL = 0.02
"""Weight of the newest value in the slow average: it covers about 100 values, 3,200 rows."""


class Ewma:
    """A fast and a slow moving average per channel; a large difference between them is a change."""

    def __init__(self, channels: int, delta: float) -> None:
        self._settings = {"delta": delta, "channels": channels}
        self._limit = np.sqrt(2 * np.log(2 / delta)) * SCALE * np.sqrt(WEIGHT / (2 - WEIGHT))
        self._fast, self._slow = np.zeros(channels), np.zeros(channels)
        self._run = np.zeros(channels)
        """Values since the averages were last close together."""

    def update(self, values: Floats) -> list[Alarm]:
        """Alarms of values of shape (channels, n), oldest first."""
        return [alarm for place, column in enumerate(values.T) for alarm in self._update_at(place, column)]

    def dump(self) -> bytes:
        """Three numbers per channel, as bytes."""
        arrays = {"fast": self._fast, "slow": self._slow, "run": self._run}
        return dump_state(self._settings, arrays)

    def load(self, data: bytes) -> Self:
        """Continue from a `dump`; a dump of other settings is ignored."""
        settings, arrays = load_state(data)
        if settings == self._settings:
            self._fast, self._slow, self._run = arrays["fast"], arrays["slow"], arrays["run"]
        return self

    def _update_at(self, place: int, values: Floats) -> list[Alarm]:
        self._fast += WEIGHT * (values - self._fast)
        difference = self._fast - self._slow
        self._run = np.where(np.abs(difference) > self._limit / 3, self._run + 1, 0.0)
        self._slow = self._slow + LEVEL * (values - self._slow)
        alarmed = np.flatnonzero(np.abs(difference) > self._limit)
        alarms = [self._alarm(place, channel) for channel in alarmed.tolist()]
        self._slow[alarmed], self._run[alarmed] = self._fast[alarmed], 0.0  # the new level
        return alarms

    def _alarm(self, place: int, channel: int) -> Alarm:
        before, after = float(self._slow[channel]), float(self._fast[channel])
        return Alarm(place, channel, int(self._run[channel]) + 1, before, after)


class TestEwma(DetectorContract):
    """Tests each promise of a detector on `Ewma`."""

    def make_detector(self, channels: int) -> Detector:
        """A fresh detector."""
        return Ewma(channels, delta=1e-6)


def sentences() -> list[str]:
    """Sentences about temperatures that rise by eight degrees."""
    rng = np.random.default_rng(7)
    temp, scores = rng.normal(60, 10, 10_000), rng.random(10_000)
    drift = OnlineDrift(Profile.of({"temp": temp}, scores), detector=Ewma)
    stream = np.concatenate([rng.normal(60, 10, 4096), rng.normal(68, 10, 2048)])
    verdicts = drift.update(Batch({"temp": stream}, rng.random(6144), at=np.arange(6144)))
    return [verdict.sentence for verdict in verdicts if isinstance(verdict, Opened)]


if __name__ == "__main__":
    print(*sentences(), sep="\n")  # noqa: T201 - an example shows what it found

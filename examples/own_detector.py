"""A detector of your own: Roberts' moving averages (1959, Technometrics 1:239) in place of ADWIN.

Run it with `python examples/own_detector.py`. In a package of yours, name it in pyproject.toml:

    [project.entry-points."driftloop.detectors"]
    ewma = "your_package:Ewma"

and set `drift.detector: ewma`; `TestEwma` is all that your tests need to say.
"""

from typing import Self

import numpy as np

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift import Batch, OnlineDrift, Opened, Profile, serialization
from driftloop.mlops_core.drift.detector import SCALE, Alarm, Detector
from driftloop.mlops_core.drift.detector_contract import DetectorContract

WEIGHT = 0.15
"""Of the newest value: an average over about 12 of them, 400 rows."""
LEVEL = 0.02
"""Of the newest value in the level that the average is compared with: about 100 of them, 3,200 rows."""


class Ewma:
    """A quick and a slow moving average a channel; a change is where they part."""

    def __init__(self, channels: int, delta: float) -> None:
        self._settings = {"delta": delta, "channels": channels}
        self._limit = np.sqrt(2 * np.log(2 / delta)) * SCALE * np.sqrt(WEIGHT / (2 - WEIGHT))
        self._quick, self._slow = np.zeros(channels), np.zeros(channels)
        self._run = np.zeros(channels)
        """Values since the averages last lay close together."""

    def update(self, values: Floats) -> list[Alarm]:
        """Take in values of shape (channels, n), oldest first."""
        return [alarm for place, column in enumerate(values.T) for alarm in self._update_at(place, column)]

    def dump(self) -> bytes:
        """Three numbers a channel."""
        arrays = {"quick": self._quick, "slow": self._slow, "run": self._run}
        return serialization.dump_state(self._settings, arrays)

    def load(self, data: bytes) -> Self:
        """Go on where `dump` was taken; fresh if that was with other settings."""
        settings, arrays = serialization.load_state(data)
        if settings == self._settings:
            self._quick, self._slow, self._run = arrays["quick"], arrays["slow"], arrays["run"]
        return self

    def _update_at(self, place: int, values: Floats) -> list[Alarm]:
        self._quick += WEIGHT * (values - self._quick)
        apart = self._quick - self._slow
        self._run = np.where(np.abs(apart) > self._limit / 3, self._run + 1, 0.0)
        self._slow = self._slow + LEVEL * (values - self._slow)
        loud = np.flatnonzero(np.abs(apart) > self._limit)
        alarms = [self._alarm(place, channel) for channel in loud.tolist()]
        self._slow[loud], self._run[loud] = self._quick[loud], 0.0  # the new level
        return alarms

    def _alarm(self, place: int, channel: int) -> Alarm:
        before, after = float(self._slow[channel]), float(self._quick[channel])
        return Alarm(place, channel, int(self._run[channel]) + 1, before, after)


class TestEwma(DetectorContract):
    """All promises of a detector, run on this one."""

    def make_detector(self, channels: int) -> Detector:
        """A fresh one."""
        return Ewma(channels, delta=1e-6)


def sentences() -> list[str]:
    """What it says of temperatures that rise by eight degrees."""
    rng = np.random.default_rng(7)
    temp, scores = rng.normal(60, 10, 10_000), rng.random(10_000)
    drift = OnlineDrift(Profile.of({"temp": temp}, scores), detector=Ewma)
    stream = np.concatenate([rng.normal(60, 10, 4096), rng.normal(68, 10, 2048)])
    verdicts = drift.update(Batch({"temp": stream}, rng.random(6144), at=np.arange(6144)))
    return [one.sentence for one in verdicts if isinstance(one, Opened)]


if __name__ == "__main__":
    print(*sentences(), sep="\n")  # noqa: T201 - an example shows what it found

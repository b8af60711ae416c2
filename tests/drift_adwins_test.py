"""Our row of ADWINs hears what river's own hears, value by value."""

import numpy as np
import pytest
from river.drift import ADWIN

from mlops_core.drift.adwins import Adwins


def rivers_own(values: np.ndarray, delta: float, clock: int) -> list[tuple[int, int]]:
    """(position, channel) of each alarm, by river's public interface."""
    found = []
    for channel, series in enumerate(values.tolist()):
        detector = ADWIN(delta=delta, clock=clock)
        for position, value in enumerate(series):
            detector.update(value)
            if detector.drift_detected:
                found.append((position, channel))
    return sorted(found)


@pytest.fixture
def values() -> np.ndarray:
    random = np.random.default_rng(11)
    levels = np.repeat(random.normal(0, 3, size=(5, 12)), 250, axis=1)
    return levels + random.normal(0, 2, size=levels.shape)


@pytest.mark.parametrize("clock", [1, 32])
@pytest.mark.parametrize("size", [1, 7, 400, 3000])
def test_alarms_are_rivers_own_however_the_values_are_cut(values: np.ndarray, clock: int, size: int) -> None:
    adwins, found = Adwins(len(values), delta=0.002, clock=clock, kept=64), []
    for first in range(0, values.shape[1], size):
        if first == 3 * size:
            adwins = Adwins(len(values), delta=0.002, clock=clock, kept=64).load(adwins.dump())
        alarms = adwins.feed(values[:, first : first + size])
        found += [(first + alarm.position, alarm.channel) for alarm in alarms]
    assert sorted(found) == rivers_own(values, 0.002, clock)
    assert len(found) > 20

"""Concept drift: an error rate that stays, rises, or swings with a season."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_quality.cases import Random
from benchmarks.drift_quality.measures import Trial
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift.concept import ConceptDrift
from driftloop.schemas.settings import PerformanceSettings

USUAL, RISEN = 0.1, 0.2
"""Error rates before and after."""
SWING, PERIOD = 0.1, 2_000
"""A seasonal error: how far it swings around 0.2, and over how many labels."""
HOUR_MS = 3_600_000


def steady(random: Random, labels: int) -> list[Trial]:
    """The usual error rate for ever."""
    return [Trial(_alarms(random, np.full(labels, USUAL), USUAL), labels)]


def rising(random: Random, trials: int, stable: int, after: int) -> list[Trial]:
    """The error rate doubles after `stable` labels."""
    rates = np.concatenate([np.full(stable, USUAL), np.full(after, RISEN)])
    return [Trial(_alarms(random, rates, USUAL), len(rates), stable) for _ in range(trials)]


def seasonal(random: Random, labels: int, season: bool) -> list[Trial]:
    """The error swings; alarms within the first two periods are not counted. With or without being told."""
    rates = RISEN + SWING * np.sin(2 * np.pi * np.arange(labels) / PERIOD)
    settings = PerformanceSettings(season=float(PERIOD)) if season else PerformanceSettings()
    found = _alarms(random, rates, RISEN, settings)
    return [Trial([alarm - 2 * PERIOD for alarm in found if alarm > 2 * PERIOD], labels - 2 * PERIOD)]


def _alarms(
    random: Random, rates: Floats, expected: float, settings: PerformanceSettings | None = None
) -> list[int]:
    """Labels seen at each alarm; a label an hour, scores that are honest about the `expected` error."""
    says = random.integers(0, 2, len(rates))
    truth = np.where(random.random(len(rates)) < rates, 1 - says, says).astype(np.float64)
    scores = np.where(says == 1, 1 - expected, expected)
    at: NDArray[np.int64] = np.arange(len(rates), dtype=np.int64) * HOUR_MS
    found = ConceptDrift(settings or PerformanceSettings()).update(truth, scores, at)
    return [alarm.at // HOUR_MS + 1 for alarm in found]

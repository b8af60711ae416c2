"""Concept drift: what labels give away."""

import numpy as np
import pytest

from mlops_core.drift.concept import ConceptAlarm, ConceptDrift, Signal
from mlops_core.errors import BadData
from mlops_core.ports import Task
from schemas.settings import PerformanceSettings


@pytest.fixture
def rng() -> np.random.Generator:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"seed {seed}")  # noqa: T201  # shown when a test fails, to run it again
    return np.random.default_rng(seed)


def listen(labels: np.ndarray, scores: np.ndarray, task: Task = Task.BINARY) -> list[ConceptAlarm]:
    drift = ConceptDrift(PerformanceSettings(delta=1e-4), task)
    return drift.update(labels, scores, np.arange(len(labels)) * 1000)


def wrong(rng: np.random.Generator, rows: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and sure scores, of which a share is wrong on either side."""
    labels = rng.integers(0, 2, rows).astype(float)
    return labels, np.where(rng.random(rows) < rate, 1 - labels, labels)


def test_a_rising_error_is_found_and_dated(rng: np.random.Generator) -> None:
    before, after = wrong(rng, 5000, 0.1), wrong(rng, 1500, 0.3)
    labels, scores = (np.concatenate(pair) for pair in zip(before, after, strict=True))
    alarms = [alarm for alarm in listen(labels, scores) if alarm.signal is Signal.ERROR]
    assert abs(alarms[0].changed_at - 5_000_000) < 150_000
    assert alarms[0].before == pytest.approx(0.1, abs=0.03)
    assert alarms[0].after > 0.18  # of as few as 32 rows
    assert alarms[0].sentence.startswith("wrong answers went from ")


def test_a_falling_error_is_no_alarm(rng: np.random.Generator) -> None:
    before, after = wrong(rng, 5000, 0.3), wrong(rng, 5000, 0.1)
    labels, scores = (np.concatenate(pair) for pair in zip(before, after, strict=True))
    assert [alarm for alarm in listen(labels, scores) if alarm.signal is Signal.ERROR] == []


def test_a_falling_base_rate_is_found_though_the_error_falls_with_it(rng: np.random.Generator) -> None:
    scores = rng.beta(2, 5, 8000)
    rates = np.where(np.arange(8000) < 5000, scores, scores / 3)
    alarms = listen((rng.random(8000) < rates).astype(float), scores)
    assert {alarm.signal for alarm in alarms} == {Signal.RESIDUAL}
    assert alarms[0].sentence.startswith("scores are too high by ")
    assert 4_500_000 < alarms[0].changed_at < 5_400_000


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
def test_a_number_is_judged_in_its_usual_size(rng: np.random.Generator, unit: float) -> None:
    scores = rng.normal(size=6000) * unit
    errors = rng.normal(size=6000) * np.where(np.arange(6000) < 5000, 1.0, 2.5) * unit
    alarms = [a for a in listen(scores + errors, scores, Task.REGRESSION) if a.signal is Signal.ERROR]
    assert alarms[0].at < 5_400_000
    assert alarms[0].before == pytest.approx(0.8 * unit, rel=0.1)


def test_one_wild_label_is_no_drift(rng: np.random.Generator) -> None:
    scores = rng.normal(size=5000)
    labels = scores + rng.normal(size=5000)
    labels[[50, 3000]] = 1e99
    assert listen(labels, scores, Task.REGRESSION) == []


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(BadData, match="differ in length"):
        listen(np.zeros(3), np.zeros(2))

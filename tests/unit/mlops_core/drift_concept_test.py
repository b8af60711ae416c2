"""Concept drift: what labels give away."""

from collections.abc import Sequence

import numpy as np
import pytest

from driftloop.mlops_core.drift.concept import ConceptAlarm, ConceptClosed, ConceptDrift, Signal
from driftloop.mlops_core.drift.online_season import SeasonalBaseline
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Task
from driftloop.schemas.settings import PerformanceSettings


def listen(labels: np.ndarray, scores: np.ndarray, task: Task = Task.BINARY) -> list[ConceptAlarm]:
    drift = ConceptDrift(PerformanceSettings(delta=1e-4), task)
    found = drift.update(labels, scores, np.arange(len(labels)) * 1000)
    return alarms(found)


def alarms(found: Sequence[ConceptAlarm | ConceptClosed]) -> list[ConceptAlarm]:
    return [one for one in found if isinstance(one, ConceptAlarm)]


def wrong(rng: np.random.Generator, rows: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and sure scores, of which a share is wrong on either side."""
    labels = rng.integers(0, 2, rows).astype(float)
    return labels, np.where(rng.random(rows) < rate, 1 - labels, labels)


def test_a_rising_error_is_found_and_dated(rng: np.random.Generator) -> None:
    before, after = wrong(rng, 5000, 0.1), wrong(rng, 1500, 0.3)
    labels, scores = (np.concatenate(pair) for pair in zip(before, after, strict=True))
    alarms = [alarm for alarm in listen(labels, scores) if alarm.signal is Signal.ERROR]
    assert abs(alarms[0].changed_at - 5_000_000) < 400_000  # mostly 25 rows off, in one of 300 runs 120
    assert alarms[0].before == pytest.approx(0.1, abs=0.03)
    assert alarms[0].after > 0.15  # of as few as 32 rows
    assert alarms[0].sentence.startswith("wrong answers went from ")


def test_no_usable_row_changes_nothing_while_an_episode_is_open(rng: np.random.Generator) -> None:
    before, after = wrong(rng, 3008, 0.1), wrong(rng, 1024, 0.6)
    labels, scores = (np.concatenate(pair) for pair in zip(before, after, strict=True))
    drift = ConceptDrift(PerformanceSettings())
    assert alarms(drift.update(labels, scores, np.arange(4032)))
    assert drift.open
    state = drift.dump()
    assert drift.update(np.array([np.nan]), np.array([0.5]), np.array([5000])) == []
    assert drift.dump() == state


def test_another_season_of_as_many_phases_is_learned_anew() -> None:
    day, half = SeasonalBaseline("day", signals=1), SeasonalBaseline(12.0, signals=1)
    for hour in range(72):
        day.subtract(np.full((1, 32), hour % 24 < 12, dtype=np.float64), np.full(32, hour * 3_600_000))
    untouched = half.state()
    half.restore(day.state())
    assert all(np.array_equal(half.state()[name], known) for name, known in untouched.items())
    again = SeasonalBaseline("day", signals=1)
    again.restore(day.state())
    assert np.array_equal(again.deviations(), day.deviations())


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
    with pytest.raises(InvalidData, match="differ in length"):
        listen(np.zeros(3), np.zeros(2))


def told(drift: ConceptDrift, *parts: tuple[np.ndarray, np.ndarray]) -> list[tuple[str, int]]:
    """Whether an episode opened or closed, and at which row of all parts."""
    labels, scores = (np.concatenate(pair) for pair in zip(*parts, strict=True))
    found = drift.update(labels, scores, np.arange(len(labels)))
    return [("closed" if isinstance(one, ConceptClosed) else "alarm", one.at) for one in found]


def test_an_episode_is_over_when_the_error_is_back(rng: np.random.Generator) -> None:
    drift = ConceptDrift(PerformanceSettings(delta=1e-4))
    found = told(drift, wrong(rng, 5000, 0.1), wrong(rng, 4000, 0.3), wrong(rng, 3000, 0.1))
    assert found[0][0] == "alarm"
    assert [what for what, _ in found].count("closed") == 1
    assert found[-1][0] == "closed"
    assert 9000 < found[-1][1] < 10_500
    assert not drift.open


def test_an_episode_stays_open_as_long_as_the_error_is_high(rng: np.random.Generator) -> None:
    drift = ConceptDrift(PerformanceSettings(delta=1e-4))
    found = told(drift, wrong(rng, 5000, 0.1), wrong(rng, 30_000, 0.3))
    assert {what for what, _ in found} == {"alarm"}
    assert drift.open


def test_an_error_that_rises_again_is_told_again(rng: np.random.Generator) -> None:
    drift = ConceptDrift(PerformanceSettings(delta=1e-4))
    found = told(drift, wrong(rng, 5000, 0.1), wrong(rng, 4000, 0.25), wrong(rng, 2000, 0.5))
    assert {what for what, _ in found} == {"alarm"}
    assert any(at > 9000 for _, at in found)


def test_scores_that_come_back_are_no_drift_the_other_way(rng: np.random.Generator) -> None:
    scores = rng.beta(2, 5, 15_000)
    rates = np.where(np.arange(15_000) // 5000 == 1, scores / 3, scores)
    drift = ConceptDrift(PerformanceSettings(delta=1e-4))
    found = drift.update((rng.random(15_000) < rates).astype(float), scores, np.arange(15_000))
    later = [one for one in found if one.at >= 10_000 and one.signal is Signal.RESIDUAL]
    assert [type(one) for one in later] in ([], [ConceptClosed])  # or the error was the last to come back


PERIOD = 2000
"""Labels a day."""


def by_day(rng: np.random.Generator, rows: int, rise_at: int | None = None) -> tuple[np.ndarray, ...]:
    """Labels, scores and times of errors that swing between 0.1 and 0.3; from `rise_at` 0.1 more."""
    row = np.arange(rows)
    rates = 0.2 + 0.1 * np.sin(2 * np.pi * row / PERIOD) + 0.1 * (row >= (rise_at or rows))
    labels = rng.integers(0, 2, rows).astype(float)
    scores = np.where(rng.random(rows) < rates, 1 - labels, labels)
    return labels, scores, row * (24 * 3_600_000 // PERIOD)


def test_a_seasonal_error_is_no_drift_after_two_periods(rng: np.random.Generator) -> None:
    labels, scores, at = by_day(rng, 50_000 + 2 * PERIOD)
    plain, seasonal = (ConceptDrift(PerformanceSettings(season=season)) for season in (None, "day"))
    assert len(alarms(plain.update(labels, scores, at))) > 5
    assert len(alarms(seasonal.update(labels, scores, at))) <= 5  # 1 per 10,000 labels


def test_a_rise_is_found_in_spite_of_the_season(rng: np.random.Generator) -> None:
    rise = int(rng.integers(4 * PERIOD, 5 * PERIOD))
    labels, scores, at = by_day(
        rng, rise + 2 * PERIOD, rise
    )  # mostly found after 500, in one of 300 runs 1,600
    found = alarms(ConceptDrift(PerformanceSettings(season="day")).update(labels, scores, at))
    errors = [one for one in found if one.signal is Signal.ERROR and one.at >= at[rise]]
    assert errors
    assert errors[0].after > errors[0].before


def test_with_a_season_nothing_is_said_before_two_periods_were_seen(rng: np.random.Generator) -> None:
    labels, scores, at = by_day(rng, 2 * PERIOD - 32, PERIOD)
    assert ConceptDrift(PerformanceSettings(season="day")).update(labels, scores, at) == []


def test_labels_from_a_wrong_century_move_no_clock(rng: np.random.Generator) -> None:
    labels, scores, at = by_day(rng, 50_000 + 2 * PERIOD)
    at[rng.integers(0, len(at), 400)] *= 1000
    assert len(alarms(ConceptDrift(PerformanceSettings(season="day")).update(labels, scores, at))) <= 5

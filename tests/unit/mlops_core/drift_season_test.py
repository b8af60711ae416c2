"""A season: Monday is compared with Mondays, and the hour with that hour."""

from dataclasses import replace

import numpy as np
import pytest

from driftloop.mlops_core.data import season_profiles
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.data.seasons import HOUR_MS
from driftloop.mlops_core.drift.channels import Channels
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.verdicts import Measured, Opened, Verdict
from driftloop.mlops_core.ports import Task
from driftloop.mlops_core.training import fit
from driftloop.schemas.settings import DriftSettings
from tests.support.toy_examples import HOUR, toy_examples

DAY = 24 * HOUR_MS
PER_DAY = 20_000
SWING = 0.5
PLAIN = DriftSettings(delta=1e-6, open_severity=0.25, close_severity=0.125)
"""Sharper than the defaults, so that a fresh seed a run meets no false alarm."""
SEASONAL = PLAIN.model_copy(update={"season": "day"})


def times(first_day: float, rows: int) -> np.ndarray:
    return (first_day * DAY + np.arange(rows) * (DAY / PER_DAY)).astype(np.int64)


def swinging(rng: np.random.Generator, at: np.ndarray) -> np.ndarray:
    """Deviation 1 around a mean that is highest at six in the morning and lowest at six in the evening."""
    return rng.normal(size=len(at)) + SWING * np.sin(2 * np.pi * at / DAY)


def trained(rng: np.random.Generator, days: int = 5) -> Profile:
    at = times(0, days * PER_DAY)
    x, scores = swinging(rng, at), np.resize([0.25, 0.75], len(at))
    return season_profiles.with_season(Profile.of({"x": x}, scores), "day", {"x": x}, at, scores, at)


def watch(
    profile: Profile, x: np.ndarray, at: np.ndarray, settings: DriftSettings = SEASONAL
) -> list[Verdict]:
    bins = profile.bins({"x": x}, np.resize([0.25, 0.75], len(x)), len(x))
    return DistributionDrift(profile, settings).update(*Summariser(2).add(bins, at))


def opened(verdicts: list[Verdict]) -> list[Opened]:
    return [verdict for verdict in verdicts if isinstance(verdict, Opened)]


def test_days_that_swing_as_they_did_in_training_are_no_drift(rng: np.random.Generator) -> None:
    at = times(5, 6 * PER_DAY)
    assert opened(watch(trained(rng), swinging(rng, at), at)) == []


def test_a_shift_within_a_swing_is_found_where_the_whole_reference_sees_nothing(
    rng: np.random.Generator,
) -> None:
    """In the evening of the sixth day, when half a deviation up only makes up for the swing."""
    at = times(5, PER_DAY)
    shifted = at >= 5 * DAY + 17 * HOUR_MS
    x, profile = swinging(rng, at) + SWING * shifted, trained(rng)
    before_seven = at < 5 * DAY + 19 * HOUR_MS
    (found,) = opened(watch(profile, x[before_seven], at[before_seven]))
    assert 0 < found.at - 5 * DAY - 17 * HOUR_MS < 1600 * DAY / PER_DAY
    assert opened(watch(profile, x[before_seven], at[before_seven], PLAIN)) == []


def test_rows_that_come_hours_late_do_not_blur_the_hour(rng: np.random.Generator) -> None:
    """One in fifty was made six to nine hours before its neighbours, and is as rows of its own hour are."""
    profile, at = trained(rng), times(5, PER_DAY)
    made = np.where(rng.random(PER_DAY) < 0.02, at - rng.integers(6, 9, PER_DAY) * HOUR_MS, at)
    shifted = at >= 5 * DAY + 17 * HOUR_MS
    x = swinging(rng, made) + SWING * shifted
    before_seven = at < 5 * DAY + 19 * HOUR_MS
    (found,) = opened(watch(profile, x[before_seven], made[before_seven]))
    assert 0 < found.at - 5 * DAY - 17 * HOUR_MS < 1600 * DAY / PER_DAY


def test_a_window_shows_the_shares_of_its_own_hours(rng: np.random.Generator) -> None:
    profile, at = trained(rng), times(5, PER_DAY)
    windows = [one for one in watch(profile, swinging(rng, at), at) if isinstance(one, Measured)]
    for window in windows:
        told = window.columns["x"]
        middle = (window.since + window.until) / 2
        above = 0.5 + 0.38 * SWING * np.sin(2 * np.pi * middle / DAY)  # of a normal, near its median
        assert sum(told.reference) == pytest.approx(1, abs=0.01)
        assert sum(told.reference[16:]) == pytest.approx(above, abs=0.1)


def test_what_changes_on_the_hour_stays_sharp(rng: np.random.Generator) -> None:
    """The hour itself as a feature: each is seen at its own time only, and midnight is a leap."""
    at = times(0, 5 * PER_DAY)
    hour, scores = (at // HOUR_MS % 24).astype(float), np.resize([0.25, 0.75], len(at))
    profile = season_profiles.with_season(Profile.of({"x": hour}, scores), "day", {"x": hour}, at, scores, at)
    later = at + 5 * DAY
    assert opened(watch(profile, hour, later)) == []
    stuck = np.where(later > 7.25 * DAY, 3.0, hour)
    assert [found.column for found in opened(watch(profile, stuck, later))][:1] == ["x"]


def test_expected_sums_are_exact_whatever_is_summed_together(rng: np.random.Generator) -> None:
    """Also where a micro-batch spans hours, days, or comes before 1970."""
    profile = trained(rng)
    channels = Channels.of(profile, profile.season)
    counts = np.zeros((200, 2, 33), dtype=np.uint8)
    counts[:, :, 0] = 32
    first = rng.integers(-10 * DAY, 10**12, 200)
    at = np.stack([first, first + rng.choice([0, 5, HOUR_MS, 5 * HOUR_MS, 3 * DAY], 200)], axis=1)
    one_by_one = [channels.sums(counts[i : i + 1], at[i : i + 1])[0] for i in range(200)]
    assert np.array_equal(np.stack(one_by_one), channels.sums(counts, at))


def test_what_spans_whole_days_is_compared_with_the_whole(rng: np.random.Generator) -> None:
    profile = trained(rng)
    channels = Channels.of(profile, profile.season)
    assert channels.seasonal is not None
    (due,) = channels.seasonal.means(np.array([[3 * DAY + 5, 5 * DAY]]))
    assert np.abs(due).max() < 0.01


def test_a_profile_without_a_season_is_compared_as_before(rng: np.random.Generator) -> None:
    at = times(0, 4096)
    x = swinging(rng, at)
    profile = Profile.of({"x": x}, np.resize([0.25, 0.75], len(x)))
    assert Profile.model_validate_json(profile.model_dump_json(exclude={"season"})) == profile
    assert watch(profile, x, at, SEASONAL) == watch(profile, x, at, PLAIN)


def test_another_season_begins_with_fresh_detectors(rng: np.random.Generator) -> None:
    """What they heard so far was told against other expectations."""
    profile, at = trained(rng), times(5, 8192)
    bins = profile.bins({"x": swinging(rng, at)}, np.resize([0.25, 0.75], len(at)), len(at))
    plain = DistributionDrift(profile, DriftSettings())
    plain.update(*Summariser(2).add(bins, at))
    seasonal = DistributionDrift.load(plain.dump(), profile, SEASONAL)
    assert seasonal.rows == plain.rows
    assert (
        seasonal._channel_detectors._plain.dump()
        == DistributionDrift(profile, SEASONAL)._channel_detectors._plain.dump()
    )


def test_training_learns_the_season_it_is_told_and_says_when_it_cannot() -> None:
    examples, scores = toy_examples(1500), np.linspace(0, 1, 300)
    profile = fit.reference_profile(examples, scores, Task.BINARY, "day")
    assert profile.season is not None
    assert (profile.season.hours, profile.season.phases) == (24, 6)
    assert len(profile.season.columns) == len(profile.columns)
    assert fit.reference_profile(examples, scores, Task.BINARY).season is None
    short = replace(examples, at=examples.at[0] + np.arange(1500) * HOUR // 100)
    assert fit.reference_profile(short, scores, Task.BINARY, "day").season is None
    assert (
        fit._learned_tags(short, profile, DriftSettings(season="day"))["season"]
        == "day, not learned: the rows span 15 hours, 48 are needed"
    )

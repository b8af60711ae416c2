"""A rolling reference: what stays is accepted, and what creeps is never seen."""

import numpy as np
import pytest

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.rolling_reference import Rolling
from driftloop.mlops_core.drift.verdicts import Closed, Measured, Opened, PairClosed, PairOpened, Verdict
from driftloop.schemas.settings import DriftSettings, Settings, SettingsError

TRAINING = DriftSettings(delta=1e-7)
"""In noise ADWIN alarms once in 300 / delta values: with this a fresh seed a run meets no false alarm."""
ROLLING = TRAINING.model_copy(update={"reference": "rolling", "rolling_rows": 8192})
SETTLED = ROLLING.model_copy(update={"delta": 1e-8})
"""So that a fresh seed a run meets no false alarm."""


@pytest.fixture
def profile(rng: np.random.Generator) -> Profile:
    return Profile.of({"x": rng.normal(size=20_000)}, np.resize([0.25, 0.75], 20_000))


def watch(profile: Profile, x: np.ndarray, settings: DriftSettings) -> list[Verdict]:
    bins = profile.bins({"x": x}, np.resize([0.25, 0.75], len(x)), len(x))
    counts, at, _ = Summariser(2).add(bins, np.arange(len(x)))
    return list(DistributionDrift(profile, settings).update(counts, at))


def changes(verdicts: list[Verdict]) -> list[Opened | Closed]:
    return [one for one in verdicts if isinstance(one, Opened | Closed)]


def test_a_change_that_stays_is_told_and_then_accepted(rng: np.random.Generator, profile: Profile) -> None:
    stream = np.concatenate([rng.normal(size=8192), rng.normal(1, 1, 60_000)])
    opened, closed = changes(watch(profile, stream, ROLLING))
    assert isinstance(opened, Opened)
    assert isinstance(closed, Closed)
    assert opened.at < 8192 + 400
    assert 1.0 * 8192 < closed.at - 8192 < 4 * 8192
    assert [type(one) for one in changes(watch(profile, stream, TRAINING))] == [Opened]


def test_the_way_back_is_a_change_as_well(rng: np.random.Generator, profile: Profile) -> None:
    stream = np.concatenate([rng.normal(1, 1, 60_000), rng.normal(size=4096)])
    *_, last = changes(watch(profile, stream, ROLLING))
    assert isinstance(last, Opened)
    assert last.at >= 60_000
    assert last.sentence.startswith("x moved down by")


def test_what_creeps_is_seen_against_the_training_data_only(
    rng: np.random.Generator, profile: Profile
) -> None:
    """With a bar so high that a short window's luck never reaches it."""
    stream = rng.normal(size=120_000) + np.linspace(0, 1.5, 120_000)
    high = {"open_severity": 0.5}
    assert changes(watch(profile, stream, ROLLING.model_copy(update=high))) == []
    assert len(changes(watch(profile, stream, TRAINING.model_copy(update=high)))) == 1


def test_windows_show_the_rows_before_as_reference(rng: np.random.Generator, profile: Profile) -> None:
    stream = np.concatenate([rng.normal(size=4096), rng.normal(1, 1, 60_000)])
    windows = [one for one in watch(profile, stream, ROLLING) if isinstance(one, Measured)]
    first, last = windows[0].columns["x"], windows[-1].columns["x"]
    assert first.reference == pytest.approx(profile.columns[0].shares)
    assert last.reference == pytest.approx(last.current, abs=0.07)
    assert last.reference[31] > 3 / 32


def test_a_reference_rolls_or_has_a_season() -> None:
    with pytest.raises(SettingsError, match="rolling and season exclude each other"):
        Settings.load(drift={"reference": "rolling", "season": "day"})


def test_a_state_that_did_not_roll_begins_with_the_training_data(
    rng: np.random.Generator, profile: Profile
) -> None:
    bins = profile.bins({"x": rng.normal(size=4096)}, np.resize([0.25, 0.75], 4096), 4096)
    plain = DistributionDrift(profile, TRAINING)
    plain.update(*Summariser(2).add(bins, np.arange(4096))[:2])
    rolling = DistributionDrift.load(plain.dump(), profile, ROLLING)
    assert rolling.rows == 4096
    assert rolling._rolling is not None
    assert rolling._rolling.due.shares[0].tolist() == [*profile.columns[0].shares]


def couple(rng: np.random.Generator, rows: int, correlation: float) -> dict[str, np.ndarray]:
    left = rng.normal(size=rows)
    return {"left": left, "right": correlation * left + np.sqrt(1 - correlation**2) * rng.normal(size=rows)}


def parted(rng: np.random.Generator, settings: DriftSettings, restart: bool = False) -> list[Verdict]:
    """Of two features that move together as in training for 32 windows, and then otherwise for ever."""
    profile = Profile.of(couple(rng, 20_000, 0.8), np.resize([0.25, 0.75], 20_000))
    before, after = couple(rng, 32_768, 0.8), couple(rng, 61_440, 0.2)
    stream = {name: np.concatenate([before[name], after[name]]) for name in before}
    rows = len(stream["left"])
    bins = profile.bins(stream, np.resize([0.25, 0.75], rows), rows)
    drift, summariser, found = DistributionDrift(profile, settings), Summariser(3), []
    for first in range(0, rows, 8192):
        if restart:
            drift = DistributionDrift.load(drift.dump(), profile, settings)
        part = slice(first, first + 8192)
        found += drift.update(*summariser.add(bins[part], np.arange(rows)[part], profile.pairs))
    return [one for one in found if isinstance(one, PairOpened | PairClosed)]


def test_a_pair_that_parts_is_told_and_then_accepted(rng: np.random.Generator) -> None:
    opened, closed = parted(rng, SETTLED)
    assert isinstance(opened, PairOpened)
    assert isinstance(closed, PairClosed)
    assert opened.at < 32_768 + 8192
    assert opened.drift.reference == pytest.approx(0.8, abs=0.1)
    assert 1.0 * 8192 < closed.at - 32_768 < 4 * 8192
    training = SETTLED.model_copy(update={"reference": "training"})
    assert [type(one) for one in parted(rng, training)] == [PairOpened]


def test_a_pair_rolls_on_after_a_restart(rng: np.random.Generator) -> None:
    seed = int(rng.integers(2**31))
    once = parted(np.random.default_rng(seed), SETTLED)
    assert parted(np.random.default_rng(seed), SETTLED, restart=True) == once


def test_a_state_from_before_pairs_rolled_goes_on(profile: Profile, rng: np.random.Generator) -> None:
    weights = np.zeros((2, 33, 3))
    rolling, counts = Rolling(profile, weights, 8192), rng.multinomial(1024, np.ones(33) / 33, 2)
    rolling.follow(counts)
    former = {"rolling_shares": rolling.due.shares, "rolling_newest": counts}
    again = Rolling(profile, weights, 8192).restore(former)
    for one in (rolling, again):
        one.follow(counts)
    assert np.array_equal(again.due.shares, rolling.due.shares)

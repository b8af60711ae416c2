"""Features that no longer move together, though each by itself looks as before."""

from collections.abc import Sequence

import numpy as np
import pytest

from driftloop.mlops_core.data import correlations
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Groups, Summariser
from driftloop.mlops_core.drift.verdicts import Closed, Measured, Opened, PairClosed, PairOpened, Verdict
from driftloop.mlops_core.errors import InvalidData
from driftloop.schemas.settings import DriftSettings

Columns = dict[str, np.ndarray]
STABLE = 16_384
SOON = 4096
"""Rows: ADWIN wants some values of 256 to be sure, the fewer the more there were before."""
CALM = DriftSettings(delta=1e-8)
"""In noise ADWIN alarms once in 300 / delta values: with this a fresh seed a run meets no false alarm."""


def weather(rng: np.random.Generator, rows: int, together: float, memory: float = 0.0) -> Columns:
    """Columns `temp` and `dewp` of that correlation, and others; each remembers so much of its last value."""
    noise = rng.normal(size=(4, rows))
    for row in range(1, rows if memory else 0):
        noise[:, row] = memory * noise[:, row - 1] + (1 - memory**2) ** 0.5 * noise[:, row]
    temp, other, wind, gust = noise
    dewp = together * temp + (1 - together**2) ** 0.5 * other
    return {
        "temp": temp,
        "dewp": np.exp(dewp),
        "wind": wind,
        "gust": wind + gust,
        "rain": rng.random(rows) < 0.1,
    }


def joined(*parts: Columns) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def profiled(columns: Columns) -> Profile:
    return Profile.of(columns, np.resize([0.25, 0.75], len(columns["temp"])))


class Stream:
    """Both stages of one version; row i comes at i."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.summariser = Summariser(len(profile.columns))
        self.detector = DistributionDrift(profile, CALM)

    def feed(self, columns: Columns, first: int = 0) -> list[Verdict]:
        rows = len(columns["temp"])
        at = np.arange(first, first + rows)
        bins = self.profile.bins(columns, np.where(at % 2, 0.25, 0.75), rows)
        return list(self.detector.update(*self.summariser.add(bins, at, self.profile.pairs)))

    def restarted(self) -> "Stream":
        again = Stream(Profile.model_validate_json(self.profile.model_dump_json()))
        again.summariser = Summariser.restore(self.summariser.state())
        again.detector = DistributionDrift.load(self.detector.dump(), again.profile, CALM)
        return again


def changes(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if not isinstance(verdict, Measured)]


def test_two_features_that_part_are_found_dated_and_named(rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 10_000, 0.8))
    verdicts = Stream(profile).feed(joined(weather(rng, STABLE, 0.8), weather(rng, SOON, 0.1)))
    (found,) = changes(verdicts)
    assert isinstance(found, PairOpened)
    assert found.columns == ("temp", "dewp")
    assert STABLE <= found.at < STABLE + SOON
    assert abs(found.changed_at - STABLE) <= 512
    assert found.drift.reference == pytest.approx(0.8, abs=0.06)
    assert found.drift.current == pytest.approx(0.1, abs=0.3)
    assert found.sentence.startswith("correlation of temp and dewp weakened (0.")


def test_a_weak_change_is_found_too(rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 10_000, 0.0))
    (found,) = changes(Stream(profile).feed(joined(weather(rng, STABLE, 0.0), weather(rng, 6144, 0.45))))
    assert isinstance(found, PairOpened)
    assert abs(found.changed_at - STABLE) <= 1024


def test_windows_tell_of_pairs_until_they_move_together_again(rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 10_000, 0.8))
    parts = weather(rng, STABLE, 0.8), weather(rng, STABLE, 0.1), weather(rng, STABLE, 0.8)
    verdicts = Stream(profile).feed(joined(*parts))
    opened, closed = changes(verdicts)
    assert isinstance(opened, PairOpened)
    assert isinstance(closed, PairClosed)
    assert closed.columns == ("temp", "dewp")
    windows = [one for one in verdicts if isinstance(one, Measured)]
    assert not any(one.pairs for one in windows if one.until < STABLE)
    meanwhile = [one for one in windows if opened.at <= one.until < closed.at]
    assert len(meanwhile) >= 4
    assert all(one.pairs["temp ~ dewp"].drifted for one in meanwhile)


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_pairs_that_stay_as_they_were_are_quiet(memory: float, rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 30_000, 0.6, memory))
    found = changes(Stream(profile).feed(weather(rng, 100_000, 0.6, memory)))
    assert [one for one in found if isinstance(one, PairOpened | PairClosed)] == []


def test_shuffled_rows_are_quiet_whatever_their_columns(rng: np.random.Generator) -> None:
    rows = 40_000
    heavy = rng.standard_t(2, rows)
    columns: Columns = {
        "temp": heavy,
        "squared": heavy**2 + rng.normal(size=rows),
        "count": rng.poisson(0.3, rows).astype(float),
        "rare": (rng.random(rows) < 0.02).astype(float),
        "flag": rng.random(rows) < 0.15,
        "other": rng.random(rows) < 0.12,
        "gap": np.where(rng.random(rows) < 0.3, np.nan, heavy + rng.normal(size=rows)),
    }
    profile = profiled(columns)
    stream = Stream(profile)
    for first in range(0, 5 * rows, rows):
        shuffled = rng.permutation(rows)
        assert changes(stream.feed({name: column[shuffled] for name, column in columns.items()}, first)) == []


def test_a_column_that_drifts_by_itself_speaks_for_its_pairs(rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 10_000, 0.8))
    moved = weather(rng, STABLE, 0.8)
    moved["temp"] = np.minimum(moved["temp"] + 1.0, 2.0)
    found = changes(Stream(profile).feed(joined(weather(rng, STABLE, 0.8), moved)))
    assert {one.column for one in found if isinstance(one, Opened)} == {"temp"}
    assert not [one for one in found if not isinstance(one, Opened)]


def test_a_column_that_parts_from_all_others_is_told_once(rng: np.random.Generator) -> None:
    def driven(rows: int, broken: bool) -> Columns:
        cause = rng.normal(size=rows)
        columns = {name: cause + 0.5 * rng.normal(size=rows) for name in ("temp", "dewp", "humid")}
        return columns | ({"temp": rng.permutation(columns["temp"])} if broken else {})

    stream = Stream(profiled(driven(10_000, broken=False)))
    found = changes(stream.feed(joined(driven(STABLE, broken=False), driven(STABLE, broken=True))))
    assert 1 <= len(found) <= 2
    assert all(isinstance(one, PairOpened) and "temp" in one.columns for one in found)
    assert len({one.at for one in found if isinstance(one, PairOpened)}) == 1


def test_chunks_and_restarts_change_nothing(rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 10_000, 0.8))
    parts = weather(rng, STABLE, 0.8), weather(rng, STABLE, 0.1), weather(rng, STABLE, 0.8)
    columns = joined(*parts)
    whole = Stream(profile).feed(columns)
    assert len(changes(whole)) == 2
    stream, verdicts, first = Stream(profile), [], 0
    while first < 3 * STABLE:
        size = int(rng.integers(1, 3000))
        verdicts += stream.feed(
            {name: column[first : first + size] for name, column in columns.items()}, first
        )
        stream, first = stream.restarted(), first + size
    assert verdicts == whole


def test_partitions_merged_find_the_same_pair(rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 10_000, 0.8))
    columns = joined(weather(rng, STABLE, 0.8), weather(rng, STABLE, 0.1))
    stream = Stream(profile)
    partitions, found = [Summariser(len(profile.columns)) for _ in range(3)], []
    for first in range(0, 2 * STABLE, 900):
        rows = np.arange(first, min(first + 900, 2 * STABLE))
        bins = profile.bins({name: column[rows] for name, column in columns.items()}, None, len(rows))
        bins[:, -1] = profile.columns[-1].bins([0.25])[0]
        for number, own in enumerate(partitions):
            chosen = rows % 3 == number
            found += changes(stream.detector.update(*own.add(bins[chosen], rows[chosen], profile.pairs)))
    (opened,) = [one for one in found if isinstance(one, PairOpened)]
    assert opened.columns == ("temp", "dewp")
    assert abs(opened.changed_at - STABLE) <= 1024


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e308])
def test_bad_values_neither_alarm_nor_blind(bad: float, rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 10_000, 0.8))
    dirty = weather(rng, STABLE, 0.8)
    for name in ("temp", "dewp"):
        dirty[name][rng.integers(0, STABLE, 20)] = bad
    found = changes(Stream(profile).feed(joined(dirty, weather(rng, SOON, 0.1))))
    assert [one.columns for one in found if isinstance(one, PairOpened)] == [("temp", "dewp")]
    assert len(found) == 1


def test_a_column_that_stands_still_has_no_correlation(rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 10_000, 0.8))
    still = weather(rng, STABLE, 0.8)
    still["temp"][:] = 0.1
    found = changes(Stream(profile).feed(still))
    assert {one.column for one in found if isinstance(one, Opened | Closed)} == {"temp"}
    assert not [one for one in found if isinstance(one, PairOpened)]


def test_a_profile_and_a_state_from_before_pairs_go_on_without(rng: np.random.Generator) -> None:
    profile = profiled(weather(rng, 10_000, 0.8))
    old = Profile.model_validate_json(profile.model_dump_json(exclude={"pairs"}))
    assert old.pairs is None
    before = Stream(old)
    columns = joined(weather(rng, STABLE, 0.8), weather(rng, SOON, 0.1))
    assert changes(before.feed(columns)) == []
    taught = DistributionDrift.load(before.detector.dump(), profile, CALM)
    bins = profile.bins(weather(rng, 512, 0.1), np.resize([0.25, 0.75], 512), 512)
    assert changes(taught.update(*Summariser(6).add(bins, np.arange(512), profile.pairs))) == []


def test_sums_of_other_pairs_are_refused(rng: np.random.Generator) -> None:
    stream = Stream(profiled(weather(rng, 10_000, 0.8)))
    counts, at, _ = stream.summariser.add(np.zeros((256, 6), dtype=np.uint8), np.arange(256))
    groups = Groups(np.zeros((1, 3), dtype=np.int64), np.array([8]), np.array([0]))
    with pytest.raises(InvalidData, match="expected sums"):
        stream.detector.update(counts, at, groups)


def test_of_many_columns_the_strongest_pairs_are_kept_and_nobody_is_left_out(
    rng: np.random.Generator,
) -> None:
    cause = rng.normal(size=(5, 4000))
    columns = {f"x{n}": cause[n % 5] + 0.7 * rng.normal(size=4000) for n in range(40)}
    known = Profile.of(columns, np.zeros(4000)).pairs
    assert known is not None
    assert len(known.pairs) == correlations.MOST
    assert {column for pair in known.pairs for column in pair} == set(range(40))
    same = sum(one % 5 == other % 5 for one, other in known.pairs)
    assert same == 5 * (8 * 7 // 2)  # every pair with a common cause


def test_columns_that_hardly_move_or_are_no_numbers_take_no_part(rng: np.random.Generator) -> None:
    columns = {
        "a": rng.normal(size=1000),
        "constant": np.full(1000, 3.0),
        "rare": rng.random(1000) < 0.05,
        "text": np.resize(np.array(["x", "y"], dtype=object), 1000),
        "b": rng.normal(size=1000),
    }
    known = Profile.of(columns, rng.random(1000)).pairs
    assert known is not None
    assert (known.columns, known.pairs) == ((0, 4), ((0, 1),))
    assert Profile.of({"a": columns["a"], "text": columns["text"]}, rng.random(1000)).pairs is None

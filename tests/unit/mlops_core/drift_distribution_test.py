"""Feature and prediction drift: what is found how soon, and what an episode is."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.sentences import explain
from driftloop.mlops_core.drift.verdicts import Closed, Measured, Opened, Verdict
from driftloop.mlops_core.errors import InvalidData
from driftloop.schemas.events import DriftKind
from driftloop.schemas.settings import DriftSettings

Draw = Callable[[np.random.Generator, int], np.ndarray]
STABLE = 4096
SHARP = DriftSettings(delta=1e-6, open_severity=0.25, close_severity=0.125)
"""Sharper than the defaults, so that a fresh seed a run meets no false alarm."""


def normal(mean: float = 0.0, deviation: float = 1.0) -> Draw:
    return lambda rng, rows: rng.normal(mean, deviation, rows)


def missing(share: float) -> Draw:
    return lambda rng, rows: np.where(rng.random(rows) < share, np.nan, rng.normal(size=rows))


def carriers(**shares: float) -> Draw:
    names, weights = list(shares), list(shares.values())
    return lambda rng, rows: np.array(names, dtype=object)[rng.choice(len(names), rows, p=weights)]


def humps(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Mean 0 and deviation 1, in two humps."""
    return rng.choice([-0.95, 0.95], rows) + rng.normal(0, (1 - 0.95**2) ** 0.5, rows)


def watch(profile: Profile, column: np.ndarray, scores: np.ndarray | None = None) -> list[Verdict]:
    """Verdicts on a stream whose row i comes at i."""
    scores = np.resize([0.25, 0.75], len(column)) if scores is None else scores
    bins = profile.bins({"x": column}, scores, len(column))
    counts, at, _ = Summariser(2).add(bins, np.arange(len(column)))
    return list(DistributionDrift(profile, SHARP).update(counts, at))


def profiled(rng: np.random.Generator, draw: Draw, rows: int = 10_000) -> Profile:
    return Profile.of({"x": draw(rng, rows)}, np.resize([0.25, 0.75], rows))


def opened(verdicts: list[Verdict]) -> list[Opened]:
    return [verdict for verdict in verdicts if isinstance(verdict, Opened)]


CHANGES = {
    "half a deviation up": (normal(), normal(0.5), 1000, "location"),
    "a deviation down": (normal(), normal(-1.0), 512, "location"),
    "twice the variance": (normal(), normal(0, 2**0.5), 2000, None),
    "two humps": (normal(), humps, 1000, None),
    "a share of .05 to .15": (
        carriers(UA=0.6, AA=0.35, HA=0.05),
        carriers(UA=0.53, AA=0.32, HA=0.15),
        2000,
        "share of HA",
    ),
    "a new category of 3 %": (carriers(UA=0.6, AA=0.4), carriers(UA=0.58, AA=0.39, ZZ=0.03), 6000, None),
    "missing 1 to 5 %": (missing(0.01), missing(0.05), 4000, "null"),
    "text where numbers were": (normal(), lambda _, rows: np.full(rows, "many", dtype=object), 300, "null"),
    "a constant that moves": (
        lambda _, rows: np.full(rows, 7.0),
        lambda _, rows: np.full(rows, 8.0),
        300,
        None,
    ),
}


"""Before, after, rows within which it is found but for one run in 100,000 (mostly half of them are enough),
and by which channel."""


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found_soon_and_dated(change: str, rng: np.random.Generator) -> None:
    before, after, rows, channel = CHANGES[change]
    stream = np.concatenate([before(rng, STABLE).astype(object), after(rng, rows).astype(object)])
    (found,) = opened(watch(profiled(rng, before), stream))
    assert found.at >= STABLE
    assert abs(found.changed_at - STABLE) <= max(512, rows // 2)
    assert channel in (None, found.channel)


def stamps(first_day: int, rows: int, days: int, digits: int) -> np.ndarray:
    """Times as text of so many digits, evenly spread over so many days of the year."""
    first = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(first_day)
    times = [first + timedelta(days * row / rows) for row in range(rows)]
    return np.array([time.isoformat()[:digits] for time in times], dtype=object)


@pytest.mark.parametrize("digits", [10, 19, 32])
def test_time_that_goes_on_is_no_drift_but_a_time_that_goes_missing_is(
    digits: int, rng: np.random.Generator
) -> None:
    profile = Profile.of({"x": stamps(0, 10_000, 30, digits)}, np.resize([0.25, 0.75], 10_000))
    later = stamps(30, 20_000, 60, digits)
    assert opened(watch(profile, later)) == []
    gone = later.copy()
    gone[10_000:] = None
    (found,) = opened(watch(profile, gone))
    assert (found.channel, found.at >= 10_000) == ("null", True)


def test_identifiers_that_never_come_again_are_no_drift(rng: np.random.Generator) -> None:
    def ids(rows: int) -> np.ndarray:
        return np.array([f"{one:x}" for one in rng.integers(0, 2**60, rows)], dtype=object)

    profile = Profile.of({"x": ids(10_000)}, np.resize([0.25, 0.75], 10_000))
    assert opened(watch(profile, ids(20_000))) == []


@pytest.mark.parametrize("written", [object, np.bool_])
def test_truth_values_drift_as_numbers(written: type, rng: np.random.Generator) -> None:
    before, after = rng.random((2, 10_000)) < [[0.3], [0.6]]
    profile = Profile.of({"x": before}, np.resize([0.25, 0.75], 10_000))
    stream: np.ndarray = np.concatenate([rng.random(STABLE) < 0.3, after[:1000]])
    (found,) = opened(watch(profile, stream.astype(written)))
    assert abs(found.changed_at - STABLE) <= 512


def test_autocorrelation_alone_is_no_drift(rng: np.random.Generator) -> None:
    def wander(rng: np.random.Generator, rows: int) -> np.ndarray:
        steps = rng.normal(size=rows).tolist()
        for i in range(1, rows):
            steps[i] += 0.9 * steps[i - 1]
        return np.array(steps)

    assert opened(watch(profiled(rng, wander, 30_000), wander(rng, 100_000))) == []


def test_a_weekly_rhythm_that_training_saw_is_no_drift(rng: np.random.Generator) -> None:
    def weekday(rng: np.random.Generator, rows: int) -> np.ndarray:
        return (np.arange(rows) // 2500 % 7).astype(float)

    assert opened(watch(profiled(rng, weekday, 28 * 2500), weekday(rng, 56 * 2500))) == []


def test_a_persistent_shift_is_one_episode_until_it_is_over(rng: np.random.Generator) -> None:
    stream = np.concatenate([rng.normal(size=8192), rng.normal(1, 1, 60_000), rng.normal(size=8192)])
    changes = [v for v in watch(profiled(rng, normal()), stream) if not isinstance(v, Measured)]
    assert [type(change) for change in changes] == [Opened, Closed]
    assert changes[1].at >= 68_192


def test_a_version_that_never_matched_its_training_data_is_told_of(rng: np.random.Generator) -> None:
    (found,) = opened(watch(profiled(rng, normal()), rng.normal(1, 1, 3000)))
    assert found.changed_at == 0


def test_the_scores_drift_as_predictions(rng: np.random.Generator) -> None:
    profile = Profile.of({"x": rng.normal(size=10_000)}, rng.beta(1, 4, 10_000))
    scores = np.concatenate([rng.beta(1, 4, 4096), rng.beta(2, 4, 1000)])
    (found,) = opened(watch(profile, rng.normal(size=5096), scores))
    assert (found.column, found.kind) == ("score", DriftKind.PREDICTION)


def test_what_follows_from_the_scores_is_measured_but_does_not_shout_beside_them(
    rng: np.random.Generator,
) -> None:
    profile = Profile.of({"x": rng.normal(size=10_000)}, np.zeros(10_000))
    profile = profile.predicting(rng.beta(1, 4, 10_000), classes=True)
    scores = np.concatenate([rng.beta(1, 4, 4096), rng.beta(4, 4, 8192)])
    bins = profile.bins({"x": rng.normal(size=len(scores))}, scores, len(scores))
    verdicts = DistributionDrift(profile, SHARP).update(*Summariser(4).add(bins, np.arange(12_288)))
    assert [(one.column, one.kind) for one in opened(verdicts)] == [("score", DriftKind.PREDICTION)]
    *_, window = (one for one in verdicts if isinstance(one, Measured))
    assert {name for name, one in window.columns.items() if one.kind is DriftKind.PREDICTION} == {
        "score",
        "confidence",
        "class",
    }
    assert re.match("the predicted class: [01] went from", explain("class", window.columns["class"]))


def test_every_window_is_measured_with_the_shares_of_its_rows(rng: np.random.Generator) -> None:
    column = rng.normal(size=3000)
    profile = profiled(rng, normal())
    measured = [verdict for verdict in watch(profile, column) if isinstance(verdict, Measured)]
    assert [(window.rows, window.since, window.until) for window in measured] == [
        (1024, 0, 1023),
        (1024, 1024, 2047),
    ]
    told = measured[1].columns["x"]
    bins = profile.columns[0].bins(column[1024:2048])
    assert told.current == tuple((np.bincount(bins, minlength=33) / 1024).tolist())
    assert told.reference == profile.columns[0].shares
    assert told.severity < 0.25
    assert not told.drifted


def test_a_sentence_tells_what_moved(rng: np.random.Generator) -> None:
    stream = np.concatenate([rng.normal(60, 10, STABLE), rng.normal(70, 10, 4096)])
    *_, last = (v for v in watch(profiled(rng, normal(60, 10)), stream) if isinstance(v, Measured))
    sentence = explain("temp", last.columns["x"])
    found = re.fullmatch(
        r"temp moved up by (.*) standard deviations \(median (.*) -> (.*)\), 100 % of the drift", sentence
    )
    assert found is not None
    shift, before, after = map(float, found.groups())
    assert shift == pytest.approx(1, abs=0.15)
    assert (before, after) == pytest.approx((60, 70), abs=2.5)  # of 1,024 rows: six times 0.4


def told(rng: np.random.Generator, before: np.ndarray, after: np.ndarray) -> str:
    stream = np.concatenate([rng.choice(before, STABLE), after])
    *_, last = (
        v
        for v in watch(profiled(rng, lambda rng, rows: rng.choice(before, rows)), stream)
        if isinstance(v, Measured)
    )
    return explain("x", last.columns["x"])


def shares(sentence: str, pattern: str) -> list[float]:
    found = re.fullmatch(pattern.replace("#", r"([\d.]+)"), sentence)
    assert found is not None, sentence
    return [float(one) for one in found.groups()]


def test_of_a_flag_the_share_is_told(rng: np.random.Generator) -> None:
    flag = np.repeat([0.0, 1.0], [80, 20])
    sentence = told(rng, flag, (rng.random(4096) < 0.34).astype(float))
    assert shares(sentence, "x: 1 in # % -> # % of rows, 100 % of the drift") == pytest.approx(
        [20, 34], abs=9
    )


def test_of_a_flag_that_has_a_third_value_that_one_is_told(rng: np.random.Generator) -> None:
    flag = np.repeat([0.0, 1.0], [80, 20])
    after = rng.choice(np.repeat([0.0, 1.0, 2.0], [60, 15, 25]), 4096)
    sentence = told(rng, flag, after)
    assert shares(sentence, "x: over 1 in # % -> # % of rows, 100 % of the drift") == pytest.approx(
        [0, 25], abs=9
    )


def test_a_constant_that_changes_is_told_as_the_value_that_it_was(rng: np.random.Generator) -> None:
    sentence = told(rng, np.ones(10), np.full(4096, 5.0))
    assert sentence == "x: 1 in 100 % -> 0 % of rows, 100 % of the drift"


def test_of_small_whole_numbers_the_mean_is_told_not_a_median_within_a_bin(rng: np.random.Generator) -> None:
    seats = np.repeat([1.0, 2.0, 4.0], [50, 30, 20])
    after = rng.choice(np.repeat([1.0, 2.0, 4.0], [10, 30, 60]), 4096)
    sentence = told(rng, seats, after)
    pattern = r"x moved up by # standard deviations \(mean # -> #\), 100 % of the drift"
    assert shares(sentence, pattern)[1:] == pytest.approx([1.9, 3.1], abs=0.25)


def test_a_state_of_another_profile_is_refused(rng: np.random.Generator) -> None:
    mine, other = profiled(rng, normal()), Profile.of({"y": [1.0]}, np.array([0.5]))
    with pytest.raises(InvalidData, match="doesn't fit"):
        DistributionDrift.load(DistributionDrift(mine, DriftSettings()).dump(), other, DriftSettings())


@pytest.mark.parametrize("rows", [256, 4096])
def test_a_state_of_another_window_goes_on_with_the_rows_that_are_there(
    rows: int, rng: np.random.Generator
) -> None:
    profile, summariser = profiled(rng, normal()), Summariser(2)

    def summary(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bins = profile.bins({"x": column}, np.resize([0.25, 0.75], len(column)), len(column))
        return summariser.add(bins, np.arange(len(column)))[:2]

    drift = DistributionDrift(profile, SHARP)
    drift.update(*summary(rng.normal(size=STABLE)))
    other = SHARP.model_copy(update={"window_rows": rows})
    again = DistributionDrift.load(drift.dump(), profile, other)
    verdicts = again.update(*summary(rng.normal(1, 1, 4096)))
    assert [found.column for found in opened(verdicts)] == ["x"]
    windows = [one.rows for one in verdicts if isinstance(one, Measured)]
    assert windows == [rows] * (4096 // rows)


def test_counts_of_another_profile_are_refused(rng: np.random.Generator) -> None:
    drift = DistributionDrift(profiled(rng, normal()), DriftSettings())
    with pytest.raises(InvalidData, match="expected counts"):
        drift.update(np.zeros((1, 5, 33), dtype=np.uint8), np.zeros((1, 2), dtype=np.int64))

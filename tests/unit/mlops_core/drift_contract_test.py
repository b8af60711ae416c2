"""What both detectors promise: one suite, run over each.

A stream here is labels, scores, one feature and a couple that moves together; the distribution's detector
looks at the feature and the scores, that of pairs at the couple, the concept's at labels and scores.
`shifted` makes a change that each of them should hear.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pytest

from driftloop.mlops_core.data import season_profiles
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.data.segment_profiles import with_segments
from driftloop.mlops_core.drift import serialization
from driftloop.mlops_core.drift.concept import ConceptAlarm, ConceptDrift
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.verdicts import Opened, PairOpened
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Task
from driftloop.schemas.settings import DriftSettings, PerformanceSettings

SETTINGS = PerformanceSettings(delta=1e-6)
"""Sharper than the default, so that a fresh seed a run never meets the false alarm that 0.002 allows."""
SHARP = DriftSettings(delta=1e-8, open_severity=0.25, close_severity=0.125)
"""The same for distributions: in noise ADWIN alarms once in about 300 / delta values of a channel."""
BAD = (float("nan"), float("inf"), -float("inf"), 1e308, -1e308)


@dataclass(frozen=True)
class Stream:
    labels: np.ndarray
    scores: np.ndarray
    feature: np.ndarray
    left: np.ndarray
    right: np.ndarray

    def __getitem__(self, rows: slice) -> "Stream":
        return Stream(**{name: column[rows] for name, column in vars(self).items()})

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: "Stream") -> "Stream":
        mine, theirs = vars(self), vars(other)
        return Stream(**{name: np.concatenate([mine[name], theirs[name]]) for name in mine})


class Subject(Protocol):
    """A detector under test; `found` are the times at which it alarmed."""

    warm: int
    """Rows before the change."""
    soon: int
    """Rows within which it is found."""

    def feed(self, stream: Stream, first: int) -> list[object]: ...
    def found(self, verdicts: Sequence[object]) -> list[int]: ...
    def restarted(self) -> "Subject": ...
    def dump(self) -> bytes: ...


class Distribution:
    warm, soon = 4000, 640
    """Mostly found after 287 rows, but at a delta as small as `SHARP`'s after more than 332 in one of 150."""
    settings = SHARP
    features: Sequence[str] = ("feature",)

    def __init__(self, rng: np.random.Generator) -> None:
        reference = still(rng, 10_000)
        self.profile = self.learned(reference)
        self.detector = DistributionDrift(self.profile, self.settings)
        self.summariser = Summariser(len(self.profile.columns))

    def learned(self, reference: Stream) -> Profile:
        return Profile.of(self.columns(reference), reference.scores)

    def columns(self, stream: Stream) -> dict[str, np.ndarray]:
        return {name: vars(stream)[name] for name in self.features}

    def feed(self, stream: Stream, first: int) -> list[object]:
        bins = self.profile.bins(self.columns(stream), stream.scores, len(stream))
        summary = self.summariser.add(bins, times(stream, first), self.profile.pairs)
        return list(self.detector.update(*summary))

    def found(self, verdicts: Sequence[object]) -> list[int]:
        return [verdict.at for verdict in verdicts if isinstance(verdict, Opened | PairOpened)]

    def restarted(self) -> "Distribution":
        again = object.__new__(type(self))
        again.profile = Profile.model_validate_json(self.profile.model_dump_json())
        again.detector = DistributionDrift.load(self.detector.dump(), again.profile, self.settings)
        again.summariser = Summariser.restore(self.summariser.state())
        return again

    def dump(self) -> bytes:
        return self.detector.dump()


class SeasonalDistribution(Distribution):
    """By the phase of a period of 3,600 rows."""

    settings = SHARP.model_copy(update={"season": 0.001})

    def learned(self, reference: Stream) -> Profile:
        at = times(reference, 0)
        whole = super().learned(reference)
        return season_profiles.with_season(whole, 0.001, self.columns(reference), at, reference.scores, at)


class Pairs(Distribution):
    """By how two features move together."""

    warm, soon = 16_000, 4096
    features = ("left", "right")


class Segment(Distribution):
    """One country's rows, with that country's reference."""

    def learned(self, reference: Stream) -> Profile:
        countries = np.resize(np.array(["FR", "DE"], dtype=object), len(reference))
        columns = {**super().columns(reference), "country": countries}
        whole = with_segments(Profile.of(columns, reference.scores), ["country"], columns, reference.scores)
        own = whole.of_segment("country=FR")
        assert own is not None
        return own

    def columns(self, stream: Stream) -> dict[str, np.ndarray]:
        return {**super().columns(stream), "country": np.full(len(stream), "FR", dtype=object)}


class RollingDistribution(Distribution):
    """Against the stream's own rows before."""

    settings = SHARP.model_copy(update={"reference": "rolling", "rolling_rows": 8192})


class Concept:
    warm, soon = 4000, 332
    task = Task.BINARY
    settings = SETTINGS

    def __init__(self, rng: np.random.Generator) -> None:
        self.detector = ConceptDrift(self.settings, self.task)

    def feed(self, stream: Stream, first: int) -> list[object]:
        return list(self.detector.update(stream.labels, stream.scores, times(stream, first)))

    def found(self, verdicts: Sequence[Any]) -> list[int]:
        return [one.at for one in verdicts if isinstance(one, ConceptAlarm)]

    def restarted(self) -> "Concept":
        again = object.__new__(type(self))
        again.detector = ConceptDrift.load(self.detector.dump(), self.settings)
        return again

    def dump(self) -> bytes:
        return self.detector.dump()


class RegressionConcept(Concept):
    task = Task.REGRESSION


class SeasonalConcept(Concept):
    """With a period that is over long before anything changes."""

    settings = SETTINGS.model_copy(update={"season": 500 / 3_600_000})


def times(stream: Stream, first: int) -> np.ndarray:
    return np.arange(first, first + len(stream), dtype=np.int64)


def still(rng: np.random.Generator, rows: int) -> Stream:
    scores = rng.beta(1, 4, rows)
    labels, left = (rng.random(rows) < scores).astype(float), rng.normal(size=rows)
    return Stream(labels, scores, rng.normal(20, 5, rows), left, left + rng.normal(size=rows))


def shifted(rng: np.random.Generator, rows: int) -> Stream:
    """The feature moves by one deviation, two of three labels turn against their score, the couple parts."""
    stream = still(rng, rows)
    turned = np.where(rng.random(rows) < 2 / 3, 1 - stream.labels, stream.labels)
    return replace(stream, labels=turned, feature=stream.feature + 5, right=rng.permutation(stream.right))


SUBJECTS = [
    Distribution,
    SeasonalDistribution,
    RollingDistribution,
    Pairs,
    Segment,
    Concept,
    RegressionConcept,
    SeasonalConcept,
]


@pytest.fixture(params=SUBJECTS)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def in_chunks(subject: Subject, stream: Stream, sizes: Sequence[int]) -> list[object]:
    verdicts, first = [], 0
    for size in sizes:
        verdicts += subject.feed(stream[first : first + size], first)
        first += size
    return [*verdicts, *subject.feed(stream[first:], first)]


def test_the_same_rows_give_the_same_verdicts_however_chunked(
    kind: Any, seed: int, rng: np.random.Generator
) -> None:
    stream = still(rng, 6000) + shifted(rng, 3000)
    sizes: list[int] = rng.integers(1, 400, 20).tolist()
    sizes += [0, 1]
    whole = kind(np.random.default_rng(seed)).feed(stream, 0)
    assert whole
    assert in_chunks(kind(np.random.default_rng(seed)), stream, sizes) == whole


def test_a_restart_at_any_row_changes_nothing(kind: Any, seed: int, rng: np.random.Generator) -> None:
    stream = still(rng, 6000) + shifted(rng, 3000) + still(rng, 3000)
    cut = int(rng.integers(1, len(stream)))
    print(f"cut at {cut}")  # noqa: T201  # shown when a test fails, to run it again
    whole = kind(np.random.default_rng(seed)).feed(stream, 0)
    before = kind(np.random.default_rng(seed))
    verdicts = before.feed(stream[:cut], 0)
    assert [*verdicts, *before.restarted().feed(stream[cut:], cut)] == whole


def test_noise_raises_no_alarm(kind: Any, rng: np.random.Generator) -> None:
    subject = kind(rng)
    assert subject.found(in_chunks(subject, still(rng, 300_000), [5000] * 59)) == []


def test_a_plain_change_is_found_soon(kind: Any, rng: np.random.Generator) -> None:
    subject = kind(rng)
    found = subject.found(subject.feed(still(rng, kind.warm) + shifted(rng, kind.soon), 0))
    assert any(at >= kind.warm for at in found)


@pytest.mark.parametrize("bad", BAD)
def test_a_change_is_found_even_after_bad_values(kind: Any, rng: np.random.Generator, bad: float) -> None:
    dirty = still(rng, kind.warm)
    for column in vars(dirty).values():
        column[rng.integers(0, kind.warm, 5)] = bad
    subject = kind(rng)
    assert subject.found(subject.feed(dirty, 0)) == []
    found = subject.found(subject.feed(shifted(rng, kind.soon), kind.warm))
    assert any(at >= kind.warm for at in found)


def test_its_input_is_not_changed(kind: Any, rng: np.random.Generator) -> None:
    stream = still(rng, 1000)
    for column in vars(stream).values():
        column[3] = np.nan
    copy = stream[:].__class__(**{name: column.copy() for name, column in vars(stream).items()})
    kind(rng).feed(stream, 0)
    for name, column in vars(stream).items():
        assert np.array_equal(column, vars(copy)[name], equal_nan=True)


def test_a_state_that_is_none_is_refused(kind: Any, rng: np.random.Generator) -> None:
    subject = kind(rng)
    subject.feed(still(rng, 1000), 0)
    data = subject.dump()
    with pytest.raises(InvalidData, match="a detector.s state is damaged"):
        serialization.load_state(data[: len(data) // 2])


def test_the_state_stays_small(kind: Any, rng: np.random.Generator) -> None:
    subject = kind(rng)
    subject.feed(still(rng, 10 * 1024), 0)
    assert len(subject.dump()) < 100_000

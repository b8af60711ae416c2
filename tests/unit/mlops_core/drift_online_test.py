"""Drift on arrays, as a notebook uses it."""

import warnings
from collections.abc import Sequence

import numpy as np
import pytest

from driftloop.mlops_core.drift import Batch, ConceptAlarm, OnlineDrift, Opened, Profile
from driftloop.mlops_core.drift.cusum_bank import CusumBank
from driftloop.mlops_core.errors import InvalidData
from driftloop.schemas.settings import DriftSettings


def batches(rng: np.random.Generator, rows: int, shift: float = 0.0, flip: bool = False) -> Sequence[Batch]:
    scores = rng.beta(1, 4, rows)
    labels = ((rng.random(rows) < scores) != flip).astype(float)
    whole = {"x": rng.normal(shift, 1, rows)}, scores, np.arange(rows, dtype=np.int64), labels
    cuts = range(0, rows, 100)
    return [
        Batch(
            {"x": whole[0]["x"][n : n + 100]}, scores[n : n + 100], whole[2][n : n + 100], labels[n : n + 100]
        )
        for n in cuts
    ]


def watching(rng: np.random.Generator) -> OnlineDrift:
    """So sharp that a fresh seed a run meets no false alarm."""
    profile = Profile.of({"x": rng.normal(size=10_000)}, rng.beta(1, 4, 10_000))
    return OnlineDrift(profile, drift=DriftSettings(delta=1e-7))


def test_a_shift_and_a_turn_of_the_truth_are_both_found(rng: np.random.Generator) -> None:
    drift = watching(rng)
    quiet = [one for batch in batches(rng, 4000) for one in drift.update(batch)]
    assert not [one for one in quiet if isinstance(one, Opened)]
    found = [one for batch in batches(rng, 2000, shift=1.0, flip=True) for one in drift.update(batch)]
    assert [one.column for one in found if isinstance(one, Opened)] == ["x"]
    assert [one for one in found if isinstance(one, ConceptAlarm)]


def test_it_goes_on_elsewhere_as_if_nothing_had_been(rng: np.random.Generator) -> None:
    profile = Profile.of({"x": rng.normal(size=10_000)}, rng.beta(1, 4, 10_000))
    stream = [*batches(rng, 3000), *batches(rng, 2000, shift=1.0, flip=True)]
    here, there = OnlineDrift(profile), OnlineDrift(profile)
    whole = [one for batch in stream for one in here.update(batch)]
    first = [one for batch in stream[:33] for one in there.update(batch)]
    moved = OnlineDrift(profile).restore(there.state())
    assert [*first, *(one for batch in stream[33:] for one in moved.update(batch))] == whole


def test_rows_without_a_time_each_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(InvalidData, match="3 scores have 2 times"):
        watching(rng).update(Batch({"x": np.ones(3)}, np.ones(3), np.arange(2)))


def test_lists_are_as_good_as_arrays(rng: np.random.Generator) -> None:
    x, scores, late = rng.normal(size=3000), rng.random(3000), (rng.random(3000) < 0.3).astype(float)
    moments = np.arange(3000).astype("datetime64[s]")
    profile = Profile.of({"x": rng.normal(size=10_000)}, rng.random(10_000))
    arrays = Batch({"x": x}, scores, at=1000 * np.arange(3000), labels=late)
    lists = Batch(
        {"x": x.tolist()}, scores.tolist(), at=[1000 * n for n in range(3000)], labels=late.tolist()
    )
    dated = Batch({"x": x}, scores, at=moments, labels=late)
    [told, again, third] = [OnlineDrift(profile).update(one) for one in (arrays, lists, dated)]
    assert told
    assert told == again == third


def test_what_does_not_fit_together_changes_nothing(rng: np.random.Generator) -> None:
    drift, profile = watching(rng), Profile.of({"x": [1.0]}, np.ones(1))
    before = drift.state()
    for bad in (
        Batch({"x": rng.normal(size=64)}, rng.random(64), at=np.arange(64), labels=np.ones(63)),
        Batch({"x": rng.normal(size=64)}, rng.random(64), at=np.arange(63)),
        Batch({"x": rng.normal(size=64)}, rng.random(64), at=["yesterday"] * 64),
    ):
        with pytest.raises(InvalidData):
            drift.update(bad)
    assert drift.state() == before
    with pytest.raises(InvalidData, match="no 'adwn' here; possible: adwin, cusum"):
        OnlineDrift(profile, drift=DriftSettings(detector="adwn"))


def test_the_detector_that_the_settings_name_is_the_one_that_listens(rng: np.random.Generator) -> None:
    x = np.concatenate([rng.normal(size=4096), rng.normal(1, 1, 2048)])
    batch = Batch({"x": x}, rng.random(6144), at=np.arange(6144))
    profile = Profile.of({"x": rng.normal(size=10_000)}, rng.random(10_000))
    settings = DriftSettings(detector="cusum")
    named, given = (
        OnlineDrift(profile, drift=settings),
        OnlineDrift(profile, drift=settings, detector=CusumBank),
    )
    named.update(batch)
    given.update(batch)
    assert named.state() == given.state()
    assert named.state() != OnlineDrift(profile).state()


def test_a_budget_that_cannot_be_kept_is_said(rng: np.random.Generator) -> None:
    profile = Profile.of({"x": rng.normal(size=1000)}, rng.random(1000))
    with pytest.warns(UserWarning, match="`1 in 10 years at 1M rows a day` of 2 columns can't be promised"):
        drift = OnlineDrift(profile, drift=DriftSettings(false_alarms="1 in 10 years at 1M rows a day"))
    assert drift.calibration is not None
    assert not drift.calibration.kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = OnlineDrift(profile, drift=DriftSettings(false_alarms="1 in 30 days at 1000 rows a day"))
        assert OnlineDrift(profile).calibration is None
    assert kept.calibration is not None
    assert kept.calibration.kept


def test_what_is_no_state_is_refused_and_changes_nothing(rng: np.random.Generator) -> None:
    drift = watching(rng)
    state = drift.state()
    two = Profile.of({"a": rng.normal(size=99), "b": rng.normal(size=99)}, rng.random(99))
    with pytest.raises(InvalidData, match=r"it has no distribution, concept, waiting; `state\(\)` makes one"):
        drift.restore({})
    for part, wrong in {
        "distribution": state["concept"],
        "concept": state["distribution"],
        "waiting": OnlineDrift(two).state()["waiting"],
    }.items():
        others: tuple[object, ...] = (wrong, b"", None, "text", {})
        for other in others:
            with pytest.raises(InvalidData):
                drift.restore({**state, part: other})
            assert drift.state() == state

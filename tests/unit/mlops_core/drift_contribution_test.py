"""Which features make up a drift, by how far they moved and by what they matter to the model."""

import numpy as np
import pytest

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift import contribution
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.verdicts import Measured, Opened
from driftloop.mlops_core.ports import Task
from driftloop.mlops_core.training.xgboost_trainer import XGBoostTrainer
from driftloop.schemas.settings import DriftSettings
from tests.support.toy_examples import toy_examples

TRAINER = XGBoostTrainer(rounds=20, threads=1)
SURE = DriftSettings(delta=1e-8, open_severity=0.25)
"""So that a fresh seed a run meets no false alarm, after whose end the next would be the first again."""


def test_features_share_what_moves_the_model() -> None:
    examples = toy_examples()
    found = TRAINER.importance(TRAINER.fit(examples, Task.BINARY, {}), examples)
    assert set(found) == set(examples.features)
    assert abs(sum(found.values()) - 1) < 1e-6


def test_a_feature_that_no_label_depends_on_hardly_matters(rng: np.random.Generator) -> None:
    examples = toy_examples()
    noise = rng.normal(size=len(examples))
    examples.features["noise"] = noise  # type: ignore[index]  # a dict, handed out as a mapping
    found = TRAINER.importance(TRAINER.fit(examples, Task.BINARY, {}), examples)
    assert found["noise"] < max(found.values()) / 2


def test_of_two_equal_shifts_the_one_that_the_model_uses_makes_up_the_drift(rng: np.random.Generator) -> None:
    columns = {name: rng.normal(size=10_000) for name in ("idle", "vital")}
    profile = Profile.of(columns, rng.random(10_000)).with_importance({"idle": 0.1, "vital": 0.9})
    moved = {name: np.concatenate([rng.normal(size=4096), rng.normal(1, 1, 2048)]) for name in columns}
    bins = profile.bins(moved, rng.random(6144), 6144)
    verdicts = DistributionDrift(profile, DriftSettings()).update(*Summariser(3).add(bins, np.arange(6144)))
    *_, window = (one for one in verdicts if isinstance(one, Measured))
    shares = {name: column.contribution for name, column in window.columns.items()}
    assert shares["vital"] > 0.7
    assert shares["idle"] < 0.3


def test_shares_of_one_alarm_are_of_what_was_told_by_then_and_add_up_to_the_whole_at_most(
    rng: np.random.Generator,
) -> None:
    rows = 6144
    names = [f"x{number}" for number in range(12)]
    profile = Profile.of({name: rng.normal(size=10_000) for name in names}, rng.random(10_000))
    shifts = {name: rng.choice([0.4, 0.6, 1.0]) for name in names}
    begins = {name: 4096 + 32 * int(rng.integers(0, 12)) for name in names}
    moved = {name: rng.normal(size=rows) + shifts[name] * (np.arange(rows) >= begins[name]) for name in names}
    bins = profile.bins(moved, rng.random(rows), rows)
    verdicts = DistributionDrift(profile, SURE).update(*Summariser(13).add(bins, np.arange(rows)))
    alarms: dict[int, list[Opened]] = {}
    for one in verdicts:
        if isinstance(one, Opened):
            alarms.setdefault(one.index, []).append(one)
    told = [sum(one.drift.contribution for one in alarm) for alarm in alarms.values()]
    assert told[0] == pytest.approx(1.0), "the first alarm is all that is told of"
    assert max(told) < 1 + 1e-9
    assert len(alarms) > 1
    assert all(share < 1 for share in told[1:]), "what is open already has its part"


def test_without_importances_all_features_weigh_the_same(rng: np.random.Generator) -> None:
    profile = Profile.of({"a": rng.normal(size=100), "b": rng.normal(size=100)}, rng.random(100))
    assert contribution.weights(profile).tolist() == [1.0, 1.0, 0.0]


def test_where_nothing_drifts_nobody_contributes() -> None:
    assert contribution.contributions(np.zeros(3), np.ones(3)).tolist() == [0.0, 0.0, 0.0]

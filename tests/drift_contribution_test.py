"""Which features make up a drift, by how far they moved and by what they matter to the model."""

import numpy as np

from mlops_core.data.profile import Profile
from mlops_core.drift import contribution
from mlops_core.drift.distribution import DistributionDrift, Measured
from mlops_core.drift.microbatches import Summariser
from mlops_core.ports import Task
from mlops_core.training.importance import importance
from mlops_core.training.trainer import XGBoostTrainer
from schemas.settings import DriftSettings
from tests.lessons import lessons


def test_features_share_what_moves_the_model() -> None:
    examples = lessons()
    found = importance(XGBoostTrainer(rounds=20, threads=1).fit(examples, Task.BINARY, {}), examples)
    assert set(found) == set(examples.features)
    assert abs(sum(found.values()) - 1) < 1e-6


def test_a_feature_that_no_label_depends_on_hardly_matters() -> None:
    examples = lessons()
    noise = np.random.default_rng().normal(size=len(examples))
    examples.features["noise"] = noise  # type: ignore[index]  # a dict, handed out as a mapping
    found = importance(XGBoostTrainer(rounds=20, threads=1).fit(examples, Task.BINARY, {}), examples)
    assert found["noise"] < max(found.values()) / 2


def test_of_two_equal_shifts_the_one_that_the_model_uses_makes_up_the_drift() -> None:
    rng = np.random.default_rng()
    columns = {name: rng.normal(size=10_000) for name in ("idle", "vital")}
    profile = Profile.of(columns, rng.random(10_000)).weighed({"idle": 0.1, "vital": 0.9})
    moved = {name: np.concatenate([rng.normal(size=4096), rng.normal(1, 1, 2048)]) for name in columns}
    bins = profile.bins(moved, rng.random(6144), 6144)
    verdicts = DistributionDrift(profile, DriftSettings()).update(*Summariser(3).add(bins, np.arange(6144)))
    *_, window = (one for one in verdicts if isinstance(one, Measured))
    shares = {name: column.contribution for name, column in window.columns.items()}
    assert shares["vital"] > 0.7
    assert shares["idle"] < 0.3


def test_without_importances_all_features_weigh_the_same() -> None:
    rng = np.random.default_rng()
    profile = Profile.of({"a": rng.normal(size=100), "b": rng.normal(size=100)}, rng.random(100))
    assert contribution.weights(profile).tolist() == [1.0, 1.0, 0.0]


def test_where_nothing_drifts_nobody_contributes() -> None:
    assert contribution.contributions(np.zeros(3), np.ones(3)).tolist() == [0.0, 0.0, 0.0]

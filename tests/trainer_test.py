"""Fitting, and one training from examples to a candidate or a refusal."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mlops_core.data.examples import Examples, joined
from mlops_core.data.profile import Profile
from mlops_core.drift.channels import Channels
from mlops_core.drift.strata import Sum
from mlops_core.errors import BadData
from mlops_core.ports import Candidate, Task
from mlops_core.training import evaluation, fit
from mlops_core.training.fit import Champion, challenge
from mlops_core.training.trainer import XGBoostTrainer
from schemas.configs import ModelConfig
from schemas.events import GateEvidence
from schemas.settings import TrainingSettings
from tests.lessons import HOUR, lessons, request

TRAINER = XGBoostTrainer(rounds=20, threads=1)
MODEL = ModelConfig(name="flights")
SETTINGS = TrainingSettings()


def trained(
    examples: Examples, champion: Champion | None = None, model: ModelConfig = MODEL, since: int | None = None
) -> Candidate | GateEvidence:
    return challenge(request("flights", since=since), model, examples, champion, TRAINER, SETTINGS)


def candidate(examples: Examples, model: ModelConfig = MODEL, since: int | None = None) -> Candidate:
    outcome = trained(examples, model=model, since=since)
    assert isinstance(outcome, Candidate)
    return outcome


def champion(examples: Examples) -> Champion:
    return Champion("1", TRAINER.fit(examples, Task.BINARY, {}))


def test_the_same_examples_give_the_same_model() -> None:
    first, second = (TRAINER.fit(lessons(), Task.BINARY, {}).booster for _ in range(2))
    assert first == second


def test_what_can_be_learned_is_learned() -> None:
    fitted = TRAINER.fit(lessons(), Task.BINARY, {})
    fresh = lessons(seed=1)
    assert evaluation.auc(fresh.labels, TRAINER.scores(fitted, fresh)) > 0.85


def test_a_number_is_predicted_where_the_task_is_regression() -> None:
    examples = lessons()
    miles = replace(examples, labels=np.nan_to_num(examples.features["miles"]))
    found = candidate(miles, ModelConfig(name="flights", task="regression"))
    assert found.metrics["mae"] < 60
    assert set(found.metrics) == {"mae", "rmse"}


def test_hyperparameters_come_over_the_defaults() -> None:
    deep, flat = (TRAINER.fit(lessons(), Task.BINARY, {"max_depth": depth}).booster for depth in (6, 1))
    assert len(flat) < len(deep) / 3


def test_an_unknown_hyperparameter_is_named() -> None:
    with pytest.raises(BadData, match="knows no hyperparameter 'max_dept'"):
        TRAINER.fit(lessons(), Task.BINARY, {"max_dept": 3})


def test_a_hyperparameter_that_cannot_be_is_named() -> None:
    with pytest.raises(BadData, match="max_depth"):
        TRAINER.fit(lessons(), Task.BINARY, {"max_depth": "deep"})


def test_names_that_xgboost_would_not_have_are_fine() -> None:
    examples = lessons()
    renamed = replace(examples, features={"miles [<1000]": examples.features["miles"]})
    assert TRAINER.fit(renamed, Task.BINARY, {}).features.names == ("miles [<1000]",)


def test_a_first_challenger_needs_no_champion() -> None:
    assert candidate(lessons()).gate.champion is None


def test_a_champion_whose_world_turned_is_beaten() -> None:
    outcome = trained(lessons(flipped=True), champion(lessons(seed=2)))
    assert isinstance(outcome, Candidate)
    assert outcome.gate.champion == "1"
    assert outcome.gate.low is not None
    assert outcome.gate.low > 0.1


def test_a_challenger_that_learned_less_is_refused_with_the_evidence() -> None:
    outcome = trained(lessons(500), champion(lessons(20_000, seed=2)))
    assert isinstance(outcome, GateEvidence)
    assert not outcome.passed
    assert outcome.rows == 100


def test_the_newest_rows_decide_and_are_never_learned_from() -> None:
    turned = joined([lessons(1200), lessons(300, seed=3, flipped=True, first=1200)])
    assert candidate(turned).metrics["auc"] < 0.3, "it knows only the world before the last fifth"


def test_after_an_abrupt_change_the_rows_since_then_teach_more() -> None:
    turned = joined([lessons(3000), lessons(2500, seed=3, flipped=True, first=3000)])
    blurred, sharp = candidate(turned), candidate(turned, since=3000 * HOUR)
    assert blurred.metrics["auc"] < 0.6
    assert sharp.metrics["auc"] > 0.85


def test_where_nothing_changed_the_whole_window_teaches_more() -> None:
    calm = lessons(5000)
    assert candidate(calm, since=2700 * HOUR).fitted == candidate(calm).fitted


def test_too_few_rows_since_a_change_are_no_fit_of_their_own() -> None:
    assert [len(part) for part in fit.lessons(lessons(5000), since=4100 * HOUR)] == [5000]


def test_the_drift_detector_can_measure_against_the_reference_of_a_candidate() -> None:
    profile = candidate(lessons(8000)).profile
    assert Channels.of(profile).rows.tolist() == [8000, 8000, 1600, 1600, 1600]


def test_a_candidate_carries_what_the_registry_and_the_next_training_need() -> None:
    found = candidate(lessons(), ModelConfig(name="flights", hyperparameters={"max_depth": 3}))
    assert found.request == request("flights").id
    assert found.sample.shape == (5, 2)
    assert found.tags["hyperparameters"] == '{"max_depth": 3}'
    assert (found.tags["task"], found.tags["rows"], found.tags["trigger"]) == ("binary", "1500", "feature")


def test_the_reference_has_the_features_of_all_rows_and_scores_of_the_fresh_ones() -> None:
    profile: Profile = candidate(lessons()).profile
    assert profile.names == ("miles", "origin", "score", "confidence", "class")
    assert [column.rows for column in profile.columns] == [1500, 1500, 300, 300, 300]


def test_what_labels_said_of_the_fresh_rows_is_where_estimates_begin() -> None:
    found = candidate(lessons())
    assert found.profile.held_out is not None
    table = np.array(found.profile.held_out.sums)
    assert table.shape == (found.profile.score.null, len(Sum))
    assert table[:, Sum.ROWS].sum() == 300
    assert table[:, Sum.ERROR].sum() / 300 == pytest.approx(found.metrics["error"])
    assert table[:, Sum.LOSS].sum() / 300 == pytest.approx(found.metrics["brier"])


def constant_but_at_the_end(examples: Examples) -> Examples:
    labels = np.zeros(len(examples))
    labels[-50:] = 1
    return replace(examples, labels=labels)


Spoil = Callable[[Examples], Examples]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda e: e[:400], "400 labelled rows; at least 500 are needed"),
        (lambda e: replace(e, labels=np.ones(len(e))), "at least 10 rows of each class"),
        (lambda e: replace(e, labels=e.labels * 3), "labels of a class are 0 or 1; found 0, 3"),
        (lambda e: replace(e, features={}), "no features"),
        (constant_but_at_the_end, "nothing to learn: the label is 0 in each of the older 1,200 rows"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_with_the_reason(spoil: Spoil, says: str) -> None:
    with pytest.raises(BadData, match=says):
        trained(spoil(lessons()))


def test_metrics_are_those_of_the_textbook() -> None:
    labels, scores = np.array([0.0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    found = evaluation.metrics(Task.BINARY, labels, scores)
    assert found["auc"] == pytest.approx(0.75)
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)
    assert found["error"] == pytest.approx(0.5)
    assert found["log_loss"] == pytest.approx(-(np.log(0.9) + np.log(0.4)) / 2)


def test_a_certain_and_wrong_score_has_a_finite_loss() -> None:
    assert np.isfinite(evaluation.log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0])))


def test_one_class_alone_has_no_auc() -> None:
    assert "auc" not in evaluation.metrics(Task.BINARY, np.zeros(3), np.full(3, 0.2))

"""Fitting, and one training from examples to a candidate or a refusal."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from driftloop.mlops_core.data.examples import Examples, concatenate
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.channels import Channels
from driftloop.mlops_core.drift.poststratification import Sum
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Candidate, Fitted, Task
from driftloop.mlops_core.training import evaluation, fit
from driftloop.mlops_core.training.fit import Champion, train_challenger
from driftloop.mlops_core.training.xgboost_trainer import XGBoostTrainer
from driftloop.schemas.configs import ModelConfig
from driftloop.schemas.events import GateEvidence
from driftloop.schemas.settings import TrainingSettings
from tests.support.toy_examples import HOUR, request, toy_examples

TRAINER = XGBoostTrainer(rounds=20, threads=1)
MODEL = ModelConfig(name="flights")
SETTINGS = TrainingSettings()


def trained(
    examples: Examples,
    champion: Champion | None = None,
    model: ModelConfig = MODEL,
    settings: TrainingSettings = SETTINGS,
) -> Candidate | GateEvidence:
    return train_challenger(request("flights"), model, examples, champion, TRAINER, settings)


def candidate(examples: Examples, model: ModelConfig = MODEL) -> Candidate:
    outcome = trained(examples, model=model)
    assert isinstance(outcome, Candidate)
    return outcome


def scores(fitted: Fitted, examples: Examples) -> Floats:
    return TRAINER.scorer(fitted)(examples.features, len(examples))


def champion(examples: Examples) -> Champion:
    return Champion("1", TRAINER.scorer(TRAINER.fit(examples, Task.BINARY, {})))


def test_the_same_examples_give_the_same_model() -> None:
    first, second = (TRAINER.fit(toy_examples(), Task.BINARY, {}).payload for _ in range(2))
    assert first == second


def test_what_can_be_learned_is_learned() -> None:
    fitted = TRAINER.fit(toy_examples(), Task.BINARY, {})
    fresh = toy_examples(seed=1)
    assert evaluation.auc(fresh.labels, scores(fitted, fresh)) > 0.85


def test_a_number_is_predicted_where_the_task_is_regression() -> None:
    examples = toy_examples()
    miles = replace(examples, labels=np.nan_to_num(examples.features["miles"]))
    found = candidate(miles, ModelConfig(name="flights", task="regression"))
    assert found.metrics["mae"] < 60
    assert set(found.metrics) == {"mae", "rmse"}


def test_hyperparameters_come_over_the_defaults() -> None:
    deep, flat = (TRAINER.fit(toy_examples(), Task.BINARY, {"max_depth": depth}).payload for depth in (6, 1))
    assert len(flat) < len(deep) / 3


def test_an_unknown_hyperparameter_is_named() -> None:
    with pytest.raises(InvalidData, match="knows no hyperparameter 'max_dept'"):
        TRAINER.fit(toy_examples(), Task.BINARY, {"max_dept": 3})


def test_a_hyperparameter_that_cannot_be_is_named() -> None:
    with pytest.raises(InvalidData, match="max_depth"):
        TRAINER.fit(toy_examples(), Task.BINARY, {"max_depth": "deep"})


def test_names_that_xgboost_would_not_have_are_fine() -> None:
    examples = toy_examples()
    renamed = replace(examples, features={"miles [<1000]": examples.features["miles"]})
    assert TRAINER.fit(renamed, Task.BINARY, {}).features.names == ("miles [<1000]",)


def test_a_first_challenger_needs_no_champion() -> None:
    assert candidate(toy_examples()).gate.champion is None


def test_a_champion_whose_world_turned_is_beaten() -> None:
    outcome = trained(toy_examples(flipped=True), champion(toy_examples(seed=2)))
    assert isinstance(outcome, Candidate)
    assert outcome.gate.champion == "1"
    assert outcome.gate.low is not None
    assert outcome.gate.low > 0.1


def turned(rows: int = 3000, fresh: int = 2500) -> Examples:
    """The truth turned around after `rows` rows, which was `fresh` rows ago."""
    return concatenate([toy_examples(rows), toy_examples(fresh, seed=3, flipped=True, first=rows)])


def test_a_challenger_that_learned_the_opposite_is_refused_with_the_evidence() -> None:
    outcome = trained(turned(1200, 300), champion(toy_examples(20_000, seed=2, flipped=True)))
    assert isinstance(outcome, GateEvidence)
    assert not outcome.passed
    assert outcome.rows == 300


def test_the_newest_rows_decide_and_the_gate_sees_a_model_that_never_learned_from_them() -> None:
    assert candidate(turned(1200, 300)).metrics["auc"] < 0.3, "it knows only the world before the last fifth"


def test_what_is_registered_has_learned_from_the_newest_rows_too() -> None:
    found, fresh = candidate(turned(1200, 300)), toy_examples(seed=5, flipped=True)
    last_seen = trained(turned(1200, 300), settings=TrainingSettings(refit=False))
    assert isinstance(last_seen, Candidate)
    loss = [float(np.square(fresh.labels - scores(one.fitted, fresh)).mean()) for one in (found, last_seen)]
    assert loss[0] < loss[1] - 0.1


def test_the_champion_is_compared_only_on_rows_that_it_has_not_learned_from() -> None:
    rows = toy_examples(5000)
    scorer, strict = champion(rows).scorer, TrainingSettings(margin=0.004)
    assert isinstance(trained(rows, Champion("1", scorer), settings=strict), GateEvidence), (
        "a champion that has seen the answers can't be beaten"
    )
    until = int(rows.labelled_at[-101])
    found = trained(rows, Champion("1", champion(rows[:-100]).scorer, until), settings=strict)
    assert isinstance(found, Candidate)
    assert found.gate.rows == 100


def test_a_champion_that_has_learned_from_the_newest_rows_leaves_the_challenger_to_labels() -> None:
    rows = toy_examples(5000)
    found = trained(rows, Champion("1", champion(rows).scorer, learned_until=int(rows.labelled_at[-100])))
    assert isinstance(found, Candidate)
    assert found.gate.sentence.startswith(
        "passed without comparison: champion 1 was trained on all but 99 of the newest 1,000 rows"
    )
    assert (found.gate.champion, found.gate.champion_loss, found.gate.squares) == ("1", None, None)


def test_a_candidate_says_until_when_it_learned() -> None:
    rows = toy_examples()
    assert candidate(rows).tags[fit.LEARNED_UNTIL] == str(rows.labelled_at[-1])
    held_back = trained(rows, settings=TrainingSettings(refit=False))
    assert isinstance(held_back, Candidate)
    assert held_back.tags[fit.LEARNED_UNTIL] == str(rows.labelled_at[-301])


def windows(rows: int, of: Sequence[int], since: int | None = None) -> dict[str, int]:
    """Rows of each window of a request."""
    asked = request("flights", since=since).model_copy(update={"windows": of, "rows": max(of)})
    return {name: len(found) for name, found in fit.training_windows(asked, toy_examples(rows)).items()}


def test_each_window_has_its_newest_rows() -> None:
    assert windows(5000, [500, 2000]) == {"500": 500, "2000": 2000}


def test_windows_that_would_have_the_same_rows_are_one() -> None:
    assert windows(1000, [500, 2000, 9000]) == {"500": 500, "9000": 1000}


@pytest.mark.parametrize(("fresh", "fitted"), [(299, False), (300, True), (4000, True), (4001, False)])
def test_rows_since_a_change_are_a_window_if_they_can_teach_something_else(fresh: int, fitted: bool) -> None:
    assert (fit.SINCE in windows(5000, [5000], since=(5000 - fresh) * HOUR)) is fitted


def test_three_hundred_rows_since_a_change_teach_what_thousands_before_it_cannot() -> None:
    rows = turned(5000, 300)
    asked = request("flights", since=5000 * HOUR).model_copy(update={"windows": [5000]})
    found = {
        name: train_challenger(asked, MODEL, part, None, TRAINER, SETTINGS, window=name)
        for name, part in fit.training_windows(asked, rows).items()
    }
    auc, fresh = {}, toy_examples(seed=5, flipped=True)
    for name, one in found.items():
        assert isinstance(one, Candidate)
        auc[name] = evaluation.auc(fresh.labels, scores(one.fitted, fresh))
    assert found[fit.SINCE].request == f"{asked.id}/{fit.SINCE}"  # type: ignore[union-attr]
    assert auc["5000"] < 0.5
    assert auc[fit.SINCE] > 0.8


def test_the_drift_detector_can_measure_against_the_reference_of_a_candidate() -> None:
    profile = candidate(toy_examples(8000)).profile
    assert Channels.of(profile).rows.tolist() == [8000, 8000, 1600, 1600, 1600]


def test_a_candidate_carries_what_the_registry_and_the_next_training_need() -> None:
    found = candidate(toy_examples(), ModelConfig(name="flights", hyperparameters={"max_depth": 3}))
    assert found.request == f"{request('flights').id}/5000"
    assert found.sample.shape == (5, 2)
    assert found.tags["hyperparameters"] == '{"max_depth": 3}'
    assert (found.tags["task"], found.tags["rows"], found.tags["trigger"]) == ("binary", "1500", "feature")


def test_the_reference_has_the_features_of_all_rows_and_scores_of_the_fresh_ones() -> None:
    profile: Profile = candidate(toy_examples()).profile
    assert profile.names == ("miles", "origin", "score", "confidence", "class")
    assert [column.rows for column in profile.columns] == [1500, 1500, 300, 300, 300]


def test_what_labels_said_of_the_fresh_rows_is_where_estimates_begin() -> None:
    found = candidate(toy_examples())
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
    with pytest.raises(InvalidData, match=says):
        trained(spoil(toy_examples()))


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

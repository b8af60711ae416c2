"""Training and serving see the same matrix, and a row's score is its own."""

import numpy as np
import pytest

from driftloop.mlops_core.data.features import Column, FeatureSpec
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer, XGBoostTrainer
from driftloop.schemas.records import Value
from tests.support.toy_examples import toy_examples

EXAMPLES = toy_examples(800)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return XGBoostTrainer(rounds=20, threads=1).fit(EXAMPLES, Task.BINARY, {})


@pytest.fixture(scope="module")
def score(fitted: Fitted) -> XGBoostScorer:
    return XGBoostScorer(fitted)


def row(number: int) -> dict[str, Column]:
    return {name: [column[number]] for name, column in EXAMPLES.features.items()}


def test_a_row_scores_the_same_alone_and_among_others(score: XGBoostScorer) -> None:
    together = score(EXAMPLES.features, len(EXAMPLES))
    alone = [score(row(number), 1)[0] for number in range(100)]
    assert alone == together[:100].tolist()


def test_scores_are_the_same_with_any_number_of_threads(fitted: Fitted) -> None:
    one, two = (XGBoostScorer(fitted, threads)(EXAMPLES.features, len(EXAMPLES)) for threads in (1, 2))
    assert one.tolist() == two.tolist()


def test_the_trainer_and_the_scorer_agree(fitted: Fitted, score: XGBoostScorer) -> None:
    trainer = XGBoostTrainer(rounds=20, threads=1)
    assert (
        trainer.scorer(fitted)(EXAMPLES.features, len(EXAMPLES)).tolist()
        == score(EXAMPLES.features, len(EXAMPLES)).tolist()
    )


def test_lists_arrays_and_numpy_scalars_are_the_same_row(score: XGBoostScorer) -> None:
    lists: dict[str, Column] = {"miles": [700.0, 5], "origin": ["JFK", "LGA"]}
    arrays: dict[str, Column] = {
        "miles": np.array([700, 5]),
        "origin": np.array(["JFK", "LGA"], dtype=object),
    }
    assert score(lists, 2).tolist() == score(arrays, 2).tolist()


def test_the_order_in_which_columns_come_does_not_matter(score: XGBoostScorer) -> None:
    assert score({"origin": ["JFK"], "miles": [300]}, 1) == score({"miles": [300], "origin": ["JFK"]}, 1)


def test_a_known_category_makes_a_difference(score: XGBoostScorer) -> None:
    jfk, lga = score({"miles": [450, 450], "origin": ["JFK", "LGA"]}, 2)
    assert jfk > lga + 0.2


@pytest.mark.parametrize("origin", ["SFO", "", 5, float("nan"), "jfk"])
def test_a_category_never_seen_counts_as_missing(score: XGBoostScorer, origin: str | float) -> None:
    assert score({"miles": [450], "origin": [origin]}, 1) == score({"miles": [450], "origin": [None]}, 1)


@pytest.mark.parametrize("miles", ["far", float("inf"), float("-inf"), 1e308, 10**400])
def test_a_number_that_is_none_counts_as_missing(score: XGBoostScorer, miles: str | float) -> None:
    assert score({"miles": [miles], "origin": ["JFK"]}, 1) == score({"miles": [None], "origin": ["JFK"]}, 1)


def test_an_absent_column_is_missing_in_every_row(score: XGBoostScorer) -> None:
    assert score({}, 2).tolist() == score({"miles": [None, None], "origin": [None, None]}, 2).tolist()


def test_no_rows_have_no_scores(score: XGBoostScorer) -> None:
    assert score({}, 0).shape == (0,)


def test_more_categories_than_xgboost_has_bins_are_told_apart() -> None:
    names = np.array([f"c{number:03}" for number in range(400)] * 20, dtype=object)
    odd = np.array([int(name[1:]) % 2 for name in names], dtype=float)
    examples = toy_examples(len(names))
    taught = type(examples)(**{**vars(examples), "labels": odd, "features": {"name": names}})
    fitted = XGBoostTrainer(rounds=30, threads=1).fit(taught, Task.BINARY, {"eta": 0.5})
    right = (XGBoostScorer(fitted)(taught.features, len(taught)) > 0.5) == (odd > 0.5)
    assert right.mean() > 0.95


def test_bytes_that_are_no_model_are_refused(fitted: Fitted) -> None:
    with pytest.raises(ValueError, match=r"(?i)model|json|ubj"):
        XGBoostScorer(Fitted(Task.BINARY, "xgboost", b"no model", fitted.features))


def test_features_of_another_model_are_refused(fitted: Fitted) -> None:
    other = FeatureSpec.infer({"miles": [1.0]})
    with pytest.raises(ValueError, match="the model has 2 inputs, its features are 1"):
        XGBoostScorer(Fitted(Task.BINARY, "xgboost", fitted.payload, other))


def test_a_few_rows_are_encoded_as_many_are(rng: np.random.Generator) -> None:
    spec = FeatureSpec.infer({"n": [1.0], "c": ["a", "b"], "gone": [1.0]})
    n: list[Value] = [1, 2.5, None, "far", True, 1e308, float("nan"), 10**400, -0.0, -7, 0.1, 3]
    c: list[Value] = ["a", "b", None, "never", 1, 1.0, True, float("nan"), "a", "", "b", "a"]
    n, c = ([column[place] for place in rng.permutation(12)] for column in (n, c))
    assert spec.encode({"n": np.array([7])}, 1)[0, 0] == spec.encode({"n": [7]}, 1)[0, 0] == 7
    many = spec.encode({"n": n, "c": c}, 12)
    for rows in (1, 3, 8):
        few = [spec.encode({"n": n[at : at + rows], "c": c[at : at + rows]}, rows) for at in range(12 - rows)]
        for at, one in enumerate(few):
            assert one.flags.c_contiguous
            assert one.dtype == many.dtype
            np.testing.assert_array_equal(one, many[at : at + rows])

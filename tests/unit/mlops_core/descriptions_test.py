"""Features that come by themselves meet their prediction, in whatever order, and nobody waits for ever."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.data.feature_join import HORIZON_MS, MODELS, Descriptions
from driftloop.mlops_core.data.rows import RowKind, Rows


def predictions(*ids: str, version: str = "1", **features: list[float]) -> Rows:
    scores = np.arange(float(len(ids)))
    return Rows(RowKind.PREDICTIONS, "m", version, list(ids), np.arange(len(ids)), scores, features)


def described(*ids: str, **features: list[float]) -> Rows:
    nothing = np.full(len(ids), np.nan)
    return Rows(RowKind.FEATURES, "m", "", list(ids), np.arange(len(ids)), nothing, features)


def told(rows: Iterable[Rows]) -> list[tuple[str, str, object]]:
    """Id, version and its feature x of each row."""
    return [
        (id_, one.version, np.asarray(one.features["x"])[place].item() if one.features else None)
        for one in rows
        for place, id_ in enumerate(one.ids)
    ]


def test_predictions_with_features_do_not_wait() -> None:
    rows = predictions("a", "b", x=[1.0, 2.0])
    assert Descriptions().take(rows) == [rows]


def test_features_that_come_first_wait_for_their_prediction() -> None:
    met = Descriptions()
    assert met.take(described("a", "b", x=[1.0, 2.0])) == []
    assert told(met.take(predictions("b", "c", version="7"))) == [("b", "7", 2.0)]


def test_a_prediction_that_many_younger_ones_have_passed_is_given_up_without_features() -> None:
    met = Descriptions(capacity=2)
    assert met.take(predictions("a", "b")) == []
    assert told(met.take(predictions("c"))) == [("a", "1", None)]


def test_a_prediction_that_the_features_have_left_an_hour_behind_is_given_up() -> None:
    met = Descriptions()
    met.take(predictions("a"))
    soon, late = (described(*(f"{name}-{n}" for n in range(63)), x=[1.0] * 63) for name in ("soon", "late"))
    assert met.take(replace(soon, at=np.full(63, HORIZON_MS))) == []
    assert told(met.take(replace(late, at=np.full(63, HORIZON_MS + 1)))) == [("a", "1", None)]


def test_predictions_that_are_read_long_before_their_features_wait_for_them() -> None:
    met, ids = Descriptions(), [f"id-{n}" for n in range(25_000)]
    assert met.take(predictions(*ids)) == []
    assert sum(len(one) for one in met.take(described(*ids, x=[1.0] * 25_000))) == 25_000


def test_models_that_nobody_registered_fill_no_memory() -> None:
    met = Descriptions()
    for n in range(MODELS + 10):
        met.take(replace(described("a", x=[1.0]), model=f"made-up-{n}"))
    assert len(met.state()) == MODELS


def test_features_that_nobody_asks_for_fill_no_memory() -> None:
    met = Descriptions(capacity=10)
    for n in range(100):
        met.take(described(f"id-{n}", x=[1.0]))
    assert len(met.state()["m"]["apart"]["ids"]) == 10


def test_what_comes_again_when_both_have_met_is_not_counted_again() -> None:
    met = Descriptions()
    met.take(predictions("a"))
    assert len(met.take(described("a", x=[1.0]))) == 1
    met = Descriptions.restore(orjson.loads(orjson.dumps(met.state())))
    assert met.take(predictions("a")) + met.take(described("a", x=[1.0])) == []
    assert not met.state()["m"]["bare"]
    assert not met.state()["m"]["apart"]["ids"]


def test_a_repeated_prediction_counts_once() -> None:
    met = Descriptions()
    met.take(predictions("a", "a"))
    assert told(met.take(described("a", "a", x=[1.0, 9.0]))) == [("a", "1", 1.0)]


@given(st.permutations(range(12)), st.integers(0, 11))
@pytest.mark.parametrize("restart", [False, True])
def test_everybody_meets_once_in_whatever_order_and_across_a_restart(
    restart: bool, order: list[int], cut: int
) -> None:
    arrivals = [predictions(f"id-{n}", version=str(n % 2)) for n in range(6)]
    arrivals += [described(f"id-{n}", x=[float(n)]) for n in range(6)]
    met, found = Descriptions(), list[Rows]()
    for place, which in enumerate(order):
        if restart and place == cut:
            met = Descriptions.restore(orjson.loads(orjson.dumps(met.state())))
        found += met.take(arrivals[which])
    assert sorted(told(found)) == [(f"id-{n}", str(n % 2), float(n)) for n in range(6)]

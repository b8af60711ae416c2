"""Batches with numpy columns: built, cut by partition, and encoded like those with lists."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from driftloop.schemas.records import FeatureBatch, LabelBatch, PredictionBatch
from driftloop.streams.wire import codec
from driftloop.streams.wire.batches import partition_of, split_by_partition

LISTS: dict[str, Any] = {
    "model": "m",
    "version": "1",
    "ids": ["a", "b", "c"],
    "at": [1, 2, 3],
    "scores": [0.5, 0.25, 1.0],
    "features": {"x": [1.5, None, 2.5], "n": [1, 2, 3], "city": ["JFK", None, "LGA"]},
}
ARRAYS: dict[str, Any] = {
    **LISTS,
    "at": np.array([1, 2, 3]),
    "scores": np.array([0.5, 0.25, 1.0]),
    "features": {
        "x": np.array([1.5, np.nan, 2.5]),
        "n": np.array([1, 2, 3], dtype=np.int32),
        "city": np.array(["JFK", None, "LGA"], dtype=object),
    },
}


def test_arrays_and_lists_make_the_same_message() -> None:
    lists, arrays = (codec.encode(PredictionBatch(**columns)) for columns in (LISTS, ARRAYS))
    assert orjson.loads(arrays) == orjson.loads(lists)


def test_every_second_row_of_an_array_is_encoded_as_any_other() -> None:
    batch = LabelBatch(model="m", ids=["a", "b"], at=np.arange(4)[::2], labels=np.arange(4.0)[::2])
    assert orjson.loads(codec.encode(batch))["labels"] == [0.0, 2.0]


def test_numbers_that_are_none_are_null() -> None:
    x = np.array([np.inf, np.nan, -np.inf])
    batch = FeatureBatch(model="m", ids=["a", "b", "c"], at=[1, 2, 3], features={"x": x, "y": x.tolist()})
    assert orjson.loads(codec.encode(batch))["features"] == {"x": [None] * 3, "y": [None] * 3}


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ({"scores": np.array([0.5, np.nan, 1])}, r"scores.1\n.*finite"),
        ({"at": np.array([1, -2, 3])}, r"at.1\n.*greater than or equal to 0"),
        ({"at": np.array([1.5, 2, 3])}, r"at.0\n.*fractional"),
        ({"at": np.array([1, 2, 3])[:2]}, "'at' has 2 rows, ids has 3"),
        ({"features": {"x": np.ones((3, 1))}}, "features.x.0"),
        ({"ids": ["a", "", "c"]}, r"ids.1\n.*at least 1"),
        ({"ids": ["a", "x" * 201, "c"]}, r"ids.1\n.*at most 200"),
        ({"entities": ["a", 1, "c"]}, r"entities.1\n.*string"),
    ],
)
def test_a_column_that_is_wrong_says_where(bad: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        PredictionBatch(**{**ARRAYS, **bad})


def test_a_batch_does_not_change_with_the_list_it_was_made_of() -> None:
    ids = ["a", "b"]
    batch = LabelBatch(model="m", ids=ids, at=[1, 2], labels=[0.0, 1.0])
    ids.append("c")
    assert len(batch) == 2


@pytest.mark.parametrize("columns", [LISTS, ARRAYS], ids=["lists", "arrays"])
@pytest.mark.parametrize("partitions", [1, 2, 3, 50])
def test_each_part_has_the_rows_whose_ids_belong_there(columns: dict[str, Any], partitions: int) -> None:
    parts = split_by_partition(PredictionBatch(**columns), partitions)
    read = [(p, codec.decode_record(codec.encode(part))) for p, part in parts]
    rows = {
        one: (p, part.at[n], part.scores[n], {name: column[n] for name, column in part.features.items()})
        for p, part in read
        if isinstance(part, PredictionBatch)
        for n, one in enumerate(part.ids)
    }
    scores, features = LISTS["scores"], LISTS["features"]
    assert rows == {
        one: (
            partition_of(one, partitions),
            n + 1,
            scores[n],
            {k: v[n] for k, v in features.items()},
        )
        for n, one in enumerate("abc")
    }


@given(st.lists(st.text(min_size=1, max_size=5), max_size=50), st.integers(1, 9))
def test_rows_keep_their_order_and_none_is_lost(ids: list[str], partitions: int) -> None:
    batch = LabelBatch(model="m", ids=ids, at=np.arange(len(ids)), labels=np.zeros(len(ids)))
    parts = dict(split_by_partition(batch, partitions))
    assert {p: list(part.ids) for p, part in parts.items()} == {
        p: [one for one in ids if partition_of(one, partitions) == p]
        for p in {partition_of(one, partitions) for one in ids}
    }

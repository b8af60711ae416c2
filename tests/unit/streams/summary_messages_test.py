"""What one stage hands to the next is taken column by column, and what is wrong with it is refused."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.schemas.records import Value
from driftloop.schemas.summaries import LabelledExamples, Outcomes
from driftloop.streams.processing.decoding import stage_decoder
from driftloop.streams.wire import codec

GOOD: Mapping[str, Any] = {
    "model": "flights",
    "span": {"topic": "labels", "partition": 1, "first": 3, "last": 4},
    "ids": ["a", "b"],
    "versions": ["7", "8"],
    "scores": [0.25, None],
    "labels": [1.0, 0.0],
    "at": [1, 2],
    "labelled_at": [5, 6],
    "features": {"miles": [700.5, None], "origin": ["JFK", 3]},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def read(fields: Mapping[str, Any]) -> LabelledExamples:
    return stage_decoder(LabelledExamples)(orjson.dumps(fields))


def test_what_is_right_is_read_as_it_was_said() -> None:
    said = read(GOOD)
    assert said.model_dump() == GOOD
    assert orjson.loads(codec.encode(said)) == GOOD


def test_whole_numbers_are_numbers() -> None:
    assert read({**GOOD, "labels": [1, 0], "scores": [1, 0]}).scores == [1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("ids", ["a", None]),
        ("ids", ["a", 7]),
        ("ids", ["a"]),
        ("versions", "78"),
        ("versions", ["7", "8", "9"]),
        ("scores", [0.5, "much"]),
        ("labels", [1.0, None]),
        ("labels", None),
        ("at", [1, 2.5]),
        ("at", [1, -2]),
        ("labelled_at", [1, 1 << 53]),
        ("features", {"miles": [700.5]}),
        ("features", {"miles": [700.5, [1]]}),
        ("features", [1, 2]),
    ],
)
def test_what_is_wrong_is_refused(name: str, column: object) -> None:
    with pytest.raises(codec.Unreadable, match="invalid"):
        read({**GOOD, name: column})


def test_an_absent_column_is_refused() -> None:
    for name in GOOD:
        with pytest.raises(codec.Unreadable, match="invalid"):
            read({key: value for key, value in GOOD.items() if key != name})


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_whatever_stands_in_a_column_is_read_or_refused(name: str, column: object) -> None:
    try:
        said = read({**GOOD, name: column})
    except codec.Unreadable:
        return
    assert {len(values) for values in (said.ids, said.versions, said.scores, said.labels, said.at)} == {2}
    assert all(type(score) in (float, type(None)) for score in said.scores)
    assert all(type(label) is float for label in said.labels)
    assert all(type(at) is int and at >= 0 for at in [*said.at, *said.labelled_at])
    assert all(isinstance(value, Value) for values in said.features.values() for value in values)


def test_outcomes_are_examples_without_their_features() -> None:
    assert stage_decoder(Outcomes)(orjson.dumps(GOOD)).labels == [1.0, 0.0]

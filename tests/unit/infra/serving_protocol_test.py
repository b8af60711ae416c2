"""What clients send is read in full or refused with the place of what is wrong."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.infra.serving import protocol
from driftloop.infra.serving.asgi import Refused
from driftloop.infra.serving.protocol import Rows, Scored

NOW = 1_700_000_000_000
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), finite, st.text())
names = st.text(min_size=1, max_size=8).filter(lambda name: name not in protocol.RESERVED)
texts = st.text(min_size=1, max_size=20)
envelopes = st.tuples(texts, st.none() | st.text(), st.integers(0, 2**53 - 1))


def predict(**changes: object) -> bytes:
    row = {"id": "a", "entity": "e", "at": 5, "features": {"miles": 3, "origin": "JFK"}}
    return json.dumps({"model": "m", "rows": [row, {**row, "id": "b"} | changes]}).encode()


def infer(*tensors: Mapping[str, object], **more: object) -> bytes:
    return json.dumps({"inputs": list(tensors), **more}).encode()


MILES: dict[str, object] = {"name": "miles", "datatype": "FP64", "shape": [2], "data": [1.5, None]}


def test_rows_become_columns() -> None:
    rows = protocol.read_predict(predict(features={"miles": None, "late": True}), NOW)
    assert rows == Rows(
        "m",
        ["a", "b"],
        ["e", "e"],
        [5, 5],
        {"miles": [3, None], "origin": ["JFK", None], "late": [None, True]},
    )


def test_a_missing_id_is_generated_and_a_missing_time_is_now() -> None:
    rows = protocol.read_predict(b'{"model": "m", "rows": [{"features": {"x": 1}}, {"features": {}}]}', NOW)
    assert rows.at == [NOW, NOW]
    assert len(set(rows.ids)) == 2
    assert rows.keys == rows.ids


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"{", "not JSON"),
        (b"[]", "object"),
        (b'{"rows": []}', "model"),
        (b'{"model": "m", "rows": []}', "rows"),
        (b'{"model": "m", "rows": [{}]}', r"rows\[0\]"),
        (predict(features={"miles": [1]}), r"rows\[1\].features.miles"),
        (predict(id=7), r"rows\[1\].id"),
        (predict(id=""), r"rows\[1\].id"),
        (predict(entity=7), r"rows\[1\].entity"),
        (predict(at="yesterday"), r"rows\[1\].at"),
        (predict(at=-1), r"rows\[1\].at"),
    ],
)
def test_bad_rows_are_refused_with_their_place(body: bytes, place: str) -> None:
    with pytest.raises(Refused, match=place) as refused:
        protocol.read_predict(body, NOW)
    assert 400 <= refused.value.status < 500


def test_tensors_become_columns() -> None:
    origin = {"name": "origin", "datatype": "BYTES", "shape": [2, 1], "data": [["JFK"], ["LGA"]]}
    ids = {"name": "id", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
    body = infer(MILES, origin, ids, parameters={"entity": "e", "at": 5}, id="request-1")
    rows, request = protocol.read_infer("m", body, NOW)
    assert rows == Rows("m", ["a", "b"], ["e", "e"], [5, 5], {"miles": [1.5, None], "origin": ["JFK", "LGA"]})
    assert request == "request-1"


def test_one_id_for_many_rows_is_given_to_none_of_them() -> None:
    rows, _ = protocol.read_infer("m", infer(MILES, parameters={"id": "a"}), NOW)
    assert len(set(rows.ids)) == 2
    assert "a" not in rows.ids


@pytest.mark.parametrize(
    ("tensor", "place"),
    [
        ({"data": [1.0]}, "shape"),
        ({"data": [[1.0, 2.0], [3.0, 4.0]]}, "one value a row"),
        ({"data": "binary"}, "list"),
        ({"data": ["far", 1.0]}, "row 0"),
        ({"datatype": "COMPLEX"}, "COMPLEX"),
        ({"name": 3}, "name"),
        ({"data": [1.0], "shape": [1]}, "first input has 2"),
    ],
)
def test_bad_tensors_are_refused_with_their_place(tensor: dict[str, object], place: str) -> None:
    second = {**MILES, "name": "hours", **tensor}
    with pytest.raises(Refused, match=place):
        protocol.read_infer("m", infer(MILES, second), NOW)


@given(texts, st.lists(envelopes, min_size=1, max_size=5), st.data())
def test_rows_that_are_sent_on_arrive_as_they_were(
    model: str, given: list[tuple[str, str | None, int]], data: st.DataObject
) -> None:
    column = st.lists(values, min_size=len(given), max_size=len(given))
    features = data.draw(st.dictionaries(names, column, max_size=4))
    ids, entities, at = (list(column) for column in zip(*given, strict=True))
    rows = Rows(model, ids, entities, at, features)
    assert protocol.read_infer(model, protocol.write_infer(rows), NOW) == (rows, None)


def test_an_answer_by_several_versions_names_each_rows_version() -> None:
    answer = protocol.infer_answer(Scored("m", ["a", "b"], ["1", "2"], [0.25, 0.5]), "request-1")
    assert "model_version" not in answer
    assert answer["id"] == "request-1"
    outputs = answer["outputs"]
    assert isinstance(outputs, list)
    assert [one["data"] for one in outputs] == [[0.25, 0.5], ["a", "b"], ["1", "2"]]

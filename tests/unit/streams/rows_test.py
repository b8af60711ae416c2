"""The fast way through a chunk: what is read, what is refused, and that pydantic would say the same."""

import json
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop.mlops_core.data.rows import RowKind, Rows
from driftloop.schemas.records import AnyRecord, FeatureRow, Label, Prediction
from driftloop.streams.records import ConsumerRecord
from driftloop.streams.wire import codec, rows

EVENT: dict[str, Any] = {
    "type": "prediction",
    "model": "m",
    "version": "1",
    "id": "a",
    "at": 1,
    "score": 0.5,
    "features": {"x": 1.5, "city": "JFK"},
}
BATCH: dict[str, Any] = {
    "type": "predictions",
    "model": "m",
    "version": "1",
    "ids": ["a", "b", "c"],
    "at": [1, 2, 3],
    "scores": [0.5, 0.25, 1],
    "features": {"x": [1, None, 2.5], "city": ["JFK", None, "LGA"]},
}


def records(*messages: object) -> list[ConsumerRecord]:
    values = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in messages]
    return [ConsumerRecord(offset, 1, None, value, {}) for offset, value in enumerate(values)]


def decode(*messages: object) -> rows.DecodedChunk:
    return rows.decode_records(records(*messages))


def test_events_of_one_model_version_and_set_of_features_are_one_run() -> None:
    turned = {**EVENT, "id": "b", "features": {"city": None, "x": 2}}
    [run] = decode(EVENT, turned).runs
    assert (run.rows.kind, run.rows.model, run.rows.version) == (RowKind.PREDICTIONS, "m", "1")
    assert (run.rows.ids, run.rows.at.tolist(), run.rows.values.tolist()) == (["a", "b"], [1, 1], [0.5, 0.5])
    assert np.asarray(run.rows.features["x"]).tolist() == [1.5, 2.0]
    assert run.rows.features["city"] == ["JFK", None]


def test_two_versions_that_alternate_are_two_runs() -> None:
    found = decode(*({**EVENT, "id": str(n), "version": str(n % 2)} for n in range(10)))
    assert [list(run.places) for run in found.runs] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_an_id_that_comes_twice_keeps_its_order_across_runs() -> None:
    messages = [{**EVENT, "id": one, "version": version} for one, version in ("a1", "b1", "a2", "c1", "d1")]
    found = decode(*messages)
    assert [(run.rows.version, list(run.rows.ids)) for run in found.runs] == [
        ("1", ["a", "b"]),
        ("2", ["a"]),
        ("1", ["c", "d"]),
    ]


def test_a_batch_is_a_run_with_the_place_of_its_record() -> None:
    found = decode(EVENT, BATCH)
    assert [(list(run.places), len(run.rows)) for run in found.runs] == [([0], 1), ([1], 3)]
    assert np.isnan(np.asarray(found.runs[1].rows.features["x"])).tolist() == [False, True, False]


def test_a_bad_event_costs_its_neighbours_nothing() -> None:
    messages = [{**EVENT, "id": str(n), "score": "?" if n == 7 else n} for n in range(20)]
    found = decode(*messages)
    assert [one.place for one in found.invalid] == [7]
    assert "score" in found.invalid[0].detail
    assert [list(run.rows.ids) for run in found.runs] == [[str(n) for n in range(20) if n != 7]]


def test_a_bad_row_of_a_batch_is_singled_out_and_the_others_go_on() -> None:
    bad = {**BATCH, "scores": [0.5, None, 1], "at": [1, 2, -3]}
    found = decode(bad)
    assert [(one.row, one.reason) for one in found.invalid] == [(1, "invalid"), (2, "invalid")]
    assert "scores.1" in found.invalid[0].detail
    assert [list(run.rows.ids) for run in found.runs] == [["a"]]


def test_a_bad_row_can_be_mended_and_sent_again_as_a_single_event() -> None:
    [refused] = decode({**BATCH, "scores": [0.5, None, 1]}).invalid
    event = orjson.loads(refused.value or b"")
    assert codec.validate_record({**event, "score": 0.25}) == Prediction(
        model="m", version="1", id="b", at=2, score=0.25, features={"x": None, "city": None}
    )


@pytest.mark.parametrize(
    "broken",
    [
        {"at": [1, 2]},
        {"model": ""},
        {"features": {"x": [1]}},
        {"features": None},
        {"scores": "0.5"},
        {"entities": [None]},
        {"scores": [None, 1, 2], "at": [1, 2]},
    ],
)
def test_a_batch_that_is_broken_as_a_whole_is_refused_as_a_whole(broken: dict[str, Any]) -> None:
    found = decode({**BATCH, **broken})
    assert [(one.place, one.row, one.reason) for one in found.invalid] == [(0, None, "invalid")]
    assert found.runs == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (b"{", "malformed"),
        (b"[1]", "malformed"),
        (b'{"type": "nonsense"}', "invalid"),
        (b'{"type": ["prediction"]}', "invalid"),
        (b'{"type": "label", "schema_version": 2}', "future schema"),
        (b'{"type": "labels", "schema_version": 2}', "future schema"),
        (b'{"type": "label", "model": "m", "id": "a", "at": 1, "label": 1e400}', "malformed"),
    ],
)
def test_what_cant_be_read_keeps_its_reason(value: bytes, reason: str) -> None:
    found = decode(value, EVENT)
    assert [(one.place, one.reason) for one in found.invalid] == [(0, reason)]
    assert len(found.runs) == 1


ODD = st.sampled_from(
    [None, True, False, 0, 1, -1, 2**53, 2**63, 2**64 - 1, 10**30, 0.0, 1.0, 1.5, 1e308, "", "1", "é" * 200]
) | st.sampled_from(["x" * 201, [], [1], {}, {"a": 1}, "true", "5.0", -0.0])
GOOD_NAME = st.sampled_from(["a", "b", "ü", "5"])
NAME = GOOD_NAME | ODD
AT = st.integers(0, 2**53 - 1) | st.sampled_from([0, 1, 1.0, "5", 2**53])
NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5)
VALUE = NUMBER | st.none() | st.booleans() | st.sampled_from(["JFK", "1", ""])


def often(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is usual, so that the fast way is taken and left."""
    return st.integers(0, 19).flatmap(lambda n: odd if n == 0 else usual)


FEATURES = often(
    st.fixed_dictionaries({"x": often(NUMBER, VALUE), "city": often(st.sampled_from(["JFK", "LGA"]), ODD)})
    | st.dictionaries(st.sampled_from(["x", "y", "city"]), often(VALUE, ODD), max_size=3),
    ODD,
)
MORE = often(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "schema_version": st.sampled_from([1, True, 1.0, 2, 0, "1", None]),
            "entity": ODD,
            "entities": ODD | st.lists(st.none() | GOOD_NAME, max_size=3),
            "region": ODD,
            "type": ODD,
        },
    ),
)


@st.composite
def singles(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["prediction", "prediction", "features", "label"]))
    event: dict[str, Any] = {
        "type": kind,
        "model": draw(often(st.just("m"), NAME)),
        "id": draw(often(GOOD_NAME, NAME)),
        "at": draw(often(AT, ODD)),
    }
    if kind == "prediction":
        event |= {"version": draw(often(st.just("1"), NAME)), "score": draw(often(NUMBER, ODD))}
    if kind == "label":
        event["label"] = draw(often(NUMBER, ODD))
    if kind != "label":
        event["features"] = draw(FEATURES)
    return {**lacking(draw, event), **draw(MORE)}


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    kind, rows = draw(st.sampled_from(["predictions", "feature_rows", "labels"])), draw(st.integers(0, 4))

    def column(usual: st.SearchStrategy[Any]) -> Any:
        length = draw(often(st.just(rows), st.integers(0, 5)))
        return draw(often(st.lists(often(usual, ODD), min_size=length, max_size=length), ODD))

    batch: dict[str, Any] = {"type": kind, "model": draw(often(st.just("m"), NAME)), "ids": column(GOOD_NAME)}
    batch["at"] = column(AT)
    if kind == "predictions":
        batch |= {"version": draw(often(st.just("1"), NAME)), "scores": column(NUMBER)}
    if kind == "labels":
        batch["labels"] = column(NUMBER)
    if kind != "labels":
        batch["features"] = draw(often(st.just({"x": column(VALUE), "city": column(VALUE)}), ODD))
    return {**lacking(draw, batch), **draw(MORE)}


def lacking(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    missing = draw(often(st.none(), st.sampled_from(sorted(fields))))
    return {name: value for name, value in fields.items() if name != missing}


def plainly(number: int, record: AnyRecord) -> Iterator[tuple[object, ...]]:
    """A record's rows one by one: place, kind, model, version, id, at, value, features."""
    version = getattr(record, "version", "")
    if isinstance(record, Prediction | FeatureRow | Label):
        kind = {"prediction": "predictions", "features": "feature_rows", "label": "labels"}[record.type]
        value = record.score if isinstance(record, Prediction) else getattr(record, "label", None)
        features = getattr(record, "features", {})
        yield number, kind, record.model, version, record.id, record.at, value, told(features.items())
        return
    values = getattr(record, "scores", getattr(record, "labels", [None] * len(record)))
    for row, (one, at, value) in enumerate(zip(record.ids, record.at, values, strict=True)):
        features = {name: column[row] for name, column in getattr(record, "features", {}).items()}
        yield number, record.type, record.model, version, one, at, value, told(features.items())


def rowwise(run: rows.RowRun) -> Iterator[tuple[object, ...]]:
    found: Rows = run.rows
    columns = {name: np.asarray(c, dtype=object).tolist() for name, c in found.features.items()}
    for row, one in enumerate(found.ids):
        place = run.places[row] if len(run.places) == len(found) else run.places[0]
        value = None if np.isnan(found.values[row]) else float(found.values[row])
        features = told((name, column[row]) for name, column in columns.items())
        at = int(found.at[row])
        yield place, found.kind.value, found.model, found.version, one, at, value, features


def told(features: Any) -> tuple[tuple[str, object], ...]:
    """Features in a form in which 1 and 1.0 are the same, NaN is null, and True is neither."""

    def plain(value: object) -> object:
        if isinstance(value, bool | str) or value is None:
            return repr(value)
        return repr(None) if value != value else float(value)  # type: ignore[arg-type]  # a number it is

    return tuple((name, plain(value)) for name, value in sorted(features, key=itemgetter(0)))


@settings(max_examples=200)
@given(st.lists(often(singles(), batches() | ODD), max_size=12) | st.lists(batches(), max_size=3))
def test_the_fast_way_and_the_models_accept_the_same_and_read_the_same(messages: Sequence[object]) -> None:
    found = decode(*messages)
    expected: list[tuple[object, ...]] = []
    wrong: dict[int, tuple[str, str]] = {}
    for number, record in enumerate(records(*messages)):
        try:
            expected += plainly(number, codec.decode_record(record.value))
        except codec.Unreadable as error:
            wrong[number] = (error.reason, error.detail)
    salvaged = {one.place for one in found.invalid if one.row is not None}
    read = [row for run in found.runs for row in rowwise(run)]
    assert sorted(map(repr, (row for row in read if row[0] not in salvaged))) == sorted(map(repr, expected))
    assert {one.place for one in found.invalid} == set(wrong)
    assert {one.place: (one.reason, one.detail) for one in found.invalid if one.row is None} == {
        place: why for place, why in wrong.items() if place not in salvaged
    }


@given(st.lists(batches(), max_size=2))
def test_rows_of_a_batch_are_read_or_refused_and_never_lost(messages: Sequence[dict[str, Any]]) -> None:
    found = decode(*messages)
    for place, message in enumerate(messages):
        refused = [one for one in found.invalid if one.place == place]
        if all(one.row is not None for one in refused):
            read = sum(len(run.rows) for run in found.runs if list(run.places) == [place])
            assert read + len(refused) == len(message["ids"])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12"), st.booleans()), max_size=20))
def test_rows_of_an_id_come_in_their_order(chosen: Sequence[tuple[str, str, bool]]) -> None:
    messages = [{**EVENT, "id": one, "version": v, "at": n} for n, (one, v, _) in enumerate(chosen)]
    for message, (_, _, bare) in zip(messages, chosen, strict=True):
        if bare:
            del message["features"]
    read = [
        (one, int(at))
        for run in decode(*messages).runs
        for one, at in zip(run.rows.ids, run.rows.at, strict=True)
    ]
    for one in "abc":
        assert [at for name, at in read if name == one] == [
            n for n, (name, _, _) in enumerate(chosen) if name == one
        ]


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_at_all_raise(values: Sequence[bytes]) -> None:
    found = rows.decode_records([ConsumerRecord(n, 1, None, value, {}) for n, value in enumerate(values)])
    assert len(found.invalid) == len(values)


@pytest.mark.parametrize(
    "more", [{"schema_version": 0, "features": "é"}, {"features": "é", "labels": [1, None]}]
)
def test_what_a_batch_has_besides_changes_nothing_about_its_rows(more: dict[str, Any]) -> None:
    labels = {"type": "labels", "model": "m", "ids": ["a", "b"], "at": [1, 2], "labels": [1, 0], **more}
    found = decode(labels)
    assert [one.reason for one in found.invalid] == ["invalid"]
    assert len(found.runs) == (0 if "schema_version" in more else 1)

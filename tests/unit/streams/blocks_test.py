"""A batch whose numbers travel as one block is the batch that columnar JSON would be."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.data.categorical import Categorical
from driftloop.mlops_core.data.features import Column, Kind
from driftloop.mlops_core.data.profile import ColumnProfile
from driftloop.schemas.records import Batch, FeatureBatch, LabelBatch, PredictionBatch
from driftloop.streams.producer import serializer
from driftloop.streams.records import ConsumerRecord
from driftloop.streams.wire import blocks, codec, rows
from driftloop.streams.wire.batches import split_by_partition
from driftloop.streams.wire.blocks import MAGIC, MIN_ROWS, Block
from tests.support.paths import GOLDEN

BATCH = PredictionBatch(
    model="m",
    version="1",
    ids=["a", "b", "c", "d"],
    at=[1, 2, 3, 1 << 50],
    entities=["x", None, "y", "x"],
    scores=[0.5, 0.25, 1.0, 0.0],
    features={
        "miles": [1.5, None, 2, 10**17],
        "city": ["JFK", None, "JFK", None],
        "first": [True, 0, 1, False],
        "odd": ["1", 1, None, True],
        "never": [None] * 4,
        "array": np.array([1, np.nan, np.inf, -0.0]),
        "whole": np.array([1, 2, 3, 4], dtype=np.int16),
    },
)

NUMBERS = st.floats(allow_nan=False) | st.integers(-(2**53), 2**53)
COLUMNS = st.sampled_from(
    [NUMBERS, NUMBERS | st.none(), st.booleans(), st.sampled_from(["a", "b", None]), st.text(max_size=3)]
) | st.just(NUMBERS | st.text() | st.booleans() | st.none())


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    size = draw(st.integers(1, 12))

    def column(values: st.SearchStrategy[Any]) -> Any:
        return draw(st.lists(values, min_size=size, max_size=size))

    shared = {
        "model": draw(st.text(min_size=1, max_size=3)),
        "ids": column(st.text(min_size=1, max_size=3)),
        "at": column(st.integers(0, 2**53 - 1)),
    }
    values = column(st.floats(allow_nan=False, allow_infinity=False))
    if draw(st.booleans()):
        return LabelBatch(**shared, labels=values)
    names = draw(st.lists(st.text(max_size=3), max_size=4, unique=True))
    features = {name: column(draw(COLUMNS)) for name in names}
    if draw(st.booleans()):
        return FeatureBatch(**shared, features=features)
    return PredictionBatch(**shared, version="1", scores=np.array(values), features=features)


def read(value: bytes) -> rows.DecodedChunk:
    return rows.decode_records([ConsumerRecord(0, 1, None, value, {})])


def listed(column: Column) -> list[Any]:
    """A column without the difference between its kinds: what is missing is NaN in one, None in another."""
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    return ["missing" if value is None or value != value else value for value in values]


def said(found: rows.DecodedChunk) -> list[object]:
    """Everything in what was decoded."""
    assert found.invalid == []
    return [
        (
            run.rows.kind,
            run.rows.model,
            run.rows.version,
            list(run.rows.ids),
            run.rows.at.tolist(),
            listed(run.rows.values),
            {name: listed(column) for name, column in run.rows.features.items()},
        )
        for run in found.runs
    ]


@given(batches())
def test_a_block_has_the_rows_that_columnar_json_has(batch: Batch) -> None:
    assert said(read(Block.from_batch(batch).encode())) == said(read(codec.encode(batch)))


@given(batches())
def test_a_block_is_the_same_record(batch: Batch) -> None:
    again, plainly = (
        codec.decode_record(value) for value in (Block.from_batch(batch).encode(), codec.encode(batch))
    )
    assert codec.encode(again) == codec.encode(codec.decode_record(Block.from_batch(batch).encode()))
    assert said(read(codec.encode(again))) == said(read(codec.encode(plainly)))


@given(batches(), st.integers(1, 4))
def test_parts_of_a_block_are_the_parts_of_the_batch(batch: Batch, partitions: int) -> None:
    parts = {p: read(part.encode()) for p, part in split_by_partition(Block.from_batch(batch), partitions)}
    plain = {p: read(codec.encode(part)) for p, part in split_by_partition(batch, partitions)}
    assert {p: said(one) for p, one in parts.items()} == {p: said(one) for p, one in plain.items()}


def test_every_kind_of_column_comes_through() -> None:
    [run] = read(Block.from_batch(BATCH).encode()).runs
    assert {name: listed(column) for name, column in run.rows.features.items()} == {
        "miles": [1.5, "missing", 2.0, 1e17],
        "city": ["JFK", "missing", "JFK", "missing"],
        "first": [True, 0, 1, False],
        "odd": ["1", 1, "missing", True],
        "never": ["missing"] * 4,
        "array": [1.0, "missing", "missing", 0.0],
        "whole": [1.0, 2.0, 3.0, 4.0],
    }
    assert isinstance(run.rows.features["city"], Categorical)


def test_blocks_that_were_written_before_are_still_read() -> None:
    assert said(read((GOLDEN / "PredictionBatch.block").read_bytes())) == said(read(codec.encode(BATCH)))


def test_a_bad_row_of_a_block_is_singled_out_as_one_of_json_is() -> None:
    columns = {**vars(BATCH), "scores": np.array([0.5, np.nan, 1, 0]), "at": [1, 2, -3, 4]}
    bad = PredictionBatch.model_construct(**columns)
    block, plain = (read(value) for value in (Block.from_batch(bad).encode(), codec.encode(bad)))
    assert [(one.row, one.reason, one.detail) for one in block.invalid] == [
        (one.row, one.reason, one.detail) for one in plain.invalid
    ]
    assert [orjson.loads(one.value or b"")["id"] for one in block.invalid] == ["b", "c"]
    assert [list(run.rows.ids) for run in block.runs] == [["a", "d"]]


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value[:-1],
        lambda value: value + b"\0" * 8,
        lambda value: value[: len(MAGIC)],
        lambda value: value[: len(MAGIC)] + b"\xff" * 20,
        lambda value: value.replace(b'"codes":0}', b'"codes":9}'),
        lambda value: value.replace(b'"codes":0}', b'"codes":-1'),
        lambda value: value.replace(b'"miles":2', b'"miles":8'),
        lambda value: value.replace(b'["JFK",null]', b"[         9]"),
        lambda value: value.replace(b'["JFK",null]', b'["JFK"     ]'),
        lambda value: value.replace(b'"rows":4', b'"rows":3'),
    ],
)
def test_a_block_that_is_broken_is_malformed(change: Any) -> None:
    value = Block.from_batch(BATCH).encode()
    broken = change(value)
    assert broken != value
    assert [(one.reason, one.row) for one in read(broken).invalid] == [("malformed", None)]


@given(st.data())
def test_nothing_that_begins_as_a_block_breaks_the_reader(data: st.DataObject) -> None:
    value = bytearray(Block.from_batch(BATCH).encode())
    head = len(MAGIC) + 4 + int.from_bytes(value[len(MAGIC) : len(MAGIC) + 4], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(len(MAGIC), head - 1) | st.integers(len(MAGIC), len(value) - 1))
        value[place] = data.draw(st.integers(0, 255))
    read(bytes(value))
    read(MAGIC + data.draw(st.binary(max_size=60)))


def test_many_rows_travel_as_a_block_and_few_as_json() -> None:
    def sent(count: int) -> list[bytes]:
        ids = [str(one) for one in range(count)]
        batch = LabelBatch(model="m", ids=ids, at=list(range(count)), labels=[0.5] * count)
        return [message.value for message in serializer.producer_records(batch, "labels", partitions=3)]

    assert all(value.startswith(MAGIC) for value in sent(MIN_ROWS))
    assert all(value.startswith(b"{") for value in sent(MIN_ROWS - 1))


def many_rows(rows: int, city: str = "JFK") -> PredictionBatch:
    return PredictionBatch(
        model="m",
        version="1",
        ids=[f"id-{row}" for row in range(rows)],
        at=list(range(rows)),
        scores=[row / rows for row in range(rows)],
        features={"city": [f"{city}{row % 3}" for row in range(rows)], "miles": [None, 1.5] * (rows // 2)},
    )


def test_a_batch_that_was_spooled_whole_is_sent_as_it_would_have_been() -> None:
    batch = many_rows(MIN_ROWS)
    [spooled] = serializer.unsplit_records(batch, "predictions")
    again = codec.decode_record(spooled.value)
    assert isinstance(again, PredictionBatch)
    sent, later = (
        list(serializer.producer_records(one, "predictions", partitions=3)) for one in (batch, again)
    )
    assert [(one.partition, one.key, one.value) for one in later] == [
        (one.partition, one.key, one.value) for one in sent
    ]


def test_a_block_that_is_too_large_for_kafka_is_cut() -> None:
    batch = many_rows(1 << 16)  # eight bytes a value, so 22 columns are 11 MB
    wide = batch.model_copy(update={"features": {f"x{n}": batch.features["miles"] for n in range(20)}})
    messages = list(serializer.producer_records(wide, "predictions", partitions=1))
    assert len(messages) > 1
    assert all(len(one.value) <= serializer.MAX_VALUE_BYTES for one in messages)
    found = [run.rows for one in messages for run in read(one.value).runs]
    assert [one for rows in found for one in rows.ids] == batch.ids


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=8, max_size=30), st.sampled_from(list(Kind)))
def test_text_as_codes_falls_into_the_bins_of_the_text(values: list[str | None], kind: Kind) -> None:
    coded = Categorical.of(values)
    assert coded is not None
    known: Column = ["a", "b", "a"] if kind is Kind.CATEGORICAL else [1.0, 2.0]
    column = ColumnProfile.of("x", kind, known)
    assert column.bins(coded).tolist() == column.bins(values).tolist()


def test_what_json_has_no_word_for_is_refused_as_without_a_block() -> None:
    features = {"x": [10**400] * 4}
    with pytest.raises(TypeError):
        Block.from_batch(PredictionBatch.model_construct(**{**vars(BATCH), "features": features})).encode()


def test_fields_that_are_no_columns_are_left_alone() -> None:
    assert blocks.with_lists({"at": 3, "features": "none"}) == {"at": 3, "features": "none"}

"""Records and batches as Kafka messages: in the partition of their ids, and within Kafka's size limit."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson

from driftloop.mlops_core.errors import InvalidData
from driftloop.schemas import topics
from driftloop.schemas.records import (
    Batch,
    FeatureBatch,
    FeatureRow,
    Label,
    LabelBatch,
    Prediction,
    PredictionBatch,
    Value,
    Values,
)
from driftloop.streams.records import ProducerRecord
from driftloop.streams.wire import codec
from driftloop.streams.wire.batches import Single, split_by_partition, split_in_half
from driftloop.streams.wire.blocks import MIN_ROWS, Block

MAX_VALUE_BYTES = topics.MAX_MESSAGE_BYTES - 10_000
"""Of a value; the rest is for key, headers and Kafka's own fields."""
SAFE_BYTES = 1_000_000
"""A record whose id and features take no more fits into a message."""


class TooLarge(ValueError):
    """A record that is larger than a Kafka message may be; the message names the record and its size."""


def producer_records(record: Single | Batch, topic: str, partitions: int | None) -> Iterator[ProducerRecord]:
    """The messages of a record: a single record by its key, a batch split by partition and by size.

    Without the number of partitions, each row of a batch is a message of its own, which librdkafka places
    by its key.
    """
    if not isinstance(record, Batch):
        yield ProducerRecord(topic, record.id, codec.encode(record))
    elif partitions is None:
        for single in single_records(record):
            yield ProducerRecord(topic, single.id, codec.encode(single))
    elif len(record) > 0:
        for partition, part in split_by_partition(_compact(record), partitions):
            yield from _within_limit(part, topic, partition)


def unsplit_records(batch: Batch, topic: str) -> Iterator[ProducerRecord]:
    """The messages of a batch that is not split by partition, for the spool."""
    if len(batch) > 0:
        yield from _within_limit(_compact(batch), topic, None)


def check(record: Single) -> None:
    """Refuse a record that no message can carry.

    Raises:
        InvalidData: a value that JSON can't express: an integer beyond 64 bits, or text that is no Unicode.
        TooLarge: Kafka will reject it.
    """
    features: Mapping[str, Value] = {} if isinstance(record, Label) else record.features
    try:
        size = len(orjson.dumps((record.id, record.model, features), option=orjson.OPT_SERIALIZE_NUMPY))
        if not isinstance(record, Label) and record.entity is not None:
            size += len(orjson.dumps(record.entity))
    except (TypeError, ValueError) as error:
        raise InvalidData(_refusal(record, features)) from error
    if size > SAFE_BYTES:
        size = len(codec.encode(record))
        if size > MAX_VALUE_BYTES:
            raise TooLarge(
                f"{record.type} {record.id!r} of model {record.model!r} is too large: {size:,} bytes as "
                f"JSON, a message may have {MAX_VALUE_BYTES:,}"
            )


def check_batch(batch: Batch) -> None:
    """Refuse a batch with a value that JSON can't express.

    Raises:
        InvalidData: names column, row and value.
    """
    columns: dict[str, Any] = {**vars(batch), **{f"features.{n}": c for n, c in _features_of(batch).items()}}
    columns.pop("features", None)
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and column.dtype != object:
            continue
        try:
            _encode(column)
        except (TypeError, ValueError):
            for row, value in enumerate(column):
                reason = _why_not(value)
                if reason:
                    where = f"{name}, row {row} (id {batch.ids[row]!a}) of model {batch.model!a}"
                    raise InvalidData(f"{where}: {reason}") from None
            raise


def _features_of(batch: Batch) -> Mapping[str, Values]:
    return batch.features if isinstance(batch, PredictionBatch | FeatureBatch) else {}


def _refusal(record: Single, features: Mapping[str, Value]) -> str:
    """Which field can't be encoded, and why."""
    named = {"model": record.model, "id": record.id, "entity": getattr(record, "entity", None), **features}
    found = ((name, _why_not(name) or _why_not(value)) for name, value in named.items())
    name, reason = next(
        ((name, reason) for name, reason in found if reason), ("record", "JSON can't express it")
    )
    return f"{record.type} {record.id!a} of model {record.model!a}: {name!a}: {reason}"


def _why_not(value: object) -> str:
    """Why a value can't be part of a message; empty where it can."""
    try:
        _encode(value)
    except (TypeError, ValueError) as error:
        if type(value) is int:
            return f"{value} has more than 64 bits; send it as text or as a float"
        if type(value) is str:
            return f"{value!a} is no Unicode text (a lone surrogate); decode it with errors='replace'"
        return f"a {type(value).__name__} can't be sent ({error}); a bool, int, float, text or None can"
    return ""


def _encode(value: object) -> bytes:
    return orjson.dumps(value, default=codec.to_json_value, option=orjson.OPT_SERIALIZE_NUMPY)


def single_records(batch: Batch) -> Iterator[Single]:
    """The rows as single records, not validated again."""
    model = batch.model
    entities = batch.entities if isinstance(batch, PredictionBatch | FeatureBatch) else None
    for row, id_ in enumerate(batch.ids):
        at, entity = batch.at[row], None if entities is None else entities[row]
        match batch:
            case LabelBatch():
                yield Label.model_construct(model=model, id=id_, at=at, label=batch.labels[row])
            case FeatureBatch():
                yield FeatureRow.model_construct(
                    model=model,
                    id=id_,
                    entity=entity,
                    at=at,
                    features=_row_features(batch.features, row),
                )
            case PredictionBatch():
                yield Prediction.model_construct(
                    model=model,
                    version=batch.version,
                    id=id_,
                    entity=entity,
                    at=at,
                    score=batch.scores[row],
                    features=_row_features(batch.features, row),
                )


def _row_features(features: Mapping[str, Values], row: int) -> dict[str, Value]:
    return {name: column[row] for name, column in features.items()}


def _compact(batch: Batch) -> Batch | Block:
    return Block.from_batch(batch) if len(batch) >= MIN_ROWS else batch


def _within_limit(batch: Batch | Block, topic: str, partition: int | None) -> Iterator[ProducerRecord]:
    value = batch.encode() if isinstance(batch, Block) else codec.encode(batch)
    if len(value) <= MAX_VALUE_BYTES or len(batch) == 1:
        yield ProducerRecord(topic, batch.ids[0], value, partition=partition)
    else:
        for half in split_in_half(batch):
            yield from _within_limit(half, topic, partition)

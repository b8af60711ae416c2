"""Records and batches as Kafka messages: in the partition of their ids, and within Kafka's size limit."""

from collections.abc import Iterator, Mapping

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
SAFE_CHARACTERS = 1_000_000
"""So much text fits into a message however it is escaped as JSON."""


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


def check_size(record: Single) -> None:
    """Raise TooLarge for a record that Kafka will reject; a record with little text passes unencoded."""
    features: Mapping[str, Value] = {} if isinstance(record, Label) else record.features
    texts = sum([len(value) for value in features.values() if type(value) is str])
    if texts + 100 * len(features) > SAFE_CHARACTERS:
        size = len(codec.encode(record))
        if size > MAX_VALUE_BYTES:
            raise TooLarge(
                f"{record.type} {record.id!r} of model {record.model!r} is too large: {size:,} bytes as "
                f"JSON, a message may have {MAX_VALUE_BYTES:,}"
            )


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

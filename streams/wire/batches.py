"""Combines single records to batches, and splits batches by partition and by size. Pure functions."""

import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from driftloop.schemas.records import (
    Batch,
    FeatureBatch,
    FeatureRow,
    Label,
    LabelBatch,
    Prediction,
    PredictionBatch,
)
from driftloop.streams.wire.blocks import Block

Token = TypeVar("Token")
Single = Prediction | FeatureRow | Label
Groups = dict[Hashable, tuple[list[Any], list[Token]]]


def combine_rows(
    entries: Iterable[tuple[Single | Batch, Token]], rows: int
) -> Iterator[tuple[Single | Batch, Sequence[Token]]]:
    """The entries with records of one kind combined to batches of at most `rows` rows, each with its tokens.

    A record without others of its kind stays single. Rows of one id stay in order, whatever their kind.
    """
    groups: Groups[Token] = {}
    kind_of_id: dict[Hashable, Hashable] = {}
    for record, token in entries:
        kind = batch_key(record)
        if kind is None or kind_of_id.setdefault((type(record), record.id), kind) != kind:  # type: ignore[union-attr]  # not a batch
            yield from _batches(groups)
            groups, kind_of_id = {}, {}
        if kind is None:
            yield record, [token]
            continue
        records, tokens = groups.setdefault(kind, ([], []))
        records.append(record)
        tokens.append(token)
        if len(records) >= rows:
            yield from _batches({kind: groups.pop(kind)})
    yield from _batches(groups)


def batch_key(record: Any) -> Hashable:
    """Equal for records that can be rows of one batch; None for a batch."""
    which = type(record)  # much cheaper than isinstance for pydantic's classes
    if which is Prediction:
        return which, record.model, record.version, tuple(record.features)
    if which is FeatureRow:
        return which, record.model, tuple(record.features)
    return (which, record.model) if which is Label else None


def _batches(groups: Groups[Token]) -> Iterator[tuple[Single | Batch, Sequence[Token]]]:
    for records, tokens in groups.values():
        yield (records[0] if len(records) == 1 else _batch(records)), tokens


def _batch(records: Sequence[Any]) -> Batch:
    """The records as one batch, not validated again."""
    first = records[0]
    shared: dict[str, Any] = {
        "model": first.model,
        "ids": [row.id for row in records],
        "at": [row.at for row in records],
    }
    match first:
        case Label():
            return LabelBatch.model_construct(**shared, labels=[row.label for row in records])
        case FeatureRow():
            return FeatureBatch.model_construct(
                **shared, entities=_entities(records), features=_features(records)
            )
        case _:
            return PredictionBatch.model_construct(
                **shared,
                version=first.version,
                entities=_entities(records),
                scores=[row.score for row in records],
                features=_features(records),
            )


def _entities(records: Sequence[Any]) -> list[str | None] | None:
    entities = [row.entity for row in records]
    return entities if any(entity is not None for entity in entities) else None


def _features(records: Sequence[Any]) -> dict[str, list[Any]]:
    names = list(records[0].features)
    columns = zip(*(row.features.values() for row in records), strict=True)
    return dict(zip(names, map(list, columns), strict=True))


AnyBatch = TypeVar("AnyBatch", bound=Batch | Block)
_SHARED = frozenset({"type", "schema_version", "model", "version"})


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key by librdkafka's partitioner `consistent`: CRC-32, modulo."""
    return _crc32(key) % partitions


def split_by_partition(batch: AnyBatch, partitions: int) -> Sequence[tuple[int, AnyBatch]]:
    """The batch's rows by `partition_of` of their ids, in their order; nothing for an empty batch."""
    owner = np.fromiter(map(_crc32, batch.ids), np.uint32, len(batch)) % partitions
    found = np.unique(owner).tolist()
    if len(found) == 1:
        return [(found[0], batch)]
    return [(partition, _take_rows(batch, np.flatnonzero(owner == partition))) for partition in found]


def split_in_half(batch: AnyBatch) -> Sequence[AnyBatch]:
    """The batch's first and second half, for a batch that is too large."""
    middle, rows = len(batch) // 2, np.arange(len(batch))
    return [_take_rows(batch, some) for some in (rows[:middle], rows[middle:])]


def _crc32(row: str) -> int:
    return zlib.crc32(row.encode())


def _take_rows(batch: AnyBatch, rows: NDArray[np.intp]) -> AnyBatch:
    """Some rows of a batch, not validated again."""
    if isinstance(batch, Block):
        return batch.take(rows)
    pick = itemgetter(*rows.tolist())

    def chosen(column: Any) -> Any:
        if isinstance(column, np.ndarray):
            return column[rows]
        if isinstance(column, Mapping):
            return {name: chosen(inner) for name, inner in column.items()}
        return list(pick(column)) if len(rows) > 1 else [pick(column)]

    columns = {name: column for name, column in vars(batch).items() if name not in _SHARED}
    return batch.model_copy(update={name: chosen(c) for name, c in columns.items() if c is not None})

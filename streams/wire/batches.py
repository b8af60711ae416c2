"""Rows to batches and back, and batches cut in parts: by partition, or because they are too large."""

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
    """The entries with rows of one kind put together, at most `rows` of them; a lone one stays as it is."""
    groups: Groups[Token] = {}
    kind_of_id: dict[Hashable, Hashable] = {}
    for record, token in entries:
        kind = batch_key(record)
        if kind is None or kind_of_id.setdefault((type(record), record.id), kind) != kind:  # type: ignore[union-attr]  # not a batch
            yield from _closed(groups)
            groups, kind_of_id = {}, {}
        if kind is None:
            yield record, [token]
            continue
        records, tokens = groups.setdefault(kind, ([], []))
        records.append(record)
        tokens.append(token)
        if len(records) >= rows:
            yield from _closed({kind: groups.pop(kind)})
    yield from _closed(groups)


def batch_key(record: Any) -> Hashable:
    """What two records must share to be rows of one batch; None for what is a batch already."""
    which = type(record)  # cheaper than isinstance, by far, where pydantic made the class
    if which is Prediction:
        return which, record.model, record.version, tuple(record.features)
    if which is FeatureRow:
        return which, record.model, tuple(record.features)
    return (which, record.model) if which is Label else None


def _closed(groups: Groups[Token]) -> Iterator[tuple[Single | Batch, Sequence[Token]]]:
    for records, tokens in groups.values():
        yield (records[0] if len(records) == 1 else _batch(records)), tokens


def _batch(records: Sequence[Any]) -> Batch:
    """The rows as columns; their values were checked when the records were made."""
    first = records[0]
    shared: dict[str, Any] = {
        "model": first.model,
        "ids": [one.id for one in records],
        "at": [one.at for one in records],
    }
    match first:
        case Label():
            return LabelBatch.model_construct(**shared, labels=[one.label for one in records])
        case FeatureRow():
            return FeatureBatch.model_construct(
                **shared, entities=_entities(records), features=_features(records)
            )
        case _:
            return PredictionBatch.model_construct(
                **shared,
                version=first.version,
                entities=_entities(records),
                scores=[one.score for one in records],
                features=_features(records),
            )


def _entities(records: Sequence[Any]) -> list[str | None] | None:
    entities = [one.entity for one in records]
    return entities if any(one is not None for one in entities) else None


def _features(records: Sequence[Any]) -> dict[str, list[Any]]:
    names = list(records[0].features)
    columns = zip(*(one.features.values() for one in records), strict=True)
    return dict(zip(names, map(list, columns), strict=True))


AnyBatch = TypeVar("AnyBatch", bound=Batch | Block)
_SHARED = frozenset({"type", "schema_version", "model", "version"})


def partition_of(key: str, partitions: int) -> int:
    """Where librdkafka (and so kcat, and every client built on it) puts a key: CRC-32, modulo."""
    return _hash(key) % partitions


def split_by_partition(batch: AnyBatch, partitions: int) -> Sequence[tuple[int, AnyBatch]]:
    """The batch's rows by the partition that their ids hash to, as a keyed message's would.

    Rows keep their order; a batch without rows has no parts.
    """
    owner = np.fromiter(map(_hash, batch.ids), np.uint32, len(batch)) % partitions
    found = np.unique(owner).tolist()
    if len(found) == 1:
        return [(found[0], batch)]
    return [(partition, _rows(batch, np.flatnonzero(owner == partition))) for partition in found]


def split_in_half(batch: AnyBatch) -> Sequence[AnyBatch]:
    """The batch's first and second half, for one that is too large."""
    middle, rows = len(batch) // 2, np.arange(len(batch))
    return [_rows(batch, some) for some in (rows[:middle], rows[middle:])]


def _hash(one: str) -> int:
    return zlib.crc32(one.encode())


def _rows(batch: AnyBatch, rows: NDArray[np.intp]) -> AnyBatch:
    """Some rows of a batch; not validated again."""
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

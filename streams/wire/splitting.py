"""A batch cut in parts, column by column: by partition, or because it is too large."""

import zlib
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from driftloop.schemas.records import Batch
from driftloop.streams.wire.blocks import Block

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


def halves(batch: AnyBatch) -> Sequence[AnyBatch]:
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

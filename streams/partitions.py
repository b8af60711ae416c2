"""Where a key goes, and how many partitions there are to go to, without ever waiting for Kafka to say."""

import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from schemas.records import Batch

REFRESH_SECONDS = 30.0
"""How long batches may go by an old number of partitions after somebody added some."""
RETRY_SECONDS = 1.0
_SHARED = frozenset({"type", "schema_version", "model", "version"})


def partition_of(key: str, partitions: int) -> int:
    """Where librdkafka (and so kcat, and every client built on it) puts a key: CRC-32, modulo."""
    return zlib.crc32(key.encode()) % partitions


def split_by_partition(batch: Batch, partitions: int) -> Sequence[tuple[int, Batch]]:
    """The batch's rows by the partition that their ids hash to, as a keyed message's would."""
    rows_of: dict[int, list[int]] = {}
    for row, one in enumerate(batch.ids):
        rows_of.setdefault(zlib.crc32(one.encode()) % partitions, []).append(row)
    if len(rows_of) == 1:
        return [(next(iter(rows_of)), batch)]
    return [(partition, some_rows(batch, rows)) for partition, rows in sorted(rows_of.items())]


def halves(batch: Batch) -> Sequence[Batch]:
    """The batch's first and second half, for one that is too large."""
    middle = len(batch) // 2
    return [some_rows(batch, rows) for rows in (range(middle), range(middle, len(batch)))]


def some_rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """A batch with these rows of every column, which may be a list or a numpy array."""
    pick = itemgetter(*rows) if len(rows) > 1 else lambda column: (column[rows[0]],)
    index = np.asarray(rows)

    def chosen(column: Any) -> Any:
        if isinstance(column, Mapping):
            return {name: chosen(inner) for name, inner in column.items()}
        return column[index] if isinstance(column, np.ndarray) else list(pick(column))

    columns = {name: getattr(batch, name) for name in type(batch).model_fields if name not in _SHARED}
    return batch.model_copy(
        update={name: chosen(column) for name, column in columns.items() if column is not None}
    )


class Partitions:
    """How many partitions each topic has, as far as known; asked for by a thread of its own."""

    def __init__(self, ask: Callable[[str], int | None], refresh: float = REFRESH_SECONDS) -> None:
        """`ask` may take its time; it says None if Kafka can't be asked or has no such topic."""
        self._ask = ask
        self._refresh = refresh
        self._known: dict[str, int] = {}
        self._wanted: set[str] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def of(self, topic: str, seconds: float = 0.0) -> int | None:
        """The topic's number of partitions; None if it isn't known, at the latest after `seconds`."""
        known = self._known.get(topic)
        if known is not None:
            return known
        with self._changed:
            self._wanted.add(topic)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="publisher-partitions", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: topic in self._known or self._closing, seconds)
            return self._known.get(topic)

    def close(self) -> None:
        """Ask no more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _work(self) -> None:
        refresh_at = time.monotonic() + self._refresh
        while not self._closing:
            for topic in self._missing():
                self._learn(topic)
            if time.monotonic() >= refresh_at:
                for topic in sorted(self._known):
                    self._learn(topic)
                refresh_at = time.monotonic() + self._refresh
            with self._changed:
                if self._missing():
                    self._changed.wait_for(lambda: self._closing, RETRY_SECONDS)
                else:
                    self._changed.wait_for(lambda: self._closing or self._missing(), self._refresh)

    def _missing(self) -> list[str]:
        return sorted(self._wanted.difference(self._known))

    def _learn(self, topic: str) -> None:
        count = None if self._closing else self._ask(topic)
        if count is not None:
            with self._changed:
                self._known[topic] = count
                self._changed.notify_all()

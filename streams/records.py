"""Kafka's records as they are sent and as they arrive, the chunk that an agent handles, and dead letters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

from driftloop.schemas import ids
from driftloop.schemas.dead_letters import DeadLetter

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class ProducerRecord:
    """One message to send; `topic` is the topic's full name in the cluster."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int | None = None
    """None: the hash of the key decides."""


class ConsumerRecord(NamedTuple):
    """One record that was read; a tuple, because a frozen dataclass takes three times as long to make."""

    offset: int
    timestamp: int
    """Kafka's time of the record (UTC, ms)."""
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]


_headers = itemgetter(ConsumerRecord._fields.index("headers"))


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one partition, oldest first; never empty."""

    topic: str
    partition: int
    records: Sequence[ConsumerRecord]
    resolved: object = None
    """What the agent's `resolve` returned for these records; None without questions, and in a replay."""
    decoded: dict[str, object] = field(default_factory=dict, compare=False, repr=False)
    """What `decoding` has made of the records, so that they are decoded once."""

    @property
    def first(self) -> int:
        """Offset of the oldest record."""
        return self.records[0].offset

    @property
    def last(self) -> int:
        """Offset of the newest record."""
        return self.records[-1].offset

    @cached_property
    def has_headers(self) -> bool:
        """Whether any record has headers; all that an agent published have."""
        return any(map(_headers, self.records))

    @cached_property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(len(record.value or b"") for record in self.records)

    def with_records(self, records: Sequence[ConsumerRecord]) -> "Chunk":
        """A chunk of the same partition with some of its records."""
        return Chunk(self.topic, self.partition, records)


def dead_letter(
    chunk: Chunk, record: ConsumerRecord, reason: str, detail: str, row: int | None = None
) -> DeadLetter:
    """The dead letter of one record, or of one row of it."""
    where = (chunk.topic, chunk.partition, record.offset, -1 if row is None else row)
    return DeadLetter.of(
        record.value,
        id=ids.derive("dead-letter", *where),
        at=max(record.timestamp, 0),
        reason=reason,
        detail=detail,
        topic=chunk.topic,
        partition=chunk.partition,
        offset=record.offset,
        row=row,
        key=None if record.key is None else record.key.decode(errors="replace"),
    )

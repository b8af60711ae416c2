"""Kafka's records as they are sent and as they arrive, and the chunk that an agent handles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class ProducerRecord:
    """One message on its way to Kafka; `topic` is the topic's full name in the cluster."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int | None = None
    """None: chosen by the key."""


class ConsumerRecord(NamedTuple):
    """One record as it came; a tuple, because a frozen dataclass takes three times as long to make."""

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
    """What the agent looked up for these records before `handle`; None where they are handled again."""

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
        """Whether any of its records has headers, as all have that an agent said."""
        return any(map(_headers, self.records))

    @cached_property
    def size(self) -> int:
        """Bytes of its records' values."""
        return sum(len(record.value or b"") for record in self.records)

    def with_records(self, records: Sequence[ConsumerRecord]) -> "Chunk":
        """The same partition with fewer records."""
        return Chunk(self.topic, self.partition, records)

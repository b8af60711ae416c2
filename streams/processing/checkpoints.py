"""What an agent's changelog holds for one partition: checkpoints and log entries.

A *checkpoint* is the whole state with the offsets that were read. A *log entry* says which records one chunk
held and which messages followed from them (the outbox). The state after an entry is restored by handling the
same records again, so an entry is cheap however large the state is. After a crash the newest outbox is
published again, unchanged: records are applied once, messages are published at least once, and readers
recognise a repetition by the headers `source` and `seq`.

A restart reads everything since the newest checkpoint and handles it again. So a checkpoint is written once
about as many bytes were handled and published as its state has: a restart then reads about twice the state,
and checkpoints at most double what is written.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import orjson

from driftloop.mlops_core.errors import Conflict
from driftloop.streams.records import Chunk, ConsumerRecord, ProducerRecord

log = logging.getLogger(__name__)

STATE_VERSION = 1
"""Of all states and log entries in changelogs; count it up with a change that older code can't read."""
LENGTH_BYTES = 4
"""An encoded entry begins with the length of its JSON."""
MIN_CHECKPOINT_BYTES = 4_000_000
"""A replay of as many takes 0.2 s, so a smaller state is not written more often."""
MAX_CHECKPOINT_BYTES = 64_000_000
"""A replay of as many takes about 3 s (45 ns a byte), so a larger state is written as often. Dumping a
byte of the label join's state takes 9 ns, so checkpoints are at most a sixth of its work."""
MAX_LOG_ENTRIES = 1000
"""Log entries after a checkpoint, at most: a replay calls the handler for each, at some 0.5 ms."""


def should_checkpoint(state: int, since: int) -> bool:
    """Whether a checkpoint is due: the newest has `state` bytes, `since` bytes were processed after it.

    >>> should_checkpoint(state=300, since=200_000), should_checkpoint(state=9_000_000, since=5_000_000)
    (False, False)
    >>> should_checkpoint(state=80_000_000, since=64_000_000)
    True
    """
    return since >= min(max(state, MIN_CHECKPOINT_BYTES), MAX_CHECKPOINT_BYTES)


@dataclass(frozen=True)
class LogEntry:
    """The offsets of one chunk, and the messages that followed from it."""

    epoch: int
    """Of the owner that wrote it; a later owner of the partition has a higher one."""
    number: int
    """Counts the entries of a partition."""
    topic: str
    first: int
    """Offset of the chunk's first record that was applied."""
    last: int
    """Offset of the chunk's last record."""
    sequence: int
    """The sequence number of the newest message."""
    outbox: Sequence[ProducerRecord]

    def encode(self) -> bytes:
        """The entry as bytes."""
        return _encode({**vars(self), "outbox": None}, [], self.outbox)


@dataclass
class Checkpoint:
    """The state of one partition of an agent, and how far it has read and published."""

    incarnation: str
    """Part of `source`: a partition that lost its changelog and began anew repeats nothing."""
    state: bytes
    offsets: dict[str, int] = field(default_factory=dict)
    """Topic -> newest offset that is part of the state."""
    sequences: dict[str, int] = field(default_factory=dict)
    """`source` of a message and its topic -> newest `seq` that is part of the state."""
    sequence: int = 0
    """The sequence number of the newest message."""
    outbox: Sequence[ProducerRecord] = ()
    """The messages of the newest chunk; published again after a crash."""
    epoch: int = 0
    number: int = 0
    """Of the newest entry."""
    checkpoints: int = 0
    """Counts the checkpoints of the partition."""

    def new_records(self, chunk: Chunk) -> Sequence[ConsumerRecord]:
        """The records of `chunk` that are not part of the state, without repetitions.

        A chunk may hold a message and its repetition.
        """
        newest, sequences = self.offsets.get(chunk.topic, -1), dict(self.sequences)
        if chunk.first > newest and not chunk.has_headers:
            return chunk.records
        new: list[ConsumerRecord] = []
        for record in chunk.records:
            source, sequence = _source_and_sequence(chunk.topic, record)
            if record.offset <= newest or (source is not None and sequence <= sequences.get(source, 0)):
                continue
            if source is not None:
                sequences[source] = sequence
            new.append(record)
        return new

    def mark_applied(self, chunk: Chunk) -> None:
        """Note that all records of `chunk` are part of the state."""
        self.offsets[chunk.topic] = max(chunk.last, self.offsets.get(chunk.topic, -1))
        for record in chunk.records if chunk.has_headers else ():
            source, sequence = _source_and_sequence(chunk.topic, record)
            if source is not None:
                self.sequences[source] = max(sequence, self.sequences.get(source, 0))

    def log_entry(self, chunk: Chunk, outbox: Sequence[ProducerRecord]) -> LogEntry:
        """Note that `chunk` is part of the state and `outbox` followed; returns the log entry for it."""
        first = chunk.records[0].offset
        self.mark_applied(chunk)
        self.outbox = outbox
        self.sequence += len(outbox)
        self.number += 1
        return LogEntry(self.epoch, self.number, chunk.topic, first, chunk.last, self.sequence, outbox)

    def encode(self) -> bytes:
        """The checkpoint as bytes."""
        return _encode({**vars(self), "state": None, "outbox": None}, [self.state], self.outbox)


def decode_entry(data: bytes) -> Checkpoint | LogEntry:
    """The checkpoint or log entry from the bytes of `encode`.

    Raises:
        Conflict: another state version wrote it.
    """
    size = int.from_bytes(data[:LENGTH_BYTES], "big")
    fields: dict[str, Any] = orjson.loads(data[LENGTH_BYTES : LENGTH_BYTES + size])
    version = fields.pop("version", None)
    if version != STATE_VERSION:
        raise Conflict(
            f"the changelog has state version {version}, this driftloop reads {STATE_VERSION}: delete the "
            "agent's changelog topic, and the agent reads its topics again from the oldest record"
        )
    blobs = _split_bytes(data, LENGTH_BYTES + size, fields.pop("sizes"))
    states = [next(blobs)] if "state" in fields else []
    outbox = [
        ProducerRecord(**message, value=value) for message, value in zip(fields["outbox"], blobs, strict=True)
    ]
    if states:
        return Checkpoint(**{**fields, "state": states[0], "outbox": outbox})
    return LogEntry(**{**fields, "outbox": outbox})


@dataclass(frozen=True)
class RecoveryPoint:
    """The newest checkpoint, and the log entries after it in their order."""

    checkpoint: Checkpoint
    entries: Sequence[LogEntry] = ()

    @property
    def newest_entry(self) -> Checkpoint | LogEntry:
        """The last entry."""
        return self.entries[-1] if self.entries else self.checkpoint

    @classmethod
    def from_entries(cls, entries: Iterable[Checkpoint | LogEntry]) -> Self | None:
        """The recovery point of a changelog that is read from anywhere; None without a checkpoint.

        Two kinds of entries don't count: those that a former owner wrote late (a lower epoch), and those that
        a worker wrote again because the acknowledgement was lost.
        """
        found: Self | None = None
        epoch = 0
        for entry in entries:
            newest = found.newest_entry if found is not None else None
            repeated = newest is not None and newest.epoch == entry.epoch and entry.number <= newest.number
            if repeated or entry.epoch < epoch:
                continue
            epoch = entry.epoch
            if isinstance(entry, Checkpoint):
                found = cls(entry)
            elif found is not None:
                found = found._append(entry)
        return found

    def _append(self, entry: LogEntry) -> Self:
        """With one more entry, which replaces those that a former owner wrote after it lost the partition."""
        kept = [known for known in self.entries if known.number < entry.number]
        before = kept[-1].number if kept else self.checkpoint.number
        if entry.number != before + 1:
            fields = {"after": before, "found": entry.number}
            log.error("entries are missing in the changelog; those after the gap are ignored", extra=fields)
            return self
        return replace(self, entries=[*kept, entry])


def with_sequence(message: ProducerRecord, source: str, sequence: int) -> ProducerRecord:
    """The message with the headers by which its reader recognises a repetition."""
    headers = {**message.headers, "source": source, "seq": str(sequence)}
    return replace(message, headers=headers)


def _encode(fields: Mapping[str, Any], states: Sequence[bytes], outbox: Sequence[ProducerRecord]) -> bytes:
    messages = [
        {name: value for name, value in vars(message).items() if name != "value"} for message in outbox
    ]
    blobs = [*states, *(message.value for message in outbox)]
    sizes = [len(blob) for blob in blobs]
    head = orjson.dumps({**fields, "version": STATE_VERSION, "outbox": messages, "sizes": sizes})
    return b"".join([len(head).to_bytes(LENGTH_BYTES, "big"), head, *blobs])


def _split_bytes(data: bytes, start: int, sizes: Iterable[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[start : start + size]
        start += size


def _source_and_sequence(topic: str, record: ConsumerRecord) -> tuple[str | None, int]:
    source, sequence = record.headers.get("source"), record.headers.get("seq", "")
    if source is None or not sequence.isdecimal():
        return None, 0
    return f"{source}>{topic}", int(sequence)

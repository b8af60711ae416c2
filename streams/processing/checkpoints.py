"""An agent's memory of one partition, as it is written to its changelog.

A *base* holds everything: state, how far each topic was read, what was said last. A *step* holds only which
records one chunk brought and what followed from them; the state after it is found again by handling the same
records again, which is cheap to write however large the state is. A memory is the newest base and the steps
after it. Saying the newest outbox again is what makes a crash invisible: a record is applied once, and what
follows from it is published at least once, with the same words. The reader recognises a repetition by the
headers `source` and `seq`.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import orjson

from driftloop.streams.records import Chunk, ConsumerRecord, ProducerRecord

log = logging.getLogger(__name__)

LENGTH_BYTES = 4
"""Bytes before an entry that say how long its JSON is."""


@dataclass(frozen=True)
class LogEntry:
    """One chunk's place in the source, and what followed from it."""

    epoch: int
    """Which owner wrote it; a later owner of the partition has a higher one."""
    number: int
    """Counts the entries of a partition."""
    topic: str
    first: int
    last: int
    sequence: int
    """Messages said until then; the last one's `seq`."""
    outbox: Sequence[ProducerRecord]

    def encode(self) -> bytes:
        """As bytes."""
        return _encode({**vars(self), "outbox": None}, [], self.outbox)


@dataclass
class Checkpoint:
    """State and bookkeeping of one partition of one agent: a base, and the memory that is worked with."""

    incarnation: str
    """Names this memory: a memory that was lost and began anew must not be taken for a repetition."""
    state: bytes
    offsets: dict[str, int] = field(default_factory=dict)
    """Topic -> newest offset that is part of the state."""
    sequences: dict[str, int] = field(default_factory=dict)
    """`source` of a message and its topic -> newest `seq` that is part of the state."""
    sequence: int = 0
    outbox: Sequence[ProducerRecord] = ()
    """What followed from the newest chunk; said again after a crash."""
    epoch: int = 0
    number: int = 0
    checkpoints: int = 0
    """Counts the bases."""

    def new_records(self, chunk: Chunk) -> Sequence[ConsumerRecord]:
        """The records of `chunk` that the state doesn't know yet, each repetition left out.

        A reader that lags has what was said and its repetition in the same chunk.
        """
        newest, seen = self.offsets.get(chunk.topic, -1), dict(self.sequences)
        if chunk.first > newest and not chunk.has_headers:
            return chunk.records
        fresh: list[ConsumerRecord] = []
        for record in chunk.records:
            source, seq = _source_and_sequence(chunk.topic, record)
            if record.offset <= newest or (source is not None and seq <= seen.get(source, 0)):
                continue
            if source is not None:
                seen[source] = seq
            fresh.append(record)
        return fresh

    def mark_applied(self, chunk: Chunk) -> None:
        """`chunk` is part of the state now, or was before."""
        self.offsets[chunk.topic] = max(chunk.last, self.offsets.get(chunk.topic, -1))
        for record in chunk.records if chunk.has_headers else ():
            source, seq = _source_and_sequence(chunk.topic, record)
            if source is not None:
                self.sequences[source] = max(seq, self.sequences.get(source, 0))

    def log_entry(self, chunk: Chunk, outbox: Sequence[ProducerRecord]) -> LogEntry:
        """Take over what `chunk` led to; returns it as a step."""
        first = chunk.records[0].offset
        self.mark_applied(chunk)
        self.outbox = outbox
        self.sequence += len(outbox)
        self.number += 1
        return LogEntry(self.epoch, self.number, chunk.topic, first, chunk.last, self.sequence, outbox)

    def encode(self) -> bytes:
        """As bytes."""
        return _encode({**vars(self), "state": None, "outbox": None}, [self.state], self.outbox)


def decode_entry(data: bytes) -> Checkpoint | LogEntry:
    """Back from `pack`."""
    size = int.from_bytes(data[:LENGTH_BYTES], "big")
    fields: dict[str, Any] = orjson.loads(data[LENGTH_BYTES : LENGTH_BYTES + size])
    blobs = _split(data, LENGTH_BYTES + size, fields.pop("sizes"))
    states = [next(blobs)] if "state" in fields else []
    outbox = [
        ProducerRecord(**message, value=value) for message, value in zip(fields["outbox"], blobs, strict=True)
    ]
    if states:
        return Checkpoint(**{**fields, "state": states[0], "outbox": outbox})
    return LogEntry(**{**fields, "outbox": outbox})


@dataclass(frozen=True)
class RecoveryPoint:
    """The newest base, and the steps after it in their order."""

    checkpoint: Checkpoint
    entries: Sequence[LogEntry] = ()

    @property
    def newest_entry(self) -> Checkpoint | LogEntry:
        """Its last entry."""
        return self.entries[-1] if self.entries else self.checkpoint

    @classmethod
    def from_entries(cls, entries: Iterable[Checkpoint | LogEntry]) -> Self | None:
        """What a changelog comes to, from wherever in it one begins to read; None before the first base.

        Two kinds of entries don't count: late ones of a former owner (a lower epoch), and those that a
        worker wrote again because it had heard no answer.
        """
        memory: Self | None = None
        epoch = 0
        for entry in entries:
            known = memory.newest_entry if memory is not None else None
            again = known is not None and known.epoch == entry.epoch and entry.number <= known.number
            if again or entry.epoch < epoch:
                continue
            epoch = entry.epoch
            if isinstance(entry, Checkpoint):
                memory = cls(entry)
            elif memory is not None:
                memory = memory._append(entry)
        return memory

    def _append(self, step: LogEntry) -> Self:
        """One more step, instead of those that a former owner wrote after it had lost the partition."""
        kept = [one for one in self.entries if one.number < step.number]
        before = kept[-1].number if kept else self.checkpoint.number
        if step.number != before + 1:
            log.error("the changelog has a hole", extra={"after": before, "found": step.number})
            return self
        return replace(self, entries=[*kept, step])


def with_sequence(message: ProducerRecord, source: str, seq: int) -> ProducerRecord:
    """The message with the headers by which its reader recognises a repetition."""
    headers = {**message.headers, "source": source, "seq": str(seq)}
    return replace(message, headers=headers)


def _encode(fields: Mapping[str, Any], states: Sequence[bytes], outbox: Sequence[ProducerRecord]) -> bytes:
    words = [{name: value for name, value in vars(one).items() if name != "value"} for one in outbox]
    blobs = [*states, *(one.value for one in outbox)]
    head = orjson.dumps({**fields, "outbox": words, "sizes": [len(blob) for blob in blobs]})
    return b"".join([len(head).to_bytes(LENGTH_BYTES, "big"), head, *blobs])


def _split(data: bytes, start: int, sizes: Iterable[int]) -> Any:
    for size in sizes:
        yield data[start : start + size]
        start += size


def _source_and_sequence(topic: str, record: ConsumerRecord) -> tuple[str | None, int]:
    source, seq = record.headers.get("source"), record.headers.get("seq", "")
    if source is None or not seq.isdecimal():
        return None, 0
    return f"{source}>{topic}", int(seq)


MIN_CHECKPOINT_BYTES = 4_000_000
"""Read and handled again in 0.2 s, so a smaller state is not written more often."""
MAX_CHECKPOINT_BYTES = 64_000_000
"""Handled again in about 3 s at 45 ns a byte; a larger state is written no more seldom. A byte of the label
join's state is dumped in 9 ns, so dumps are a sixth of its work at most."""
MAX_LOG_ENTRIES = 1000
"""Steps after a base at most, however few bytes they are: each is a call of the handler, some 0.5 ms."""


def should_checkpoint(state: int, passed: int) -> bool:
    """Whether it is time, with so many bytes of state in the last base, and so many that passed since.

    >>> due(state=300, passed=200_000), due(state=9_000_000, passed=5_000_000), due(80_000_000, 64_000_000)
    (False, False, True)
    """
    return passed >= min(max(state, MIN_CHECKPOINT_BYTES), MAX_CHECKPOINT_BYTES)

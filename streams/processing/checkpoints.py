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

from driftloop.streams.records import Arrived, Chunk, Outgoing

log = logging.getLogger(__name__)

HEAD = 4
"""Bytes before an entry that say how long its JSON is."""


@dataclass(frozen=True)
class Step:
    """One chunk's place in the source, and what followed from it."""

    epoch: int
    """Which owner wrote it; a later owner of the partition has a higher one."""
    number: int
    """Counts the entries of a partition."""
    topic: str
    first: int
    last: int
    said: int
    """Messages said until then; the last one's `seq`."""
    outbox: Sequence[Outgoing]

    def pack(self) -> bytes:
        """As bytes."""
        return _packed({**vars(self), "outbox": None}, [], self.outbox)


@dataclass
class Snapshot:
    """State and bookkeeping of one partition of one agent: a base, and the memory that is worked with."""

    birth: str
    """Names this memory: a memory that was lost and began anew must not be taken for a repetition."""
    state: bytes
    offsets: dict[str, int] = field(default_factory=dict)
    """Topic -> newest offset that is part of the state."""
    seen: dict[str, int] = field(default_factory=dict)
    """`source` of a message and its topic -> newest `seq` that is part of the state."""
    said: int = 0
    outbox: Sequence[Outgoing] = ()
    """What followed from the newest chunk; said again after a crash."""
    epoch: int = 0
    number: int = 0
    turn: int = 0
    """Counts the bases."""

    def unapplied(self, chunk: Chunk) -> Sequence[Arrived]:
        """The records of `chunk` that the state doesn't know yet, each repetition left out.

        A reader that lags has what was said and its repetition in the same chunk.
        """
        newest, seen = self.offsets.get(chunk.topic, -1), dict(self.seen)
        if chunk.first > newest and not chunk.signed:
            return chunk.records
        fresh: list[Arrived] = []
        for record in chunk.records:
            source, seq = _source(chunk.topic, record)
            if record.offset <= newest or (source is not None and seq <= seen.get(source, 0)):
                continue
            if source is not None:
                seen[source] = seq
            fresh.append(record)
        return fresh

    def passed(self, chunk: Chunk) -> None:
        """`chunk` is part of the state now, or was before."""
        self.offsets[chunk.topic] = max(chunk.last, self.offsets.get(chunk.topic, -1))
        for record in chunk.records if chunk.signed else ():
            source, seq = _source(chunk.topic, record)
            if source is not None:
                self.seen[source] = max(seq, self.seen.get(source, 0))

    def applied(self, chunk: Chunk, outbox: Sequence[Outgoing]) -> Step:
        """Take over what `chunk` led to; returns it as a step."""
        first = chunk.records[0].offset
        self.passed(chunk)
        self.outbox = outbox
        self.said += len(outbox)
        self.number += 1
        return Step(self.epoch, self.number, chunk.topic, first, chunk.last, self.said, outbox)

    def pack(self) -> bytes:
        """As bytes."""
        return _packed({**vars(self), "state": None, "outbox": None}, [self.state], self.outbox)


def unpack(data: bytes) -> Snapshot | Step:
    """Back from `pack`."""
    size = int.from_bytes(data[:HEAD], "big")
    fields: dict[str, Any] = orjson.loads(data[HEAD : HEAD + size])
    blobs = _cut(data, HEAD + size, fields.pop("sizes"))
    states = [next(blobs)] if "state" in fields else []
    outbox = [
        Outgoing(**message, value=value) for message, value in zip(fields["outbox"], blobs, strict=True)
    ]
    if states:
        return Snapshot(**{**fields, "state": states[0], "outbox": outbox})
    return Step(**{**fields, "outbox": outbox})


@dataclass(frozen=True)
class Memory:
    """The newest base, and the steps after it in their order."""

    base: Snapshot
    steps: Sequence[Step] = ()

    @property
    def newest(self) -> Snapshot | Step:
        """Its last entry."""
        return self.steps[-1] if self.steps else self.base

    @classmethod
    def of(cls, entries: Iterable[Snapshot | Step]) -> Self | None:
        """What a changelog comes to, from wherever in it one begins to read; None before the first base.

        Two kinds of entries don't count: late ones of a former owner (a lower epoch), and those that a
        worker wrote again because it had heard no answer.
        """
        memory: Self | None = None
        epoch = 0
        for entry in entries:
            known = memory.newest if memory is not None else None
            again = known is not None and known.epoch == entry.epoch and entry.number <= known.number
            if again or entry.epoch < epoch:
                continue
            epoch = entry.epoch
            if isinstance(entry, Snapshot):
                memory = cls(entry)
            elif memory is not None:
                memory = memory._with(entry)
        return memory

    def _with(self, step: Step) -> Self:
        """One more step, instead of those that a former owner wrote after it had lost the partition."""
        kept = [one for one in self.steps if one.number < step.number]
        before = kept[-1].number if kept else self.base.number
        if step.number != before + 1:
            log.error("the changelog has a hole", extra={"after": before, "found": step.number})
            return self
        return replace(self, steps=[*kept, step])


def signed(message: Outgoing, source: str, seq: int) -> Outgoing:
    """The message with the headers by which its reader recognises a repetition."""
    headers = {**message.headers, "source": source, "seq": str(seq)}
    return replace(message, headers=headers)


def _packed(fields: Mapping[str, Any], states: Sequence[bytes], outbox: Sequence[Outgoing]) -> bytes:
    words = [{name: value for name, value in vars(one).items() if name != "value"} for one in outbox]
    blobs = [*states, *(one.value for one in outbox)]
    head = orjson.dumps({**fields, "outbox": words, "sizes": [len(blob) for blob in blobs]})
    return b"".join([len(head).to_bytes(HEAD, "big"), head, *blobs])


def _cut(data: bytes, start: int, sizes: Iterable[int]) -> Any:
    for size in sizes:
        yield data[start : start + size]
        start += size


def _source(topic: str, record: Arrived) -> tuple[str | None, int]:
    source, seq = record.headers.get("source"), record.headers.get("seq", "")
    if source is None or not seq.isdecimal():
        return None, 0
    return f"{source}>{topic}", int(seq)


LEAST_BYTES = 4_000_000
"""Read and handled again in 0.2 s, so a smaller state is not written more often."""
MOST_BYTES = 64_000_000
"""Handled again in about 3 s at 45 ns a byte; a larger state is written no more seldom. A byte of the label
join's state is dumped in 9 ns, so dumps are a sixth of its work at most."""
MANY_STEPS = 1000
"""Steps after a base at most, however few bytes they are: each is a call of the handler, some 0.5 ms."""


def due(state: int, passed: int) -> bool:
    """Whether it is time, with so many bytes of state in the last base, and so many that passed since.

    >>> due(state=300, passed=200_000), due(state=9_000_000, passed=5_000_000), due(80_000_000, 64_000_000)
    (False, False, True)
    """
    return passed >= min(max(state, LEAST_BYTES), MOST_BYTES)

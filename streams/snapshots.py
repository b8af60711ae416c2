"""An agent's memory of one partition, as one value: its state, how far it has read, and what it said.

Reading on from the offsets in the snapshot, and saying the outbox again, is what makes a crash invisible:
a record is applied once, and what follows from it is published at least once, with the same words. The
reader recognises a repetition by the headers `source` and `seq`.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import orjson

from streams.chunks import Arrived, Chunk
from streams.publisher import Outgoing


@dataclass
class Snapshot:
    """State and bookkeeping of one partition of one agent."""

    birth: str
    """Names this memory: a memory that was lost and began anew must not be taken for a repetition."""
    state: bytes
    offsets: dict[str, int] = field(default_factory=dict)
    """Topic -> newest offset that is part of the state."""
    seen: dict[str, int] = field(default_factory=dict)
    """`source` of a message and its topic -> newest `seq` that is part of the state."""
    said: int = 0
    """Messages said so far; the last one's `seq`."""
    outbox: list[Outgoing] = field(default_factory=list)
    """What followed from the newest chunk; said again after a crash."""

    def unapplied(self, chunk: Chunk) -> Sequence[Arrived]:
        """The records of `chunk` that the state doesn't know yet."""
        newest = self.offsets.get(chunk.topic, -1)
        return [one for one in chunk.records if one.offset > newest and not self._repeated(chunk.topic, one)]

    def applied(self, chunk: Chunk, state: bytes, outbox: Sequence[Outgoing]) -> None:
        """Take over what `chunk` led to."""
        self.state = state
        self.offsets[chunk.topic] = chunk.last
        for record in chunk.records:
            source, seq = _source(chunk.topic, record)
            if source is not None:
                self.seen[source] = max(seq, self.seen.get(source, 0))
        self.outbox = list(outbox)
        self.said += len(self.outbox)

    def pack(self) -> bytes:
        """As bytes, for the changelog."""
        return zlib.compress(orjson.dumps({**vars(self), **self._packed()}), 1)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Back from `pack`."""
        fields = orjson.loads(zlib.decompress(data))
        fields["state"] = b64decode(fields["state"])
        fields["outbox"] = [
            Outgoing(**{**message, "value": b64decode(message["value"])}) for message in fields["outbox"]
        ]
        return cls(**fields)

    def _packed(self) -> dict[str, object]:
        outbox = [{**vars(message), "value": b64encode(message.value).decode()} for message in self.outbox]
        return {"state": b64encode(self.state).decode(), "outbox": outbox}

    def _repeated(self, topic: str, record: Arrived) -> bool:
        source, seq = _source(topic, record)
        return source is not None and seq <= self.seen.get(source, 0)


def signed(message: Outgoing, source: str, seq: int) -> Outgoing:
    """The message with the headers by which its reader recognises a repetition."""
    headers = {**message.headers, "source": source, "seq": str(seq)}
    return Outgoing(message.topic, message.key, message.value, headers, message.partition)


def _source(topic: str, record: Arrived) -> tuple[str | None, int]:
    source, seq = record.headers.get("source"), record.headers.get("seq", "")
    if source is None or not seq.isdecimal():
        return None, 0
    return f"{source}>{topic}", int(seq)

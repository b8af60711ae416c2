"""A message that could not be handled, with the reason and its original bytes."""

from base64 import b64decode, b64encode
from typing import ClassVar, Self

from driftloop.schemas import ids, topics
from driftloop.schemas.messages import Output

KEPT_BYTES = 64_000
"""Most bytes of a message that a dead letter keeps: 64,000 as base64 fit Kafka's default limit of 1 MB."""


class DeadLetter(Output):
    """A message that an agent could not handle; the agent continues with the next one."""

    kafka_topic: ClassVar = topics.DEAD_LETTERS
    id: str
    at: int
    """When it was parked (UTC, ms)."""
    reason: str
    """Short and countable: `malformed`, `unknown model`, `label without prediction`, ..."""
    detail: str
    topic: str
    partition: int
    offset: int
    row: int | None = None
    """Which row, where the message is a batch and the rest of it was fine."""
    key: str | None = None
    size: int
    """Bytes of the original; `payload` keeps at most 64,000 of them."""
    payload: str
    """The original bytes, base64."""

    @property
    def kafka_key(self) -> str:
        """The topic of the message."""
        return self.topic

    @classmethod
    def of(cls, value: bytes | None, **fields: object) -> Self:
        """A dead letter for `value`, whose bytes are kept (the first 64,000)."""
        kept = b64encode((value or b"")[:KEPT_BYTES]).decode()
        return cls.model_validate({**fields, "payload": kept, "size": len(value or b"")})

    def about(self, value: bytes, *what: str) -> Self:
        """The same letter about something that has no record of its own, named by `what`."""
        return type(self).of(value, **{**self.model_dump(), "id": ids.derive(self.id, *what)})

    def original(self) -> bytes:
        """The bytes as they came (the first 64,000)."""
        return b64decode(self.payload)

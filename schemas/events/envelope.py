"""What every event carries, and the parts that any of them may hold."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from driftloop.schemas import ids
from driftloop.schemas.records import Millis, Name


class Part(BaseModel):
    """A value inside an event."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Event(Part):
    """The envelope. `type` is set by each kind of event."""

    id: Name
    at: Millis
    """When it became true, in the time of the data (UTC, ms): a replayed year keeps its own calendar."""
    model: Name
    caused_by: str | None = None
    """The id of the event that led to this one; None where a person or a client began the chain."""
    schema_version: Literal[1] = 1

    @classmethod
    def following(cls, cause: "Event", **fields: object) -> Self:
        """The event of this kind that follows from `cause`: same model and time, id derived."""
        named = {"id": ids.derived(cause.id, cls.__name__), "at": cause.at, "model": cause.model}
        return cls.model_validate({**named, **fields, "caused_by": cause.id})


class Span(Part):
    """Consecutive records of one partition, both ends included."""

    topic: str
    partition: int
    first: int
    last: int

"""The fields of every event, and parts that several events use."""

from typing import Literal, Self

from driftloop.schemas import ids
from driftloop.schemas.messages import Output, Part
from driftloop.schemas.records import Millis, Name

__all__ = ("Event", "Part", "Span")


class Event(Output):
    """The envelope. Each kind of event sets `type` and `kafka_topic`."""

    id: Name
    at: Millis
    """Time of the event in the time of the data (UTC, ms), so that a replayed year keeps its dates."""
    model: Name
    caused_by: str | None = None
    """Id of the event that caused this one; None where a person or a client did."""
    schema_version: Literal[1] = 1
    type: str
    """Name of the class."""

    @property
    def kafka_key(self) -> str:
        """The model: its events on a topic stay in order."""
        return self.model

    @classmethod
    def following(cls, cause: "Event", **fields: object) -> Self:
        """The event of this kind that follows from `cause`: same model and time, id derived."""
        derived = {"id": ids.derive(cause.id, cls.__name__), "at": cause.at, "model": cause.model}
        return cls.model_validate({**derived, **fields, "caused_by": cause.id})


class Span(Part):
    """Consecutive records of one partition, both ends included."""

    topic: str
    partition: int
    first: int
    last: int

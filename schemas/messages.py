"""What travels through Kafka: every message class names its own topic.

A class with a `type` and without a topic is refused twice: mypy reports "Cannot instantiate abstract
class" where it is built, and its definition raises a TypeError.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from driftloop.schemas.topics import Topic

if TYPE_CHECKING:

    class _OnTopic(Protocol):
        kafka_topic: ClassVar[Topic]
else:  # at run time a protocol and a pydantic model have different metaclasses

    class _OnTopic:
        pass


class Part(BaseModel):
    """A value inside a message; an unknown key is ignored, so that clients may add their own."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Message(Part, _OnTopic):
    """What is published to `kafka_topic`, as JSON."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Check that a class with a `type` names its topic; a class without one is a base of others.

        Raises:
            TypeError: it names none.
        """
        kind = cls.model_fields.get("type")
        if kind and not kind.is_required() and "kafka_topic" not in vars(cls):
            raise TypeError(f"{cls.__name__} names no topic: add `kafka_topic: ClassVar = topics.<TOPIC>`")


class Output(Message):
    """What a handler may return; the agent runner publishes it."""

    @property
    @abstractmethod
    def kafka_key(self) -> str:
        """The Kafka key: messages with the same key stay in order."""

    @property
    def kafka_partition(self) -> int | None:
        """The partition; None where it follows from the key."""
        return None


Kind = TypeVar("Kind", bound=Message)


def kinds(base: type[Kind]) -> Iterator[type[Kind]]:
    """All subclasses of `base` that name a topic, in the order of their definition."""
    for kind in base.__subclasses__():
        if "kafka_topic" in vars(kind):
            yield kind
        yield from kinds(kind)

"""The event log as a client sees it: Kafka, read from the beginning where an answer needs the past."""

import asyncio
from collections.abc import Callable, Sequence

from driftloop.schemas.events import Event
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.schemas.topics import Topic
from driftloop.streams import admin, topic_reader
from driftloop.streams.producer.publisher import Publisher


class KafkaEventLog:
    """`ports.EventLog` on Kafka. Each call opens its own connection: a client calls rarely.

    Every call raises Unavailable, within seconds, where no broker answers.
    """

    def __init__(self, kafka: KafkaSettings, publisher: PublisherSettings) -> None:
        self._kafka = kafka
        self._publisher = publisher.without_spool()

    async def publish(self, event: Event) -> None:
        """Returns once Kafka has it. Raises Unavailable where no broker answers."""
        await asyncio.to_thread(self._publish, event)

    async def first(self, wanted: Callable[[Event], bool], seconds: float) -> Event | None:
        """The first event that `wanted` accepts; None if none comes in time."""
        return await asyncio.to_thread(self._first, wanted, seconds)

    async def history(self, model: str, kinds: Sequence[type[Event]]) -> Sequence[Event]:
        """All events of these kinds about a model, those of a kind oldest first; reads each topic once."""
        events = await asyncio.to_thread(
            self._read_all, list(dict.fromkeys(kind.kafka_topic for kind in kinds))
        )
        return [event for event in events if isinstance(event, tuple(kinds)) and event.model == model]

    def _first(self, wanted: Callable[[Event], bool], seconds: float) -> Event | None:
        admin.require_broker(self._kafka)
        return topic_reader.wait_for_event(self._kafka, wanted, seconds)

    def _read_all(self, topics: Sequence[Topic]) -> Sequence[Event]:
        admin.require_broker(self._kafka)
        return topic_reader.read_all(self._kafka, topics)

    def _publish(self, event: Event) -> None:
        admin.require_broker(self._kafka)
        with Publisher(self._kafka, self._publisher) as publisher:
            publisher.publish_event(event)

"""The event log as a client sees it: Kafka, read from the beginning where an answer needs the past."""

import asyncio
from collections.abc import Callable, Sequence

from driftloop.schemas.events import Event
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import topic_reader
from driftloop.streams.producer.publisher import Publisher


class KafkaEventLog:
    """`ports.EventLog` on Kafka. Each call opens its own connection: a client calls rarely."""

    def __init__(self, kafka: KafkaSettings, publisher: PublisherSettings) -> None:
        self._kafka = kafka
        self._publisher = publisher.without_spool()

    async def publish(self, event: Event) -> None:
        """Returns once Kafka has it."""
        await asyncio.to_thread(self._publish, event)

    async def first(self, wanted: Callable[[Event], bool], seconds: float) -> Event | None:
        """The first event that `wanted` accepts; None if none comes in time."""
        return await asyncio.to_thread(topic_reader.wait_for_event, self._kafka, wanted, seconds)

    async def history(self, model: str, kinds: Sequence[type[Event]]) -> Sequence[Event]:
        """All events of these kinds about a model, those of a kind oldest first; reads each topic once."""
        topics = list(dict.fromkeys(kind.kafka_topic for kind in kinds))
        events = await asyncio.to_thread(topic_reader.read_all, self._kafka, topics)
        return [event for event in events if isinstance(event, tuple(kinds)) and event.model == model]

    def _publish(self, event: Event) -> None:
        with Publisher(self._kafka, self._publisher) as publisher:
            publisher.publish_event(event)

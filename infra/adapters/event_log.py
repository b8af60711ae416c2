"""The event log as a client sees it: Kafka, read from the beginning where an answer needs the past."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from driftloop.schemas.events import Event
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import topic_reader
from driftloop.streams.producer.publisher import Publisher

Found = TypeVar("Found", bound=Event)


class KafkaEventLog:
    """`ports.EventLog` on Kafka. Each call opens its own connection: a client calls rarely."""

    def __init__(self, kafka: KafkaSettings, publisher: PublisherSettings) -> None:
        self._kafka = kafka
        self._publisher = publisher.unspooled()

    async def publish(self, event: Event) -> None:
        """Returns once Kafka has it."""
        await asyncio.to_thread(self._publish, event)

    async def first(self, wanted: Callable[[Event], bool], seconds: float) -> Event | None:
        """The first event that `wanted` accepts; None if none comes in time."""
        return await asyncio.to_thread(topic_reader.wait_for_event, self._kafka, wanted, seconds)

    async def newest(
        self, kind: type[Found], model: str, wanted: Callable[[Found], bool] = lambda _: True
    ) -> Found | None:
        """The newest event of a kind about a model, of those that are `wanted`."""
        topic = kind.kafka_topic
        found = await asyncio.to_thread(topic_reader.read_all, self._kafka, [topic])
        about = (event for event in reversed(found) if isinstance(event, kind) and event.model == model)
        return next((event for event in about if wanted(event)), None)

    def _publish(self, event: Event) -> None:
        with Publisher(self._kafka, self._publisher) as publisher:
            publisher.publish_event(event)

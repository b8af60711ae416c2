"""Reading whole topics without a group: for the page, for lineage, for whoever waits for an event."""

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas.events import AnyEvent
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import ranges, topics
from driftloop.streams.producer import client_log
from driftloop.streams.wire import codec

ANSWER_SECONDS = 10.0
REFRESH_MS = 2000


class Reader:
    """Reads every partition of some topics from the beginning; close it, or use `with`."""

    def __init__(self, kafka: KafkaSettings, wanted: Iterable[topics.Topic] = topics.EVENTS) -> None:
        self._bootstrap = kafka.bootstrap
        self._names = {topics.name_of(topic, kafka): topic for topic in wanted}
        self._at_end: set[tuple[str, int]] = set()
        self._consumer = Consumer(
            {**ranges.config(kafka), "topic.metadata.refresh.interval.ms": REFRESH_MS},
            logger=client_log.log,
        )
        self._assigned = self._partitions()
        self._consumer.assign([TopicPartition(*one, OFFSET_BEGINNING) for one in self._assigned])

    def poll(self, seconds: float, most: int = 500) -> Iterator[tuple[topics.Topic, Message]]:
        """What arrived, at most `most` messages, waiting at most `seconds`."""
        for message in self._consumer.consume(most, seconds):
            error = message.error()
            if error is None:
                self._at_end.discard((message.topic(), message.partition()))
                yield self._names[message.topic()], message
            elif error.code() == KafkaError._PARTITION_EOF:
                self._at_end.add((message.topic(), message.partition()))

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there has been read."""
        return len(self._at_end) >= len(self._assigned)

    def events(self, seconds: float) -> Iterator[AnyEvent]:
        """Like `poll`, decoded; what can't be read is left out (the consuming loop has parked it)."""
        for _, message in self.poll(seconds):
            try:
                yield codec.decode_event(message.value())
            except codec.Unreadable:
                continue

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _partitions(self) -> list[tuple[str, int]]:
        known = self._consumer.list_topics(timeout=ANSWER_SECONDS).topics
        missing = sorted(set(self._names) - set(known))
        if missing:
            raise Unavailable(f"{self._bootstrap} has no topic {missing[0]}; `driftloop topics` creates it")
        return [(name, partition) for name in self._names for partition in known[name].partitions]


def everything(kafka: KafkaSettings, wanted: Iterable[topics.Topic] = topics.EVENTS) -> list[AnyEvent]:
    """All events that are in the topics now."""
    found: list[AnyEvent] = []
    with Reader(kafka, wanted) as reader:
        while not reader.caught_up:
            found.extend(reader.events(0.2))
    return found


def wait_for(
    kafka: KafkaSettings,
    wanted: Callable[[AnyEvent], bool],
    seconds: float,
    among: Iterable[topics.Topic] = topics.EVENTS,
) -> AnyEvent | None:
    """The first event (past ones included) that `wanted` accepts; None if none came in time."""
    deadline = time.monotonic() + seconds
    with Reader(kafka, among) as reader:
        while time.monotonic() < deadline:
            for event in reader.events(0.2):
                if wanted(event):
                    return event
    return None

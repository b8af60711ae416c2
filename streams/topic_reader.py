"""Reading topics without a consumer group: whole topics, or a stretch of one partition."""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas import topics
from driftloop.schemas.events import Event
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import clients
from driftloop.streams.records import ConsumerRecord
from driftloop.streams.wire import codec

ANSWER_SECONDS = 10.0
REFRESH_MS = 2000


class TopicReader:
    """Reads every partition of some topics from the beginning; close it, or use `with`."""

    def __init__(self, kafka: KafkaSettings, wanted: Iterable[topics.Topic] = topics.EVENTS) -> None:
        self._bootstrap = kafka.bootstrap
        self._names = {topics.name_of(topic, kafka): topic for topic in wanted}
        self._at_end: set[tuple[str, int]] = set()
        self._consumer = Consumer(
            {**clients.consumer_config(kafka), "topic.metadata.refresh.interval.ms": REFRESH_MS},
            logger=clients.log,
        )
        self._assigned = self._partitions()
        self._consumer.assign([TopicPartition(*key, OFFSET_BEGINNING) for key in self._assigned])

    def poll(self, seconds: float, most: int = 500) -> Iterator[tuple[topics.Topic, Message]]:
        """The next messages, at most `most` of them; waits at most `seconds`."""
        for message in self._consumer.consume(most, seconds):
            error = message.error()
            if error is None:
                self._at_end.discard((message.topic(), message.partition()))
                yield self._names[message.topic()], message
            elif error.code() == KafkaError._PARTITION_EOF:
                self._at_end.add((message.topic(), message.partition()))

    @property
    def caught_up(self) -> bool:
        """Whether all partitions have been read to their ends."""
        return len(self._at_end) >= len(self._assigned)

    def events(self, seconds: float) -> Iterator[Event]:
        """Like `poll`, decoded, without messages that can't be decoded (agents make dead letters of them)."""
        for _, message in self.poll(seconds):
            try:
                yield codec.decode_event(message.value())
            except codec.Unreadable:
                continue

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _partitions(self) -> list[tuple[str, int]]:
        try:
            known = self._consumer.list_topics(timeout=ANSWER_SECONDS).topics
        except KafkaException as error:
            raise Unavailable(
                f"Kafka at {self._bootstrap} did not answer in {ANSWER_SECONDS:g} s: {error.args[0].str()}"
            ) from error
        missing = sorted(set(self._names) - set(known))
        if missing:
            raise Unavailable(f"{self._bootstrap} has no topic {missing[0]}; `driftloop topics` creates it")
        return [(name, partition) for name in self._names for partition in known[name].partitions]


def read_all(kafka: KafkaSettings, wanted: Iterable[topics.Topic] = topics.EVENTS) -> list[Event]:
    """All events in the topics."""
    found: list[Event] = []
    with TopicReader(kafka, wanted) as reader:
        while not reader.caught_up:
            found.extend(reader.events(0.2))
    return found


def wait_for_event(
    kafka: KafkaSettings,
    wanted: Callable[[Event], bool],
    seconds: float,
    among: Iterable[topics.Topic] = topics.EVENTS,
) -> Event | None:
    """The first event (past ones included) that `wanted` accepts; None if none came in time."""
    deadline = time.monotonic() + seconds
    with TopicReader(kafka, among) as reader:
        while time.monotonic() < deadline:
            for event in reader.events(0.2):
                if wanted(event):
                    return event
    return None


log = logging.getLogger(__name__)

SILENCE_SECONDS = 30.0
"""Without an answer for as long, the broker counts as unavailable."""


def read_records(
    kafka: KafkaSettings, topic: str, partition: int, first: int, last: int | None = None
) -> Generator[ConsumerRecord, None, None]:
    """Records from offset `first` (or the oldest that is kept) to `last`, or to the end as it is now.

    `topic` is the topic's full name in the cluster.

    Raises:
        Unavailable: the broker doesn't answer.
    """
    with closing(Consumer(clients.consumer_config(kafka), logger=clients.log)) as consumer:
        for message in _messages(consumer, TopicPartition(topic, partition, first)):
            if last is None or message.offset() <= last:
                yield _consumer_record(message)
            if last is not None and message.offset() >= last:
                return


def first_offset_from(kafka: KafkaSettings, topic: str, partition: int, offset: int) -> int | None:
    """The offset of the first record at or after `offset`; None if there is none."""
    with closing(read_records(kafka, topic, partition, offset)) as found:
        return next((record.offset for record in found), None)


def last_record(kafka: KafkaSettings, topic: str, partition: int) -> ConsumerRecord | None:
    """The partition's last record.

    Asked by a fetch to the end: the embedded broker's ListOffsets knows only where the last batch begins.
    """
    last = None
    with closing(Consumer(clients.consumer_config(kafka), logger=clients.log)) as consumer:
        where = TopicPartition(topic, partition)
        try:
            _, end = consumer.get_watermark_offsets(where, timeout=SILENCE_SECONDS)
        except KafkaException as error:
            raise Unavailable(f"{topic}/{partition}: {error.args[0].str()}") from error
        for message in _messages(consumer, TopicPartition(topic, partition, max(end - 1, 0))):
            last = _consumer_record(message)
    return last


def _messages(consumer: Consumer, start: TopicPartition) -> Iterator[Message]:
    """The messages from `start` to the end of the partition."""
    consumer.assign([start])
    where = f"{start.topic}/{start.partition}"
    answered = time.monotonic()
    while True:
        message = consumer.poll(0.5)
        if message is None:
            if time.monotonic() > answered + SILENCE_SECONDS:
                raise Unavailable(f"{where}: no answer in {SILENCE_SECONDS:g} s")
            continue
        error = message.error()
        if error is None:
            answered = time.monotonic()
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            return
        elif not error.retriable():
            log.warning("error while reading; it is repeated", extra={"where": where, "error": error.str()})


def _consumer_record(message: Message) -> ConsumerRecord:
    headers = {name: value.decode(errors="replace") for name, value in message.headers() or () if value}
    _, timestamp = message.timestamp()
    return ConsumerRecord(message.offset() or 0, timestamp, message.key(), message.value(), headers)

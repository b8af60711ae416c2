"""Reading a stretch of one partition by offsets, without a group."""

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import topics
from driftloop.streams.processing.faust_transport import Arrived
from driftloop.streams.producer import client_log

log = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0
"""Silence after which the broker counts as away."""


def records(
    kafka: KafkaSettings, topic: str, partition: int, first: int, last: int | None = None
) -> Generator[Arrived, None, None]:
    """Records from offset `first` (or the oldest that is kept) to `last`, or to the end as it is now.

    `topic` is the topic's full name in the cluster.

    Raises:
        Unavailable: the broker doesn't answer.
    """
    with closing(Consumer(config(kafka), logger=client_log.log)) as consumer:
        for message in _messages(consumer, TopicPartition(topic, partition, first)):
            if last is None or message.offset() <= last:
                yield _arrived(message)
            if last is not None and message.offset() >= last:
                return


def oldest_from(kafka: KafkaSettings, topic: str, partition: int, offset: int) -> int | None:
    """The offset of the first record at or after `offset`; None if there is none."""
    with closing(records(kafka, topic, partition, offset)) as found:
        return next((one.offset for one in found), None)


def newest(kafka: KafkaSettings, topic: str, partition: int) -> Arrived | None:
    """The partition's last record.

    Asked by a fetch to the end: the embedded broker's ListOffsets knows only where the last batch begins.
    """
    last = None
    with closing(Consumer(config(kafka), logger=client_log.log)) as consumer:
        where = TopicPartition(topic, partition)
        try:
            _, end = consumer.get_watermark_offsets(where, timeout=ANSWER_SECONDS)
        except KafkaException as error:
            raise Unavailable(f"{topic}/{partition}: {error.args[0].str()}") from error
        for message in _messages(consumer, TopicPartition(topic, partition, max(end - 1, 0))):
            last = _arrived(message)
    return last


def config(kafka: KafkaSettings) -> dict[str, str | int | bool]:
    """Of a consumer that reads partitions to their end, as it is told, without a group."""
    return {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": "driftloop-reader",  # librdkafka asks for one; nothing is ever committed
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": topics.MAX_MESSAGE_BYTES,
        "fetch.wait.max.ms": 50,
    }


def _messages(consumer: Consumer, start: TopicPartition) -> Iterator[Message]:
    """From there until the end of the partition."""
    consumer.assign([start])
    where = f"{start.topic}/{start.partition}"
    heard = time.monotonic()
    while True:
        message = consumer.poll(0.5)
        if message is None:
            if time.monotonic() > heard + ANSWER_SECONDS:
                raise Unavailable(f"{where}: no answer in {ANSWER_SECONDS:g} s")
            continue
        error = message.error()
        if error is None:
            heard = time.monotonic()
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            return
        elif not error.retriable():
            log.warning("reading goes on", extra={"where": where, "error": error.str()})


def _arrived(message: Message) -> Arrived:
    headers = {name: value.decode(errors="replace") for name, value in message.headers() or () if value}
    _, timestamp = message.timestamp()
    return Arrived(message.offset() or 0, timestamp, message.key(), message.value(), headers)

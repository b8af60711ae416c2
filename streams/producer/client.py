"""The line to Kafka: an idempotent producer that is replaced when it can't go on.

Idempotence is a number that the broker gave the producer. A broker that lost it (replaced by an empty one)
answers "unknown producer id". On Apache Kafka librdkafka asks for a new number and goes on; on the embedded
broker it only counts its epoch up, and tries for ever, without an error. Both that and a fatal error are
noticed here: the producer is closed, and what it had not delivered goes to a new one, in order.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from driftloop.schemas import topics
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import clients
from driftloop.streams.records import ProducerRecord

STATISTICS_MS = 1000
BUMPS_WHEN_STUCK = 3
"""Epochs counted up in vain (ten a second) that mean: the broker doesn't know us any more."""
PURGE_SECONDS = 5.0
FLUSH_SECONDS = 0.002
ASK_SECONDS = 2.0
UNSENT = (KafkaError._PURGE_INFLIGHT, KafkaError._PURGE_QUEUE, KafkaError._FATAL)

log = logging.getLogger(__name__)
DeliveryCallback = Callable[[KafkaError | None], None]
"""Called from another thread with None, or with why the message was given up."""


class ResilientProducer:
    """Sends messages and says what became of them; one thread must call `poll` again and again."""

    def __init__(self, kafka: KafkaSettings, settings: PublisherSettings, patient: bool = False) -> None:
        """`patient`: never give a message up because it took too long."""
        self._config = {
            **_config(kafka, settings),
            "delivery.timeout.ms": 0 if patient else int(settings.delivery_timeout * 1000),
            "error_cb": self._complained,
            "stats_cb": self._measured,
        }
        self._gate = threading.RLock()
        """Held while sending: nothing may come between what the old producer had and what is new."""
        self._counting = threading.Lock()
        self.delivered = 0
        """Written by the polling thread alone, so without a lock."""
        self.failed = 0
        self.replacements = 0
        self._reasons: list[str] = []
        self._again: deque[tuple[bool, ProducerRecord, DeliveryCallback | None]] = deque()
        """What goes to the next producer; counted until that one has it."""
        self._broken: str | None = None
        self._epoch: tuple[int, int, int] = (-1, 0, 0)
        self._producer = Producer(self._config, logger=clients.log)

    def __len__(self) -> int:
        """Messages (and their reports) that are on their way, or wait for a new producer."""
        return len(self._again) + (0 if self._producer is None else len(self._producer))

    def send(self, topic: str, key: bytes, value: bytes, partition: int = -1) -> None:
        """Buffer a message without headers. Raises BufferError when there is no room."""
        report = self._reported_keyed if partition < 0 else self._reported_placed
        try:
            with self._gate:
                self._producer.produce(topic, value, key, partition, report)
        except KafkaException as error:
            self._count_failure(topic, self._refused(error), keep=True)

    def send_with_callback(self, message: ProducerRecord, done: DeliveryCallback | None) -> None:
        """Buffer a message and have `done` called. Raises BufferError when there is no room."""

        def reported(error: KafkaError | None, _message: Message | None = None) -> None:
            if error is None:
                self.delivered += 1
            elif error.code() in UNSENT:
                self._keep(error, message, done)
                return
            else:
                self._count_failure(message.topic, error, keep=done is None)
            if done is not None:
                done(error)

        partition = -1 if message.partition is None else message.partition
        headers = [(name, value.encode()) for name, value in message.headers.items()]
        key = message.key.encode()
        try:
            with self._gate:
                self._producer.produce(
                    message.topic, message.value, key, partition, reported, headers=headers
                )
        except KafkaException as error:
            reported(self._refused(error))

    def poll(self, seconds: float) -> None:
        """Have reports delivered, for so long; replaces a producer that can't go on."""
        self._producer.poll(seconds)
        if self._broken is not None:
            self.replace(self._broken)

    def replace(self, reason: str) -> None:
        """Have a new producer take over what this one hasn't delivered; called by the polling thread."""
        with self._gate:
            log.warning("a new producer takes over", extra={"reason": reason, "waiting": len(self)})
            self._producer.purge()
            self._producer.flush(PURGE_SECONDS)
            self._producer = Producer(self._config, logger=clients.log)
            self._broken, self._epoch = None, (-1, 0, 0)
            self.replacements += 1
            self._again = deque(sorted(self._again, key=lambda one: one[0]))
            try:
                while self._again:
                    _, message, done = self._again[0]
                    self.send_with_callback(message, done)
                    self._again.popleft()
            except BufferError as error:  # the new one can't go on either: the rest waits for the next
                self._broken = str(error)

    def flush(self, seconds: float) -> int:
        """Wait until nothing is on its way, at most so long; how many messages still are.

        It is the polling thread that has the reports delivered: two at it would only wait for each other.
        """
        deadline = time.monotonic() + seconds
        while len(self) and time.monotonic() < deadline:
            time.sleep(FLUSH_SECONDS)
        return len(self)

    def take_failures(self) -> list[str]:
        """Why messages without a `done` were given up, since the last call."""
        with self._counting:
            reasons, self._reasons = self._reasons, []
        return reasons

    def count_unsent(self, topic: str, reason: str, messages: int) -> None:
        """Count messages that could not even be made."""
        with self._counting:
            self.failed += messages
            self._reasons += [f"{topic}: {reason}"] * messages

    def partition_count(self, topic: str) -> int | None:
        """How many partitions the topic has; None if nobody says so within `ASK_SECONDS`."""
        producer = self._producer
        if producer is None:
            return None  # closed meanwhile
        try:
            found = producer.list_topics(topic, timeout=ASK_SECONDS).topics[topic]
        except KafkaException:
            return None
        return len(found.partitions) if found.error is None and found.partitions else None

    def close(self) -> None:
        """Let go of what is on its way, so that it can't arrive after what somebody else sends instead."""
        with self._gate:
            self._producer.purge()
            self._producer.flush(PURGE_SECONDS)
            self._producer = None  # it has callbacks of ours, so nobody else would end its threads soon

    def _reported_keyed(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._undelivered(error, message, None)

    def _reported_placed(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._undelivered(error, message, message.partition())

    def _undelivered(self, error: KafkaError, message: Message, partition: int | None) -> None:
        if error.code() in UNSENT:
            key = message.key().decode()
            self._keep(
                error, ProducerRecord(message.topic(), key, message.value(), partition=partition), None
            )
        else:
            self._count_failure(message.topic(), error, keep=True)

    def _keep(self, error: KafkaError, message: ProducerRecord, done: DeliveryCallback | None) -> None:
        """For the next producer: what was in flight comes before what was still queued."""
        with self._counting:
            self._again.append((error.code() != KafkaError._PURGE_INFLIGHT, message, done))

    def _count_failure(self, topic: str, error: KafkaError, keep: bool) -> None:
        with self._counting:
            self.failed += 1
            if keep:
                self._reasons.append(f"{topic}: {error.str()}")

    def _refused(self, error: KafkaException) -> KafkaError:
        """What is wrong with the message; for a fatal error it waits for the new producer as for room."""
        reason: KafkaError = error.args[0]
        if not (reason.fatal() or reason.code() == KafkaError._FATAL):
            return reason
        self._broken = reason.str()
        raise BufferError(reason.str())

    def _complained(self, error: KafkaError) -> None:
        if error.fatal():
            self._broken = error.str()

    def _measured(self, statistics: str) -> None:
        """Once a second: is the epoch counted up while nothing gets through?"""
        idempotence: dict[str, Any] = orjson.loads(statistics).get("eos", {})
        identity, epoch = idempotence.get("producer_id", -1), idempotence.get("producer_epoch", 0)
        known, since, delivered = self._epoch
        if identity != known or delivered != self.delivered:
            self._epoch = (identity, epoch, self.delivered)
        elif epoch - since >= BUMPS_WHEN_STUCK:
            self._broken = f"the broker does not know producer {identity} any more"


def _config(kafka: KafkaSettings, settings: PublisherSettings) -> dict[str, Any]:
    return {
        "bootstrap.servers": kafka.bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",  # a third of the bytes for 2 % of the CPU; every broker knows it
        "partitioner": "consistent",  # what `partition_of` computes for batches
        "linger.ms": settings.linger_ms,
        "queue.buffering.max.messages": settings.buffer_messages,
        "queue.buffering.max.kbytes": max(64_000, settings.buffer_messages),
        "message.max.bytes": topics.MAX_MESSAGE_BYTES,
        "statistics.interval.ms": STATISTICS_MS,
        "topic.metadata.refresh.interval.ms": 30_000,
    }

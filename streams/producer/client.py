"""An idempotent Kafka producer that is replaced after a fatal error.

The broker assigns a producer id for idempotence. A broker that lost it (replaced by an empty one) answers
"unknown producer id". With Apache Kafka, librdkafka requests a new id; with the embedded broker it increments
its epoch and retries for ever, without an error. This client detects both that and fatal errors: it closes
the producer, and a new one sends the undelivered messages, in order.
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
MAX_EPOCH_BUMPS = 3
"""Epoch increments (ten a second) without a delivery, after which the producer id counts as lost."""
PURGE_SECONDS = 5.0
FLUSH_SECONDS = 0.002
METADATA_SECONDS = 2.0
REPLACEABLE = (KafkaError._PURGE_INFLIGHT, KafkaError._PURGE_QUEUE, KafkaError._FATAL)

log = logging.getLogger(__name__)
DeliveryCallback = Callable[[KafkaError | None], None]
"""Called from another thread: with None after the acknowledgement, else with the error."""


class ResilientProducer:
    """Sends messages and reports their delivery; one thread must call `poll` continuously."""

    def __init__(
        self, kafka: KafkaSettings, settings: PublisherSettings, retry_forever: bool = False
    ) -> None:
        """`retry_forever`: no delivery timeout."""
        self._config = {
            **_config(kafka, settings),
            "delivery.timeout.ms": 0 if retry_forever else int(settings.delivery_timeout * 1000),
            "error_cb": self._on_error,
            "stats_cb": self._on_statistics,
        }
        self._send_lock = threading.RLock()
        """Held while sending: new messages wait until a replacement has the undelivered ones."""
        self._count_lock = threading.Lock()
        self.delivered = 0
        """Messages; only the polling thread writes it, so without a lock."""
        self.failed = 0
        self.replacements = 0
        self._failure_reasons: list[str] = []
        self._requeued: deque[tuple[bool, ProducerRecord, DeliveryCallback | None]] = deque()
        """Messages for the next producer: whether it was only queued, the message, its callback."""
        self._failure: str | None = None
        self._idempotence: tuple[int, int, int] = (-1, 0, 0)
        self._producer = Producer(self._config, logger=clients.log)

    def __len__(self) -> int:
        """Messages that are not acknowledged or whose delivery is not on_delivery yet."""
        return len(self._requeued) + (0 if self._producer is None else len(self._producer))

    def send(self, topic: str, key: bytes, value: bytes, partition: int = -1) -> None:
        """Buffer a message without headers. Raises BufferError when there is no room."""
        report = self._on_delivery if partition < 0 else self._on_delivery_to_partition
        try:
            with self._send_lock:
                self._producer.produce(topic, value, key, partition, report)
        except KafkaException as error:
            self._count_failure(topic, self._rejection(error), record_reason=True)

    def send_with_callback(self, message: ProducerRecord, done: DeliveryCallback | None) -> None:
        """Buffer a message; `done` is called with the outcome. Raises BufferError when there is no room."""

        def on_delivery(error: KafkaError | None, _message: Message | None = None) -> None:
            if error is None:
                self.delivered += 1
            elif error.code() in REPLACEABLE:
                self._requeue(error, message, done)
                return
            else:
                self._count_failure(message.topic, error, record_reason=done is None)
            if done is not None:
                done(error)

        partition = -1 if message.partition is None else message.partition
        headers = [(name, value.encode()) for name, value in message.headers.items()]
        key = message.key.encode()
        try:
            with self._send_lock:
                self._producer.produce(
                    message.topic, message.value, key, partition, on_delivery, headers=headers
                )
        except KafkaException as error:
            on_delivery(self._rejection(error))

    def poll(self, seconds: float) -> None:
        """Serve delivery reports for so long; replaces the producer after a fatal error."""
        self._producer.poll(seconds)
        if self._failure is not None:
            self.replace(self._failure)

    def replace(self, reason: str) -> None:
        """Send the undelivered messages with a new producer; called by the polling thread."""
        with self._send_lock:
            log.warning(
                "producer failed; a new one sends the rest", extra={"reason": reason, "messages": len(self)}
            )
            self._producer.purge()
            self._producer.flush(PURGE_SECONDS)
            self._producer = Producer(self._config, logger=clients.log)
            self._failure, self._idempotence = None, (-1, 0, 0)
            self.replacements += 1
            self._requeued = deque(sorted(self._requeued, key=lambda entry: entry[0]))
            try:
                while self._requeued:
                    _, message, done = self._requeued[0]
                    self.send_with_callback(message, done)
                    self._requeued.popleft()
            except BufferError as error:  # the new one failed as well: the next one sends the rest
                self._failure = str(error)

    def flush(self, seconds: float) -> int:
        """Wait until all messages are acknowledged, at most so long; returns how many are not.

        Reports are served by the polling thread; a second thread would only block it.
        """
        deadline = time.monotonic() + seconds
        while len(self) and time.monotonic() < deadline:
            time.sleep(FLUSH_SECONDS)
        return len(self)

    def take_failures(self) -> list[str]:
        """The reasons why messages without callback failed, since the last call."""
        with self._count_lock:
            reasons, self._failure_reasons = self._failure_reasons, []
        return reasons

    def count_unsent(self, topic: str, reason: str, messages: int) -> None:
        """Count messages that could not be serialized."""
        with self._count_lock:
            self.failed += messages
            self._failure_reasons += [f"{topic}: {reason}"] * messages

    def partition_count(self, topic: str) -> int | None:
        """The topic's number of partitions; None without an answer within `METADATA_SECONDS`."""
        producer = self._producer
        if producer is None:
            return None  # closed
        try:
            metadata = producer.list_topics(topic, timeout=METADATA_SECONDS).topics[topic]
        except KafkaException:
            return None
        return len(metadata.partitions) if metadata.error is None and metadata.partitions else None

    def close(self) -> None:
        """Drop unacknowledged messages, so that they can't arrive after those that another producer sends."""
        with self._send_lock:
            self._producer.purge()
            self._producer.flush(PURGE_SECONDS)
            self._producer = None  # its callbacks refer to self: without this its threads would live on

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._on_failure(error, message, None)

    def _on_delivery_to_partition(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._on_failure(error, message, message.partition())

    def _on_failure(self, error: KafkaError, message: Message, partition: int | None) -> None:
        if error.code() in REPLACEABLE:
            key = message.key().decode()
            self._requeue(
                error, ProducerRecord(message.topic(), key, message.value(), partition=partition), None
            )
        else:
            self._count_failure(message.topic(), error, record_reason=True)

    def _requeue(self, error: KafkaError, message: ProducerRecord, done: DeliveryCallback | None) -> None:
        """Keep a message for the next producer: those in flight are sent before those that were queued."""
        with self._count_lock:
            self._requeued.append((error.code() != KafkaError._PURGE_INFLIGHT, message, done))

    def _count_failure(self, topic: str, error: KafkaError, record_reason: bool) -> None:
        with self._count_lock:
            self.failed += 1
            if record_reason:
                self._failure_reasons.append(f"{topic}: {error.str()}")

    def _rejection(self, error: KafkaException) -> KafkaError:
        """Why the message was rejected. Raises BufferError for a fatal error: a new producer will take it."""
        reason: KafkaError = error.args[0]
        if not (reason.fatal() or reason.code() == KafkaError._FATAL):
            return reason
        self._failure = reason.str()
        raise BufferError(reason.str())

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = error.str()

    def _on_statistics(self, statistics: str) -> None:
        """Once a second: the producer id is lost if its epoch grows while nothing is delivered."""
        idempotence: dict[str, Any] = orjson.loads(statistics).get("eos", {})
        producer_id, epoch = idempotence.get("producer_id", -1), idempotence.get("producer_epoch", 0)
        known, since, delivered = self._idempotence
        if producer_id != known or delivered != self.delivered:
            self._idempotence = (producer_id, epoch, self.delivered)
        elif epoch - since >= MAX_EPOCH_BUMPS:
            self._failure = f"the broker no longer knows producer id {producer_id}"


def _config(kafka: KafkaSettings, settings: PublisherSettings) -> dict[str, Any]:
    return {
        "bootstrap.servers": kafka.bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",  # a third of the bytes for 2 % of the CPU; every broker supports it
        "partitioner": "consistent",  # what `partition_of` computes for batches
        "linger.ms": settings.linger_ms,
        "queue.buffering.max.messages": settings.buffer_messages,
        "queue.buffering.max.kbytes": max(64_000, settings.buffer_messages),
        "message.max.bytes": topics.MAX_MESSAGE_BYTES,
        "statistics.interval.ms": STATISTICS_MS,
        "topic.metadata.refresh.interval.ms": 30_000,
    }

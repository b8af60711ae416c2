"""Publishing: from your own service, from our replicas, and from the agents.

    with Publisher(kafka) as publisher:
        publisher.publish(Prediction(model="fraud", version="3", id="tx-1", at=now, score=0.93))
        publisher.publish(Label(model="fraud", id="tx-1", at=later, label=1))

Idempotent producer, `acks=all`: what was delivered is in Kafka once, in order. The buffer is bounded, and
what happens when it is full is a setting (`block` or `raise`). Nothing is dropped silently: `flush` and
leaving the `with` block raise NotDelivered for what the broker never acknowledged.
"""

import logging
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.events import Event
from schemas.records import (
    Batch,
    FeatureBatch,
    FeatureRow,
    Label,
    LabelBatch,
    Prediction,
    PredictionBatch,
)
from schemas.settings import KafkaSettings, PublisherSettings
from streams import codec, topics

POLL_SECONDS = 0.1
GIVEN_UP_AFTER = 2.0
"""Seconds after the delivery timeout by which librdkafka has noticed it."""

log = logging.getLogger(__name__)


class BufferFull(RuntimeError):
    """The buffer is full and the policy says not to wait (any longer)."""


class NotDelivered(RuntimeError):
    """Messages that the broker never acknowledged: how many, and the first reason."""


@dataclass(frozen=True)
class Outgoing:
    """One message on its way to Kafka; `topic` is the topic's full name in the cluster."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int | None = None
    """None: chosen by the key."""


class Publisher:
    """Publishes records and events. Safe to share between threads; close it, or use `with`."""

    def __init__(self, kafka: KafkaSettings, settings: PublisherSettings | None = None) -> None:
        self._kafka = kafka
        self._settings = settings or PublisherSettings()
        self._producer = Producer(_config(kafka, self._settings), logger=log)
        self._partitions: dict[str, int] = {}
        self._undelivered: list[str] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="publisher", daemon=True)
        self._poller.start()

    def publish(self, record: Prediction | FeatureRow | Label) -> None:
        """Put one record on its topic, keyed by its id. Returns once it is buffered.

        Raises:
            BufferFull: no room, and the policy is `raise` or the wait was over.
        """
        topic = topics.name_of(topics.OF_RECORD[type(record)], self._kafka)
        self.send(Outgoing(topic, record.id, codec.encode(record)))

    def publish_batch(self, batch: PredictionBatch | FeatureBatch | LabelBatch) -> None:
        """Put many rows of one model on their topic: one message per partition that its ids fall to.

        Raises:
            BufferFull: no room; rows of partitions before the full one are buffered already.
        """
        topic = topics.name_of(topics.OF_RECORD[type(batch)], self._kafka)
        for partition, part in split_by_partition(batch, self._partitions_of(topic)):
            self.send(Outgoing(topic, part.ids[0], codec.encode(part), partition=partition))

    def publish_event(self, event: Event) -> None:
        """Put an event of the control plane on its topic, keyed by model."""
        self.send(self.outgoing(event))

    def outgoing(self, event: Event) -> Outgoing:
        """The message that carries `event`."""
        topic = topics.name_of(topics.OF_EVENT[type(event)], self._kafka)
        return Outgoing(topic, event.model, codec.encode(event))

    def send(self, message: Outgoing, done: Callable[[str | None], None] | None = None) -> None:
        """Buffer one message; `done` is called from another thread with None or the reason it failed."""

        def delivered(error: KafkaError | None, _message: Message) -> None:
            reason = None if error is None else f"{message.topic}: {error.str()}"
            if done is not None:
                done(reason)
            elif reason is not None:
                with self._lock:
                    self._undelivered.append(reason)

        waited = 0.0
        while True:
            try:
                self._produce(message, delivered)
            except BufferError:
                if self._settings.when_full == "raise" or waited >= self._settings.block_seconds:
                    raise BufferFull(self._full(waited)) from None
                self._producer.poll(POLL_SECONDS)
                waited += POLL_SECONDS
            else:
                return

    def deliver(self, messages: Iterable[Outgoing]) -> None:
        """Send all and wait until the broker has acknowledged each.

        Raises:
            NotDelivered: some were not; sending all of them again is safe for what follows by id.
        """
        reasons: list[str] = []
        pending = threading.Semaphore(0)

        def done(reason: str | None) -> None:
            if reason is not None:
                reasons.append(reason)
            pending.release()

        sent = 0
        for message in messages:
            self.send(message, done)
            sent += 1
        for _ in range(sent):
            pending.acquire()
        if reasons:
            raise NotDelivered(f"{len(reasons)} of {sent} messages were not delivered; {reasons[0]}")

    def flush(self, seconds: float | None = None) -> None:
        """Wait until everything buffered is acknowledged, at most `seconds` (default: until it is given up).

        Raises:
            NotDelivered: since the last flush, something was given up or is still waiting.
        """
        patience = self._settings.delivery_timeout + GIVEN_UP_AFTER if seconds is None else seconds
        waiting = self._producer.flush(patience)
        with self._lock:
            failed, self._undelivered = self._undelivered, []
        if failed or waiting:
            first = failed[0] if failed else "the broker has not answered yet"
            raise NotDelivered(f"{len(failed)} messages given up, {waiting} still waiting; {first}")

    def close(self) -> None:
        """Flush, then stop. Raises NotDelivered as `flush` does."""
        try:
            self.flush()
        finally:
            self._closing.set()
            self._poller.join()

    def __len__(self) -> int:
        """Messages that wait for the broker."""
        return len(self._producer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _produce(self, message: Outgoing, delivered: Callable[[KafkaError | None, Message], None]) -> None:
        chosen = {} if message.partition is None else {"partition": message.partition}
        self._producer.produce(
            message.topic,
            key=message.key.encode(),
            value=message.value,
            headers=[(name, value.encode()) for name, value in message.headers.items()],
            on_delivery=delivered,
            **chosen,
        )

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(POLL_SECONDS)

    def _partitions_of(self, topic: str) -> int:
        known = self._partitions.get(topic)
        if known is None:
            known = self._ask_partitions(topic)
            self._partitions[topic] = known
        return known

    def _ask_partitions(self, topic: str) -> int:
        try:
            found = self._producer.list_topics(topic, timeout=10.0).topics[topic]
        except KafkaException as error:
            raise NotDelivered(f"{self._kafka.bootstrap} does not answer: {error}") from error
        if found.error is not None:
            raise NotDelivered(f"topic {topic}: {found.error.str()}; `driftloop topics` creates it")
        return len(found.partitions)

    def _full(self, waited: float) -> str:
        return (
            f"{self._settings.buffer_messages} messages wait for {self._kafka.bootstrap} "
            f"(waited {waited:.1f} s for room)"
        )


def split_by_partition(batch: Batch, partitions: int) -> Sequence[tuple[int, Batch]]:
    """The batch's rows by the partition that their ids hash to, as a keyed message's would."""
    rows_of: dict[int, list[int]] = {}
    for row, one in enumerate(batch.ids):
        rows_of.setdefault(partition_of(one, partitions), []).append(row)
    if len(rows_of) == 1:
        return [(next(iter(rows_of)), batch)]
    return [(partition, _rows(batch, rows)) for partition, rows in sorted(rows_of.items())]


def partition_of(key: str, partitions: int) -> int:
    """Where librdkafka (and so kcat, and every client built on it) puts a key: CRC-32, modulo."""
    return zlib.crc32(key.encode()) % partitions


def _rows(batch: Batch, rows: Sequence[int]) -> Batch:
    def chosen(column: Any) -> Any:
        if isinstance(column, Mapping):
            return {name: chosen(inner) for name, inner in column.items()}
        return [column[row] for row in rows]

    columns = {name: getattr(batch, name) for name in type(batch).model_fields if name not in _SHARED}
    return batch.model_copy(
        update={name: chosen(column) for name, column in columns.items() if column is not None}
    )


_SHARED = frozenset({"type", "schema_version", "model", "version"})


def _config(kafka: KafkaSettings, settings: PublisherSettings) -> dict[str, Any]:
    return {
        "bootstrap.servers": kafka.bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",  # a third of the bytes for 2 % of the CPU; every broker knows it
        "partitioner": "consistent",  # what `partition_of` computes for batches
        "linger.ms": settings.linger_ms,
        "queue.buffering.max.messages": settings.buffer_messages,
        "queue.buffering.max.kbytes": 1_000_000,
        "delivery.timeout.ms": int(settings.delivery_timeout * 1000),
        "message.max.bytes": topics.MAX_MESSAGE_BYTES,
    }

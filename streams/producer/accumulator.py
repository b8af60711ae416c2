"""Keeps records in memory for `linger_ms`, and sends those of one kind as one columnar message."""

import threading
import time
from collections import deque

from driftloop.schemas import topics
from driftloop.schemas.messages import kinds
from driftloop.schemas.records import Batch, Record
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams.producer import serializer
from driftloop.streams.producer.client import ResilientProducer
from driftloop.streams.producer.partition_counts import PartitionCounts
from driftloop.streams.records import ProducerRecord
from driftloop.streams.wire.batches import Single, combine_rows

POLL_SECONDS = 0.05
METADATA_SECONDS = 5.0
"""How long rows wait for the topic's number of partitions, before each is sent as a message of its own."""


class AccumulatorFull(Exception):
    """The accumulator has no room."""


class RecordAccumulator:
    """A bounded queue of records, and the thread that sends them."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: PublisherSettings,
        producer: ResilientProducer,
        partitions: PartitionCounts,
    ) -> None:
        self._topics = {kind: topics.name_of(kind.kafka_topic, kafka) for kind in kinds(Record)}
        self._settings = settings
        self._producer = producer
        self._partitions = partitions
        self._queue: deque[Single | Batch] = deque()
        self._lock = threading.Lock()
        self._rows = 0
        self.metadata_seconds = min(METADATA_SECONDS, settings.delivery_timeout)
        self._without_metadata: set[str] = set()
        """Topics whose number of partitions was not answered: only the first batch waits for it."""
        self._not_empty = threading.Event()
        self._send_now = threading.Event()
        self._closing = False
        self.failure: BaseException | None = None
        """Why the thread ended, where nobody closed it."""
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """Rows and messages that are not acknowledged."""
        return self._rows + len(self._producer)

    def append(self, record: Single | Batch, rows: int) -> None:
        """Queue a record or batch of so many rows. Raises AccumulatorFull when there is no room."""
        with self._lock:
            if self._rows and self._rows + len(self._producer) + rows > self._settings.buffer_messages:
                raise AccumulatorFull
            if len(self._producer) >= self._settings.buffer_messages:
                raise AccumulatorFull
            self._queue.append(record)
            self._rows += rows
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="publisher-rows", daemon=True)
                self._thread.start()
        if not self._not_empty.is_set():
            self._not_empty.set()
        if self._rows >= self._settings.batch_rows and not self._send_now.is_set():
            self._send_now.set()

    def flush(self, seconds: float) -> int:
        """Send now and wait for the acknowledgements, at most so long; returns how many are missing."""
        deadline = time.monotonic() + seconds
        while self._rows and time.monotonic() < deadline:
            self._send_now.set()
            time.sleep(0.001)
        self._producer.flush(max(0.0, deadline - time.monotonic()))
        return len(self)

    def close(self) -> None:
        """Stop; queued records are not sent."""
        self._closing = True
        self._not_empty.set()
        self._send_now.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            self._send_until_closed()
        except BaseException as error:
            self.failure = error
            raise

    def _send_until_closed(self) -> None:
        while not self._closing:
            self._not_empty.wait()
            self._send_now.wait(self._settings.linger_ms / 1000)
            self._not_empty.clear()
            self._send_now.clear()
            with self._lock:
                records, self._queue = self._queue, deque()
            self._send(records)

    def _send(self, records: deque[Single | Batch]) -> None:
        for record, tokens in combine_rows(((record, None) for record in records), self._settings.batch_rows):
            rows = len(record) if isinstance(record, Batch) else len(tokens)
            topic = self._topics[type(record)]
            try:
                known = self._partition_count(topic) if isinstance(record, Batch) else 1
                for message in serializer.producer_records(record, topic, known):
                    self._send_record(message)
            except (TypeError, ValueError) as error:  # unchecked values of a batch that JSON can't express
                self._producer.count_unsent(topic, str(error), rows)
            with self._lock:
                self._rows -= rows

    def _partition_count(self, topic: str) -> int | None:
        known = self._partitions.count(
            topic, 0.0 if topic in self._without_metadata else self.metadata_seconds
        )
        if known is None:
            self._without_metadata.add(topic)
        else:
            self._without_metadata.discard(topic)
        return known

    def _send_record(self, message: ProducerRecord) -> None:
        partition = -1 if message.partition is None else message.partition
        while not self._closing:
            try:
                self._producer.send(message.topic, message.key.encode(), message.value, partition)
            except BufferError:
                time.sleep(POLL_SECONDS)
            else:
                return

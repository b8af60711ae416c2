"""From `publish` to Kafka through memory: what arrives within a moment travels together."""

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
ASK_SECONDS = 5.0
"""How long rows wait to learn how many partitions there are, before they go one by one."""


class AccumulatorFull(Exception):
    """No room just now."""


class RecordAccumulator:
    """A bounded queue of records, and the thread that sends them as columnar messages."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: PublisherSettings,
        line: ResilientProducer,
        partitions: PartitionCounts,
    ) -> None:
        self._topics = {kind: topics.name_of(kind.kafka_topic, kafka) for kind in kinds(Record)}
        self._settings = settings
        self._line = line
        self._partitions = partitions
        self._queue: deque[Single | Batch] = deque()
        self._lock = threading.Lock()
        self._rows = 0
        self.ask_seconds = min(ASK_SECONDS, settings.delivery_timeout)
        self._unknown: set[str] = set()
        """Topics that were asked for in vain: waited for once, not by each batch anew."""
        self._arrived = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """Rows and messages that wait for the broker."""
        return self._rows + len(self._line)

    def append(self, record: Single | Batch, rows: int) -> None:
        """Take it for sending. Raises Full when there is no room."""
        with self._lock:
            if self._rows and self._rows + len(self._line) + rows > self._settings.buffer_messages:
                raise AccumulatorFull
            if len(self._line) >= self._settings.buffer_messages:
                raise AccumulatorFull
            self._queue.append(record)
            self._rows += rows
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="publisher-rows", daemon=True)
                self._thread.start()
        if not self._arrived.is_set():
            self._arrived.set()
        if self._rows >= self._settings.batch_rows and not self._hurry.is_set():
            self._hurry.set()

    def flush(self, seconds: float) -> int:
        """Send now, and wait for the acknowledgements at most so long; how many rows and messages wait."""
        deadline = time.monotonic() + seconds
        while self._rows and time.monotonic() < deadline:
            self._hurry.set()
            time.sleep(0.001)
        self._line.flush(max(0.0, deadline - time.monotonic()))
        return len(self)

    def close(self) -> None:
        """Stop; what is still queued is not sent."""
        self._closing = True
        self._arrived.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._closing:
            self._arrived.wait()
            self._hurry.wait(self._settings.linger_ms / 1000)
            self._arrived.clear()
            self._hurry.clear()
            with self._lock:
                taken, self._queue = self._queue, deque()
            self._send(taken)

    def _send(self, taken: deque[Single | Batch]) -> None:
        for record, tokens in combine_rows(((one, None) for one in taken), self._settings.batch_rows):
            rows = len(record) if isinstance(record, Batch) else len(tokens)
            topic = self._topics[type(record)]
            try:
                known = self._partitions_of(topic) if isinstance(record, Batch) else 1
                for message in serializer.producer_records(record, topic, known):
                    self._hand_over(message)
            except (TypeError, ValueError) as error:  # values that nobody checked and JSON has no words for
                self._line.count_unsent(topic, str(error), rows)
            with self._lock:
                self._rows -= rows

    def _partitions_of(self, topic: str) -> int | None:
        known = self._partitions.count(topic, 0.0 if topic in self._unknown else self.ask_seconds)
        if known is None:
            self._unknown.add(topic)
        else:
            self._unknown.discard(topic)
        return known

    def _hand_over(self, message: ProducerRecord) -> None:
        partition = -1 if message.partition is None else message.partition
        while not self._closing:
            try:
                self._line.send(message.topic, message.key.encode(), message.value, partition)
            except BufferError:
                time.sleep(POLL_SECONDS)
            else:
                return

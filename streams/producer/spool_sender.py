"""Sends the messages of the spool on disk, and acknowledges them to the spool once Kafka has them.

Every message is written to the spool first, also while Kafka answers, because a kill -9 loses what is only in
memory. Messages are sent in the order of writing. When one is not delivered, the sender waits for those in
flight and reads again from the spool's front; it leaves out messages that were acknowledged meanwhile.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from confluent_kafka import KafkaError

from driftloop.schemas import topics
from driftloop.schemas.messages import kinds
from driftloop.schemas.records import Batch, Record
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams.producer import serializer
from driftloop.streams.producer.client import ResilientProducer
from driftloop.streams.producer.partition_counts import PartitionCounts
from driftloop.streams.producer.spool import Position, Spool
from driftloop.streams.records import ProducerRecord
from driftloop.streams.wire import codec
from driftloop.streams.wire.batches import Single, combine_rows

METADATA_SECONDS = 1.0
"""Seconds to wait for a topic's number of partitions."""
RETRY_SECONDS = 1.0
"""Seconds from a failed delivery to the next attempt."""
IDLE_SECONDS = 0.5
"""Longest sleep of the thread with an empty spool; an append ends it."""
ACKNOWLEDGE_SECONDS = 0.01
"""Least seconds between two writes of the acknowledged position."""
UNDELIVERABLE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD)
"""Errors of the message itself: it is dropped, since sending it again would block all others."""

log = logging.getLogger(__name__)


class SpoolSender:
    """A thread that sends the messages of a spool with a producer."""

    def __init__(
        self,
        kafka: KafkaSettings,
        rows: int,
        linger: float,
        spool: Spool,
        producer: ResilientProducer,
        partitions: PartitionCounts,
    ) -> None:
        self._kafka = kafka
        self._topics = {topics.name_of(kind.kafka_topic, kafka) for kind in kinds(Record)}
        self._rows = rows
        self._linger = linger
        self._spool = spool
        self._producer = producer
        self._partitions = partitions
        self._lock = threading.Lock()
        self._unacknowledged: OrderedDict[Position, int] = OrderedDict()
        """Spool entries that were read, in order: how many of their messages are not acknowledged."""
        self._in_flight = 0
        self._acknowledge_at = 0.0
        self._failed = False
        self._not_empty = threading.Event()
        self._closing = threading.Event()
        self.failure: BaseException | None = None
        """Why the thread ended, where nobody closed it."""
        self._thread = threading.Thread(target=self._work, name="publisher-spool", daemon=True)
        self._thread.start()

    def append(self, messages: Sequence[ProducerRecord]) -> None:
        """Write the messages; when this returns, the operating system has them. Raises SpoolFull."""
        self._spool.append(messages)
        if not self._not_empty.is_set():
            self._not_empty.set()

    def flush(self, seconds: float) -> int:
        """Wait at most `seconds` until Kafka has everything; returns the number of messages that it lacks."""
        deadline = time.monotonic() + seconds
        while self._spool.waiting and time.monotonic() < deadline:
            time.sleep(0.002)
        return self._spool.waiting

    def close(self) -> None:
        """Stop sending; the spool keeps the rest."""
        self._closing.set()
        self._not_empty.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._send_until_closed()
        except BaseException as error:
            self.failure = error
            raise

    def _send_until_closed(self) -> None:
        while not self._closing.is_set():
            if self._failed:
                self._rewind()
            elif not self._send_next():
                self._not_empty.wait(IDLE_SECONDS)
                self._closing.wait(self._linger)  # more rows may arrive for the same batch

    def _rewind(self) -> None:
        self._closing.wait(RETRY_SECONDS)
        with self._lock:
            if self._in_flight == 0 and not self._closing.is_set():
                self._failed = False
                self._spool.rewind()

    def _send_next(self) -> bool:
        """Send the next entries; returns whether further entries may be ready."""
        self._not_empty.clear()
        entries = self._spool.read()
        if not entries:
            return False
        with self._lock:
            new = [
                (position, message)
                for position, message in entries
                if self._unacknowledged.get(position) != 0
            ]
        try:
            messages = list(self._combine(new))
        except _NoMetadata as error:
            log.warning("the topic's partitions are unknown; the spool retries", extra={"topic": str(error)})
            self._failed = True
            return True
        with self._lock:
            for position, _ in new:
                self._unacknowledged[position] = 0
            for _, positions in messages:
                for position in positions:
                    self._unacknowledged[position] += 1
            self._acknowledge()
            self._in_flight += len(messages)  # at once: a lock for each message would make both threads wait
        sent = 0
        for message, positions in messages:
            if not self._send(message, positions):
                break
            sent += 1
        with self._lock:
            self._in_flight -= len(messages) - sent
        return len(entries) >= self._rows

    def _combine(
        self, entries: Iterable[tuple[Position, ProducerRecord]]
    ) -> Iterator[tuple[ProducerRecord, Sequence[Position]]]:
        """The entries as they are sent: single rows combined, batches split by partition."""
        rows: list[tuple[Single | Batch, Position]] = []
        for position, message in entries:
            record = self._record_to_combine(message)
            if record is not None:
                rows.append((record, position))
                continue
            yield from self._producer_records(rows)
            rows = []
            yield message, [position]
        yield from self._producer_records(rows)

    def _record_to_combine(self, message: ProducerRecord) -> Single | Batch | None:
        if message.topic not in self._topics or message.partition is not None or message.headers:
            return None
        if self._rows == 1 and b'"ids"' not in message.value:
            return None
        try:
            record = codec.decode_record(message.value)
        except codec.Unreadable:  # not a record: the topic's reader writes it to the dead letters
            return None
        return record

    def _producer_records(
        self, rows: Iterable[tuple[Single | Batch, Position]]
    ) -> Iterator[tuple[ProducerRecord, Sequence[Position]]]:
        for record, positions in combine_rows(rows, self._rows):
            topic = self._topic_of(record)
            known = self._partitions.count(topic, METADATA_SECONDS) if isinstance(record, Batch) else 1
            if known is None:
                raise _NoMetadata(topic)
            for message in serializer.producer_records(record, topic, known):
                yield message, positions

    def _topic_of(self, record: Record) -> str:
        return topics.name_of(record.kafka_topic, self._kafka)

    def _send(self, message: ProducerRecord, positions: Sequence[Position]) -> bool:
        """Send a message; False if the sender must rewind or is closing."""

        def done(error: KafkaError | None) -> None:
            self._on_delivery(positions, error)

        while not (self._failed or self._closing.is_set()):
            try:
                self._producer.send_with_callback(message, done)
            except BufferError:
                self._closing.wait(0.05)
            else:
                return True
        return False

    def _on_delivery(self, positions: Sequence[Position], error: KafkaError | None) -> None:
        with self._lock:
            self._in_flight -= 1
            if error is not None and error.code() not in UNDELIVERABLE:
                log.warning("message not delivered; the spool sends it again", extra={"reason": error.str()})
                self._failed = True
                return
            for position in positions:
                if position in self._unacknowledged:
                    self._unacknowledged[position] -= 1
            if self._in_flight == 0 or time.monotonic() >= self._acknowledge_at:
                self._acknowledge()

    def _acknowledge(self) -> None:
        """Acknowledge the done entries at the spool's front; at most once in `ACKNOWLEDGE_SECONDS`."""
        self._acknowledge_at = time.monotonic() + ACKNOWLEDGE_SECONDS
        upto, messages = None, 0
        while self._unacknowledged and next(iter(self._unacknowledged.values())) == 0:
            upto, messages = self._unacknowledged.popitem(last=False)[0], messages + 1
        if upto is not None:
            self._spool.acknowledge(upto, messages)


class _NoMetadata(Exception):
    """The topic's number of partitions is not known."""

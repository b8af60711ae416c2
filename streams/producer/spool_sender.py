"""From `publish` to Kafka through the spool: written first, then read, sent, acknowledged and forgotten.

Everything goes this way, also while Kafka is there: what is only in memory at a kill -9 is lost.
Order is the order of writing. When a message comes back undelivered, what is in flight is waited for, and the
reading begins again at the front; what was acknowledged behind it is left out.
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

ASK_SECONDS = 1.0
RETRY_SECONDS = 1.0
IDLE_SECONDS = 0.5
FORGET_SECONDS = 0.01
HOPELESS = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD)
"""Errors of the message itself: sending it again would hold up all that follow."""

log = logging.getLogger(__name__)


class SpoolSender:
    """The thread between a spool and a line."""

    def __init__(
        self,
        kafka: KafkaSettings,
        rows: int,
        linger: float,
        spool: Spool,
        line: ResilientProducer,
        partitions: PartitionCounts,
    ) -> None:
        self._kafka = kafka
        self._topics = {topics.name_of(kind.kafka_topic, kafka) for kind in kinds(Record)}
        self._rows = rows
        self._linger = linger
        self._spool = spool
        self._line = line
        self._partitions = partitions
        self._lock = threading.Lock()
        self._open: OrderedDict[Position, int] = OrderedDict()
        """What was read and not forgotten yet, in order: how many of its messages are to be acknowledged."""
        self._flying = 0
        self._forget_at = 0.0
        self._failed = False
        self._arrived = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="publisher-spool", daemon=True)
        self._thread.start()

    def append(self, messages: Sequence[ProducerRecord]) -> None:
        """Accept them: when this returns, the operating system has them. Raises SpoolFull."""
        self._spool.append(messages)
        if not self._arrived.is_set():
            self._arrived.set()

    def flush(self, seconds: float) -> int:
        """Wait until Kafka has everything, at most so long; how many messages are left."""
        deadline = time.monotonic() + seconds
        while self._spool.waiting and time.monotonic() < deadline:
            time.sleep(0.002)
        return self._spool.waiting

    def close(self) -> None:
        """Stop sending; what is in the spool stays there."""
        self._closing.set()
        self._arrived.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closing.is_set():
            if self._failed:
                self._begin_again()
            elif not self._send_next():
                self._arrived.wait(IDLE_SECONDS)
                self._closing.wait(self._linger)  # for company

    def _begin_again(self) -> None:
        self._closing.wait(RETRY_SECONDS)
        with self._lock:
            if self._flying == 0 and not self._closing.is_set():
                self._failed = False
                self._spool.rewind()

    def _send_next(self) -> bool:
        """Read on and send; whether there was so much that more may be waiting already."""
        self._arrived.clear()
        read = self._spool.read()
        if not read:
            return False
        with self._lock:
            fresh = [(position, message) for position, message in read if self._open.get(position) != 0]
        try:
            sendings = list(self._sendings(fresh))
        except _Unplaced as error:
            log.warning("the spool waits for a topic", extra={"topic": str(error)})
            self._failed = True
            return True
        with self._lock:
            for position, _ in fresh:
                self._open[position] = 0
            for _, positions in sendings:
                for position in positions:
                    self._open[position] += 1
            self._forget()
            self._flying += len(sendings)  # at once: a lock a message would have the threads wait in turns
        sent = 0
        for message, positions in sendings:
            if not self._send(message, positions):
                break
            sent += 1
        with self._lock:
            self._flying -= len(sendings) - sent
        return len(read) >= self._rows

    def _sendings(
        self, read: Iterable[tuple[Position, ProducerRecord]]
    ) -> Iterator[tuple[ProducerRecord, Sequence[Position]]]:
        """What was read, as it is to be sent: single rows put together, batches split by partition."""
        rows: list[tuple[Single | Batch, Position]] = []
        for position, message in read:
            record = self._to_pack(message)
            if record is not None:
                rows.append((record, position))
                continue
            yield from self._packed(rows)
            rows = []
            yield message, [position]
        yield from self._packed(rows)

    def _to_pack(self, message: ProducerRecord) -> Single | Batch | None:
        if message.topic not in self._topics or message.partition is not None or message.headers:
            return None
        if self._rows == 1 and b'"ids"' not in message.value:
            return None
        try:
            record = codec.decode_record(message.value)
        except codec.Unreadable:  # somebody's own words; whoever reads the topic will say what is wrong
            return None
        return record

    def _packed(
        self, rows: Iterable[tuple[Single | Batch, Position]]
    ) -> Iterator[tuple[ProducerRecord, Sequence[Position]]]:
        for record, positions in combine_rows(rows, self._rows):
            topic = self._topic_of(record)
            known = self._partitions.count(topic, ASK_SECONDS) if isinstance(record, Batch) else 1
            if known is None:
                raise _Unplaced(topic)
            for message in serializer.producer_records(record, topic, known):
                yield message, positions

    def _topic_of(self, record: Record) -> str:
        return topics.name_of(record.kafka_topic, self._kafka)

    def _send(self, message: ProducerRecord, positions: Sequence[Position]) -> bool:
        """Hand it to the line; False if that is of no use any more."""

        def done(error: KafkaError | None) -> None:
            self._reported(positions, error)

        while not (self._failed or self._closing.is_set()):
            try:
                self._line.send_with_callback(message, done)
            except BufferError:
                self._closing.wait(0.05)
            else:
                return True
        return False

    def _reported(self, positions: Sequence[Position], error: KafkaError | None) -> None:
        with self._lock:
            self._flying -= 1
            if error is not None and error.code() not in HOPELESS:
                log.warning("the spool sends again", extra={"reason": error.str()})
                self._failed = True
                return
            for position in positions:
                if position in self._open:
                    self._open[position] -= 1
            if self._flying == 0 or time.monotonic() >= self._forget_at:
                self._forget()

    def _forget(self) -> None:
        """Let the spool forget what is acknowledged from its front on; not for each message on its own."""
        self._forget_at = time.monotonic() + FORGET_SECONDS
        upto, messages = None, 0
        while self._open and next(iter(self._open.values())) == 0:
            upto, messages = self._open.popitem(last=False)[0], messages + 1
        if upto is not None:
            self._spool.acknowledge(upto, messages)


class _Unplaced(Exception):
    """A topic whose partitions nobody could tell."""

"""Publishes records and events to Kafka: for your own service, for replicas and for agents.

    with Publisher(kafka) as publisher:
        publisher.publish(Prediction(model="fraud", version="3", id="tx-1", at=now, score=0.93))
        publisher.publish(Label(model="fraud", id="tx-1", at=later, label=1))

Idempotent producer, `acks=all`: what was delivered is in Kafka once, in order. Single records that come
within a moment travel as one columnar message a partition. Room is bounded, and what happens when there is
none is a setting: `block`, `raise`, or `spool`, with which what was accepted outlives the death of this
process (see `streams/producer/spool.py`, docs/decisions/0009). Nothing is dropped silently: `flush`,
`close` and leaving the `with` block raise NotDelivered for what the broker never acknowledged. A process that
ends without `close` closes its publishers itself, within `exit_seconds`. A forked child opens its own client,
threads and spool with the first record that it publishes; what the parent accepted, the parent sends.

    BufferFull     the buffer in memory, or the spool on the disk, is full
    InvalidData    a value that no JSON can carry; names record and field
    TooLarge       one record that no Kafka message can carry
    NotDelivered   messages that the broker did not acknowledge; says whether the spool keeps them
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError

from driftloop.schemas import topics
from driftloop.schemas.events import Event
from driftloop.schemas.messages import kinds
from driftloop.schemas.records import (
    FeatureBatch,
    FeatureRow,
    Label,
    LabelBatch,
    Prediction,
    PredictionBatch,
    Record,
)
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import metrics
from driftloop.streams.producer import process_end, serializer
from driftloop.streams.producer.accumulator import AccumulatorFull, RecordAccumulator
from driftloop.streams.producer.client import ResilientProducer
from driftloop.streams.producer.partition_counts import PartitionCounts
from driftloop.streams.producer.serializer import TooLarge
from driftloop.streams.producer.spool import Spool, SpoolFull
from driftloop.streams.producer.spool_sender import SpoolSender
from driftloop.streams.records import ProducerRecord
from driftloop.streams.wire import codec

__all__ = [
    "BufferFull",
    "NotDelivered",
    "Publisher",
    "TooLarge",
]

POLL_SECONDS = 0.1
GIVEN_UP_AFTER = 2.0
"""Seconds after the delivery timeout until librdkafka reports it."""
REPORT_SECONDS = 1.0

log = logging.getLogger(__name__)
_inherited: list[object] = []
"""Of a parent process: deleting a client of librdkafka would wait for threads that a child does not have."""


class BufferFull(RuntimeError):
    """The buffer is full, and the policy is `raise`, or `block` and the wait is over."""


class NotDelivered(RuntimeError):
    """Messages that the broker never acknowledged.

    `messages`: how many; `reason`: why the first; `spooled`: whether they are in the spool, and will be sent.
    """

    def __init__(self, text: str, messages: int = 1, reason: str = "", spooled: bool = False) -> None:
        super().__init__(text)
        self.messages = messages
        self.reason = reason
        self.spooled = spooled


class Publisher:
    """Publishes records and events. Safe to share between threads; close it, or use `with`."""

    def __init__(self, kafka: KafkaSettings, settings: PublisherSettings | None = None) -> None:
        """Open it; Kafka need not be there."""
        self._kafka = kafka
        self._settings = settings or PublisherSettings()
        self._topics = {kind: topics.name_of(kind.kafka_topic, kafka) for kind in kinds(Record)}
        self._single_rows = self._settings.batch_rows == 1
        self._closed = self._forked = self._ending = False
        self._open_lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        """Start what belongs to one process: client, threads, spool."""
        self._spool = _spool(self._settings)
        self._producer = ResilientProducer(self._kafka, self._settings, retry_forever=self._spool is not None)
        self._partitions = PartitionCounts(self._producer.partition_count)
        self._accumulator = RecordAccumulator(self._kafka, self._settings, self._producer, self._partitions)
        self._spool_sender = self._open_spool()
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="publisher", daemon=True)
        self._poller.start()
        process_end.register(self)

    def after_fork(self) -> None:
        """In a forked child: leave the parent's client, threads and spool alone; `publish` opens its own."""
        if self._closed or self._forked:
            return
        _inherited.append((self._producer, self._accumulator, self._partitions, self._spool_sender))
        if self._spool is not None:
            self._spool.abandon()
        self._forked, self._open_lock = True, threading.Lock()

    def close_at_exit(self) -> None:
        """Close within `publisher.exit_seconds`; says on stderr what Kafka has not acknowledged by then."""
        self._ending = True
        try:
            self.close(self._settings.exit_seconds)
        except NotDelivered as error:
            kept = "they are kept, and sent by the next process" if error.spooled else "they are lost"
            print(  # noqa: T201 - the process ends; a log handler may be gone
                f"driftloop: the process ended, and {error.messages:,} messages to {self._kafka.bootstrap} "
                f"were not delivered within {self._settings.exit_seconds:g} s: {error.reason}; {kept}",
                file=sys.stderr,
            )

    @property
    def waiting(self) -> int:
        """Rows and messages that are accepted and not acknowledged."""
        if self._forked:
            return 0
        return len(self._accumulator) if self._spool is None else self._spool.waiting + len(self._accumulator)

    @property
    def delivered(self) -> int:
        """Messages that the broker acknowledged; a columnar one counts once."""
        return 0 if self._forked else self._producer.delivered

    @property
    def failed(self) -> int:
        """Messages that were not delivered within the delivery timeout, or rejected."""
        return 0 if self._forked else self._producer.failed

    @property
    def spooled(self) -> int:
        """Messages on the disk that are not acknowledged."""
        return 0 if self._spool is None or self._forked else self._spool.waiting

    def publish(self, record: Prediction | FeatureRow | Label) -> None:
        """Put one record on its topic, in the partition of its id. Returns once it is accepted.

        Raises:
            BufferFull: the buffer is full, and the policy is `raise` or the wait is over.
            InvalidData: a value that JSON can't express, e.g. an integer beyond 64 bits.
            TooLarge: no Kafka message can carry it.
        """
        self._check_open()
        topic = self._topics[type(record)]
        serializer.check(record)
        if self._spool_sender is None and not self._single_rows:
            self._with_room(lambda: self._accumulator.append(record, 1))
            return
        value = codec.encode(record)
        if self._spool_sender is not None:
            self._append_to_spool([ProducerRecord(topic, record.id, value)])
        else:
            self._send_single(topic, record.id.encode(), value)

    def publish_batch(self, batch: PredictionBatch | FeatureBatch | LabelBatch) -> None:
        """Put many rows of one model on their topic: one message per partition that its ids fall to.

        Columns may be numpy arrays; they must not be changed afterwards.

        Raises:
            BufferFull: the buffer is full; nothing of the batch was accepted.
            InvalidData: a value that JSON can't express; nothing of the batch was accepted.
        """
        self._check_open()
        serializer.check_batch(batch)
        if self._spool_sender is None:
            self._with_room(lambda: self._accumulator.append(batch, len(batch)))
            return
        topic = self._topics[type(batch)]
        known = self._partitions.count(topic)
        self._append_to_spool(
            list(
                serializer.unsplit_records(batch, topic)
                if known is None
                else serializer.producer_records(batch, topic, known)
            )
        )

    def publish_event(self, event: Event) -> None:
        """Put an event of the control plane on its topic, keyed by model."""
        self.send(self.event_record(event))

    def event_record(self, event: Event) -> ProducerRecord:
        """The message that carries `event`."""
        topic = topics.name_of(event.kafka_topic, self._kafka)
        return ProducerRecord(topic, event.model, codec.encode(event))

    def send(self, message: ProducerRecord, done: Callable[[str | None], None] | None = None) -> None:
        """Accept one message; `done` is called from another thread with None or the reason it failed.

        A message with `done` does not go through the spool: the caller keeps it until then.
        """
        self._check_open()
        if done is None and self._spool_sender is not None:
            self._append_to_spool([message])
            return

        def reported(error: KafkaError | None) -> None:
            if done is not None:
                done(None if error is None else f"{message.topic}: {error.str()}")

        self._with_room(
            lambda: self._producer.send_with_callback(message, None if done is None else reported)
        )

    def deliver(self, messages: Iterable[ProducerRecord]) -> None:
        """Send all and wait until the broker has acknowledged each.

        Raises:
            NotDelivered: some were not; sending all of them again is safe for what follows by id.
        """
        reasons: list[str] = []
        reported = threading.Semaphore(0)

        def done(reason: str | None) -> None:
            if reason is not None:
                reasons.append(reason)
            reported.release()

        sent = 0
        for message in messages:
            self.send(message, done)
            sent += 1
        deadline = time.monotonic() + self._settings.delivery_timeout + GIVEN_UP_AFTER
        for reports in range(sent):
            # Without a spool librdkafka reports its delivery timeout; with one it has none, so this waits.
            patience = None if self._spool is None else max(0.0, deadline - time.monotonic())
            if not reported.acquire(timeout=patience):
                reasons += ["the broker has not answered yet"] * (sent - reports)
                break
        if reasons:
            text = f"{len(reasons)} of {sent} messages were not delivered; {reasons[0]}"
            raise NotDelivered(text, len(reasons), reasons[0])

    def flush(self, seconds: float | None = None) -> None:
        """Wait until everything is acknowledged, at most `seconds` (default: the delivery timeout and some).

        Raises:
            NotDelivered: messages failed since the last flush, or are not acknowledged yet.
        """
        if self._forked:
            return
        given_up = self._settings.delivery_timeout + GIVEN_UP_AFTER + self._accumulator.metadata_seconds
        patience = given_up if seconds is None else seconds
        deadline = time.monotonic() + patience
        left = 0 if self._spool_sender is None else self._spool_sender.flush(patience)
        waiting = self._accumulator.flush(max(0.0, deadline - time.monotonic())) if left == 0 else 0
        failed = self._producer.take_failures()
        if failed or waiting or left:
            reason = failed[0] if failed else "the broker has not answered yet"
            kept = f", {left} kept in {self._spool.folder}" if left and self._spool is not None else ""
            text = f"{len(failed)} messages failed, {waiting} not acknowledged yet{kept}; {reason}"
            raise NotDelivered(text, len(failed) + waiting + left, reason, spooled=bool(left) and not failed)

    def close(self, seconds: float | None = None) -> None:
        """Flush, then stop. Raises NotDelivered like `flush`; the next process sends what the spool keeps."""
        if self._closed:
            return
        self._closed = True
        if self._forked:
            return
        try:
            self.flush(seconds)
        finally:
            self._partitions.close()  # first, so that no thread waits for metadata
            self._accumulator.close()
            if self._spool_sender is not None:
                self._spool_sender.close()
            self._closing.set()
            self._poller.join()
            self._producer.close()
            if self._spool is not None:
                self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_spool(self) -> SpoolSender | None:
        if self._spool is None:
            return None
        rows, linger = self._settings.batch_rows, self._settings.linger_ms / 1000
        return SpoolSender(self._kafka, rows, linger, self._spool, self._producer, self._partitions)

    def _send_single(self, topic: str, key: bytes, value: bytes) -> None:
        try:
            self._producer.send(topic, key, value)
        except BufferError:
            self._with_room(lambda: self._producer.send(topic, key, value))

    def _append_to_spool(self, messages: Sequence[ProducerRecord]) -> None:
        self._check_open()
        assert self._spool_sender is not None
        try:
            self._spool_sender.append(messages)
        except SpoolFull as error:
            raise BufferFull(str(error)) from error

    def _with_room(self, attempt: Callable[[], None]) -> None:
        """Repeat the attempt until there is room, as long as the policy allows."""
        self._check_open()
        began = time.monotonic()
        while True:
            try:
                attempt()
            except (BufferError, AccumulatorFull):
                waited = time.monotonic() - began
                if self._settings.when_full == "raise" or waited >= self._settings.block_seconds:
                    raise BufferFull(self._full(waited)) from None
                self._closing.wait(min(POLL_SECONDS, self._settings.block_seconds - waited))
            else:
                return

    def _check_open(self) -> None:
        """Open what belongs to this process, after a fork. Raises RuntimeError where nothing can be sent."""
        if self._closed:
            if self._ending:  # by a signal: the process ends as soon as what was accepted is delivered
                time.sleep(self._settings.exit_seconds + GIVEN_UP_AFTER)
            raise RuntimeError(f"this publisher to {self._kafka.bootstrap} is closed")
        if self._forked:
            with self._open_lock:
                if self._forked:
                    self._open()
                    self._forked = False
        failure = self._accumulator.failure or (self._spool_sender and self._spool_sender.failure)
        if failure:
            raise RuntimeError(
                f"a thread of this publisher to {self._kafka.bootstrap} ended, so nothing more is sent: "
                f"{failure!r}; close the publisher and open another"
            ) from failure

    def _poll(self) -> None:
        """Thread: serves delivery reports, syncs the spool to the disk, updates the metrics."""
        sync_at = report_at = time.monotonic()
        counted = metrics.PublisherCounters()
        while not self._closing.is_set():
            now = time.monotonic()
            try:
                self._producer.poll(POLL_SECONDS)
                if self._spool is not None and now >= sync_at:
                    sync_at = now + self._settings.spool_sync_ms / 1000
                    self._spool.sync()
            except OSError as error:  # of the spool's disk; the operating system still has what was accepted
                log.error("syncing the spool to its disk failed; it is repeated", extra={"error": str(error)})
                self._closing.wait(REPORT_SECONDS)
            if now >= report_at:
                counted.update(self.delivered, self.failed, self.waiting, self.spooled)
                report_at = now + REPORT_SECONDS
        counted.update(self.delivered, self.failed, 0, 0)

    def _full(self, waited: float) -> str:
        return (
            f"{self._settings.buffer_messages} messages wait for {self._kafka.bootstrap}, as many as "
            f"publisher.buffer_messages allows (waited {waited:.1f} s for room)"
        )


def _spool(settings: PublisherSettings) -> Spool | None:
    if settings.when_full != "spool" or settings.spool_folder is None:
        return None
    return Spool.first_free(settings.spool_folder, settings.spool_bytes)

"""From Kafka to the board: one thread that reads every event topic, without a group.

Decisions are read from the beginning of their topics, measurements from the last `METRICS_TAIL` of a
partition (the board keeps fewer). Topics are read independently of each other; the board puts decisions in
their order by the broker's timestamps. What was read is held for a moment all the same (at the start: until
all is read), and applied in that order, so that little has to be told again.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from pydantic import ValidationError

from driftloop.infra.dashboard.board import Board
from driftloop.schemas import topics
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import Event
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import clients
from driftloop.streams.wire import codec

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

METRICS_TAIL = 30_000
"""Messages of a partition of the metrics topic that are read at the start, or at least looked at."""
TAILS: Mapping[bytes, int] = {b"DriftMeasured": 10_000, b"TrafficMeasured": 1_000}
"""Kinds that are left out if they are further than this from the end: a window is large, and counts of
requests come every second and say nothing after an hour."""
POLL_SECONDS, LOOK_SECONDS, ANSWER_SECONDS = 0.05, 3.0, 5.0
HOLD_SECONDS = 0.3
"""How long a message waits for an earlier one from another partition; a person doesn't notice."""
LONGEST_CATCH_UP = 30.0


@dataclass(frozen=True)
class Read:
    """A decision as it was read."""

    event: Event
    written: int
    """The broker's timestamp (ms)."""
    arrived: float
    """When it was read, on this process's monotonic clock (seconds)."""


@dataclass(frozen=True)
class Health:
    """How the feed is doing. Times in ms, UTC, of this machine's clock and the broker's timestamps."""

    connected: bool
    caught_up: bool
    error: str
    """Why it is not connected; empty when it is."""
    now: int
    last_message: int | None
    """Broker timestamp of the newest message."""

    @property
    def lag(self) -> float | None:
        """Seconds since the newest message was written; None before the first."""
        return None if self.last_message is None else (self.now - self.last_message) / 1000


class Feed:
    """Keeps a board up to date. `start` it, and look at the board through `read`."""

    def __init__(self, kafka: KafkaSettings, board: Board) -> None:
        self._kafka = kafka
        self._board = board
        self._names = {topics.name_of(topic, kafka): topic for topic in (*topics.EVENTS, topics.DEAD_LETTERS)}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._assigned: set[tuple[str, int]] = set()
        self._ends: dict[tuple[str, int], int] = {}
        """Where each partition ended when it was assigned."""
        self._at_end: set[tuple[str, int]] = set()
        self._held: list[Read] = []
        self._caught_up = False
        self._shaken = False
        """Whether the connection broke since the partitions were last looked at."""
        self._error = "not connected yet"
        self._last_message: int | None = None
        self._thread = threading.Thread(target=self._run, name="dashboard-feed", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading and let go of the connection."""
        self._stopping.set()
        self._thread.join(ANSWER_SECONDS + 5)

    def read(self, look: Callable[[Board], Answer]) -> Answer:
        """What `look` sees of the board while nothing changes it."""
        with self._lock:
            return look(self._board)

    @property
    def health(self) -> Health:
        """How it is doing now."""
        alive = self._thread.is_alive()
        error = self._error if alive else "the reading thread has ended"
        now = int(time.time() * 1000)
        return Health(not error, self._caught_up, error, now, self._last_message)

    def _run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._kafka.bootstrap,
                "group.id": f"{self._kafka.prefix}driftloop-page",  # librdkafka wants one; it never joins
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "reconnect.backoff.max.ms": 1000,
                "error_cb": self._shake,
            },
            logger=clients.log,
        )
        try:
            self._follow(consumer)
        finally:
            consumer.close()

    def _follow(self, consumer: Consumer) -> None:
        began = time.monotonic()
        looked = float("-inf")
        while not self._stopping.is_set():
            if time.monotonic() - looked > LOOK_SECONDS:
                self._look_for_partitions(consumer)
                looked = time.monotonic()
            for message in consumer.consume(500, POLL_SECONDS):
                self._on_message(message)
            late = time.monotonic() - began > LONGEST_CATCH_UP
            if not self._caught_up and not self._error and (self._at_end >= self._assigned or late):
                self._caught_up = True
                self._release(float("inf"))
            elif self._caught_up:
                self._release(time.monotonic() - HOLD_SECONDS)

    def _shake(self, error: KafkaError) -> None:
        log.info("connection trouble", extra={"error": error.str()})
        self._shaken = True

    def _look_for_partitions(self, consumer: Consumer) -> None:
        """Take up partitions that are new; notice whether the cluster answers."""
        try:
            known = consumer.list_topics(timeout=ANSWER_SECONDS).topics
            if self._shaken:
                self._shaken = False
                self._let_go_of_what_was_cut(consumer)
            found = {(name, p) for name in self._names.keys() & known.keys() for p in known[name].partitions}
            fresh = sorted(found - self._assigned)
            if fresh:
                consumer.incremental_assign([self._from_where(consumer, *one) for one in fresh])
                self._assigned |= set(fresh)
            self._error = ""
        except KafkaException as error:
            self._error = f"Kafka at {self._kafka.bootstrap}: {error.args[0].str()}"
            log.warning("the cluster does not answer", extra={"bootstrap": self._kafka.bootstrap})

    def _let_go_of_what_was_cut(self, consumer: Consumer) -> None:
        """A broker that lost its data (an embedded one keeps it in memory) is read from the start again."""
        for at in consumer.position([TopicPartition(*one) for one in self._assigned]):
            _, high = consumer.get_watermark_offsets(at, timeout=ANSWER_SECONDS)
            if at.offset > high:
                consumer.incremental_unassign([at])
                self._assigned.discard((at.topic, at.partition))

    def _from_where(self, consumer: Consumer, name: str, partition: int) -> TopicPartition:
        low, high = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=ANSWER_SECONDS)
        self._ends[name, partition] = high
        tail = high - METRICS_TAIL if self._names[name] is topics.METRICS else low
        return TopicPartition(name, partition, max(low, tail))

    def _on_message(self, message: Message) -> None:
        where = (message.topic(), message.partition())
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._at_end.add(where)
            else:
                log.info("partition not readable for now", extra={"where": where, "error": error.str()})
            return
        at = message.timestamp()[1]
        self._last_message = max(self._last_message or 0, at)
        if self._too_old(message):
            return
        try:
            self._take(self._names[message.topic()], message)
        except codec.Unreadable as unreadable:
            reason, detail = unreadable.reason, unreadable.detail
            self.read(lambda board: board.unreadable(message.topic(), reason, detail, at))
        except ValidationError as invalid:
            detail = str(invalid)
            self.read(lambda board: board.unreadable(message.topic(), "invalid", detail, at))

    def _too_old(self, message: Message) -> bool:
        """Whether a measurement is so far from the end of its topic that it isn't worth decoding."""
        if self._names[message.topic()] is not topics.METRICS:
            return False
        before = self._ends[message.topic(), message.partition()] - message.offset()
        value = message.value() or b""
        return any(before > tail and b'"type":"%s"' % kind in value for kind, tail in TAILS.items())

    def _take(self, topic: topics.Topic, message: Message) -> None:
        if topic is topics.DEAD_LETTERS:
            letter = DeadLetter.model_validate_json(message.value() or b"")
            self.read(lambda board: board.park(letter))
            return
        event, at = codec.decode_event(message.value()), message.timestamp()[1]
        if topic is topics.METRICS:
            self.read(lambda board: board.apply(event, at))  # independent of all decisions, and they are many
        else:
            self._held.append(Read(event, at, time.monotonic()))

    def _release(self, until: float) -> None:
        """Apply what has been held since before `until`, and anything held that was written before that."""
        ready = [one for one in self._held if one.arrived <= until]
        if not ready:
            return
        newest = max(one.written for one in ready)
        released = [one for one in self._held if one.written <= newest]
        self._held = [one for one in self._held if one.written > newest]
        with self._lock:
            for one in sorted(released, key=lambda one: one.written):
                self._board.apply(one.event, one.written)

"""How far an agent is behind its topics: measured, exported, and told to people when it lasts.

End offsets are those that came with the last fetch, so measuring asks the broker nothing. A partition whose
chunks wait is not fetched, and its end stands still meanwhile: then records are a lower bound, and seconds
are right all the same, since they are the age of the oldest record that is not done.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from driftloop.schemas import ids
from driftloop.schemas.events import EVERY_MODEL, AlertRaised
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import metrics, routes
from driftloop.streams.producer.publisher import NotDelivered, Publisher
from driftloop.streams.records import Chunk, ProducerRecord

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks."""
PATIENCE = 5
"""Looks in a row that must find an agent too late before anybody is told."""

PartitionId = tuple[str, int]
"""Topic (our name) and partition."""
Ends = Mapping[PartitionId, int | None]
"""Next offset to be written to each assigned partition, as far as it is known."""


@dataclass(frozen=True)
class PartitionLag:
    """What one partition has waiting."""

    records: int
    seconds: float
    """Age of the oldest of them by Kafka's time of it; 0 without any."""


@dataclass
class _Progress:
    """How far one partition is, as far as this worker has seen; times are seconds since 1970."""

    done: int
    """The next offset when nothing is in hand."""
    oldest: float | None = None
    """When it was written, at the earliest; None: not known to be there."""
    hand: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Chunks that arrived and aren't done, by first offset: the offset after them, when it was written."""


class LagTracker:
    """Progress in all partitions of one worker. Pure: time comes as an argument, in seconds since 1970."""

    def __init__(self) -> None:
        self._places: dict[PartitionId, _Progress] = {}

    def assign(self, place: PartitionId, offset: int) -> None:
        """The worker is given a partition of which everything before `offset` was done."""
        self._places[place] = _Progress(offset)

    def start_chunk(self, chunk: Chunk, now: float) -> None:
        """A chunk arrived; several of a partition may wait for each other."""
        first = chunk.records[0]
        known = self._places.setdefault((chunk.topic, chunk.partition), _Progress(first.offset))
        known.hand[first.offset] = (chunk.last + 1, first.timestamp / 1000 if first.timestamp >= 0 else now)

    def finish_chunk(self, chunk: Chunk, end: int | None) -> None:
        """It is done. What comes next, if `end` says that something does, was written later."""
        known = self._places.get((chunk.topic, chunk.partition))
        if known is not None and known.hand.pop(chunk.records[0].offset, None) is not None:
            known.done, newest = chunk.last + 1, chunk.records[-1].timestamp
            waits = end is not None and end > known.done
            known.oldest = newest / 1000 if waits and newest >= 0 else None

    def measure(self, ends: Ends, now: float) -> dict[PartitionId, PartitionLag]:
        """How far each partition is behind; what isn't in `ends` is another worker's now."""
        self._places = {place: known for place, known in self._places.items() if place in ends}
        return {place: _partition_lag(known, ends[place] or 0, now) for place, known in self._places.items()}


def _partition_lag(known: _Progress, end: int, now: float) -> PartitionLag:
    if known.hand:
        position, (_, written) = min(known.hand.items())
        arrived = max(upto for upto, _ in known.hand.values())
        return PartitionLag(max(arrived, end) - position, max(0.0, now - written))
    if end <= known.done:
        known.oldest = None
        return PartitionLag(0, 0.0)
    if known.oldest is None:
        known.oldest = now
    return PartitionLag(end - known.done, max(0.0, now - known.oldest))


@dataclass
class LagAlarm:
    """Says once that a topic is read too late, and once that it isn't any more. Pure."""

    agent: str
    topic: str
    partitions: int
    """Of the topic: so many workers can share it."""
    limit: float
    """Seconds."""
    worker: str
    """Tells alerts of several workers apart."""
    _looks: int = 0
    _since: float = 0.0
    _raised: AlertRaised | None = None

    def update(self, places: Mapping[int, PartitionLag], now: float) -> AlertRaised | None:
        """What is to be said after a look at the topic's partitions, if anything."""
        worst = max((one.seconds for one in places.values()), default=0.0)
        if self._raised is not None:
            return self._resolved(bool(places), now) if worst <= self.limit / 2 else None
        self._looks = self._looks + 1 if worst > self.limit else 0
        if self._looks < PATIENCE:
            return None
        self._since = now - worst
        cause = ("lag", self.agent, self.topic, self.worker, int(now * 1000))
        self._raised = _alert(ids.derived(*cause), now, "warning", self._sentence(places, worst))
        return self._raised

    def _resolved(self, ours: bool, now: float) -> AlertRaised:
        raised, self._raised, self._looks = self._raised, None, 0
        assert raised is not None
        what = "has caught up on" if ours else "handed to other workers what it read of"
        sentence = (
            f"agent {self.agent} {what} {self.topic}; it was late for {format_duration(now - self._since)}"
        )
        return _alert(ids.derived(raised.id, "over"), now, "info", sentence, raised.id)

    def _sentence(self, places: Mapping[int, PartitionLag], worst: float) -> str:
        late = sorted(partition for partition, one in places.items() if one.seconds > self.limit)
        records = sum(places[partition].records for partition in late)
        where = f"partition{'s' if len(late) > 1 else ''} {', '.join(map(str, late))}"
        return (
            f"agent {self.agent} is {format_duration(worst)} behind on {self.topic}: "
            f"at least {records:,} records wait in {where}. If `driftloop_retries_total` grows, something it "
            f"needs is away: read its log. If not, start more workers (`driftloop agents run {self.agent}`), "
            f"up to one for each of the topic's {self.partitions} partitions; beyond that, add partitions"
        )


@dataclass
class LagMonitor:
    """Looks after one worker's lag: `working` around each chunk, `look` every `LOOK_SECONDS`."""

    agent: str
    kafka: KafkaSettings
    publisher: Publisher
    names: Mapping[str, str]
    """Topics: name in Kafka -> our name."""
    partitions: int
    consumer: Callable[[], Any]
    """Faust's, once it runs."""
    _lag: LagTracker = field(default_factory=LagTracker)
    _alarms: dict[str, LagAlarm] = field(default_factory=dict)
    _worker: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    _unsaid: list[ProducerRecord] = field(default_factory=list)
    _exported: set[PartitionId] = field(default_factory=set)

    def assign(self, positions: Mapping[Any, int]) -> None:
        """The worker goes on from these offsets, by topic (in Kafka) and partition; forget the rest."""
        self._lag = LagTracker()
        for (topic, partition), offset in positions.items():
            if topic in self.names:
                self._lag.assign((self.names[topic], partition), offset)

    @contextmanager
    def in_progress(self, chunk: Chunk) -> Iterator[None]:
        """The chunk is being worked on, or waits for one before it, in this block."""
        self._lag.start_chunk(chunk, time.time())
        yield
        self._lag.finish_chunk(chunk, self.end_offsets().get((chunk.topic, chunk.partition)))

    async def measure(self, *_: object) -> None:
        """Measure, export, and say what is to be said; what the broker doesn't take is said again later."""
        now = time.time()
        found = self._lag.measure(self.end_offsets(), now)
        self._export(found)
        self._unsaid += [routes.producer_record(alert, self.kafka) for alert in self._advance(found, now)]
        if self._unsaid:
            try:
                await asyncio.to_thread(self.publisher.deliver, self._unsaid)
                self._unsaid = []
            except NotDelivered as error:
                log.warning("alert not delivered", extra={"agent": self.agent, "error": str(error)})

    def _advance(self, found: Mapping[PartitionId, PartitionLag], now: float) -> Sequence[AlertRaised]:
        said: list[AlertRaised] = []
        for topic in self.names.values():
            places = {partition: one for (name, partition), one in found.items() if name == topic}
            alarm = self._alarms.setdefault(topic, self._alarm(topic))
            alert = alarm.update(places, now)
            if alert is not None:
                log.warning(alert.sentence, extra={"agent": self.agent, "topic": topic})
                said.append(alert)
        return said

    def _alarm(self, topic: str) -> LagAlarm:
        return LagAlarm(self.agent, topic, self.partitions, self.kafka.max_lag_seconds, self._worker)

    def _export(self, found: Mapping[PartitionId, PartitionLag]) -> None:
        for topic, partition in self._exported - set(found):
            metrics.remove_lag(self.agent, topic, partition)
        for (topic, partition), one in found.items():
            metrics.set_lag(self.agent, topic, partition, one.records, one.seconds)
        self._exported = set(found)

    def end_offsets(self) -> dict[PartitionId, int | None]:
        """Where the partitions that this worker reads end, as far as it is known."""
        consumer = self.consumer()
        mine = [tp for tp in consumer.assignment() if tp.topic in self.names]
        return {(self.names[tp.topic], tp.partition): _end_offset(consumer, tp) for tp in mine}


def _end_offset(consumer: Any, tp: Any) -> int | None:
    """What the last fetch said; None before it, and while partitions move (aiokafka then trips over it)."""
    try:
        end: int | None = consumer.highwater(tp)
    except (AssertionError, AttributeError):
        return None
    return end


def _alert(id_: str, now: float, severity: str, sentence: str, cause: str | None = None) -> AlertRaised:
    fields = {"id": id_, "at": int(now * 1000), "model": EVERY_MODEL, "caused_by": cause}
    return AlertRaised.model_validate({**fields, "severity": severity, "sentence": sentence})


def format_duration(seconds: float) -> str:
    """A length of time as people say it.

    >>> [format_duration(seconds) for seconds in (45, 600, 9_000, 200_000, 80_000_000)]
    ['45 s', '10 min', '2.5 h', '2.3 days', '2.5 years']
    """
    for unit, size, least in (("years", 31_557_600, 2), ("days", 86_400, 2), ("h", 3_600, 2), ("min", 60, 2)):
        if seconds >= least * size:
            exact = unit in ("days", "years")
            return f"{seconds / size:,.1f} {unit}" if exact else f"{seconds / size:.2g} {unit}"
    return f"{seconds:.0f} s"

"""How far an agent is behind its topics: a metric, and an alert when it lasts.

End offsets come with each fetch, so measuring sends no request. A partition whose chunks wait is not fetched
and its end is not updated: the lag in records is then a lower bound. The lag in seconds is exact: the age of
the oldest record that is not done.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from driftloop.schemas import ids
from driftloop.schemas.events import EVERY_MODEL, AlertRaised
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import metrics, routes
from driftloop.streams.producer.publisher import NotDelivered, Publisher
from driftloop.streams.records import Chunk, ProducerRecord

log = logging.getLogger(__name__)

MEASURE_SECONDS = 1.0
"""Between two measurements."""
MEASUREMENTS = 5
"""Measurements in a row above the limit that raise an alert."""

PartitionId = tuple[str, int]
"""Topic (our name) and partition."""
EndOffsets = Mapping[PartitionId, int | None]
"""Next offset to be written to each assigned partition, as far as it is known."""


@dataclass(frozen=True)
class PartitionLag:
    """The lag of one partition."""

    records: int
    seconds: float
    """Age of the oldest record that is not done, by Kafka's time of it; 0 without any."""


@dataclass
class _Progress:
    """What this worker knows of one partition; times are seconds since 1970."""

    next_offset: int
    """After the newest chunk that is done."""
    oldest: float | None = None
    """When the record at `next_offset` was written, at the earliest; None: no such record is known."""
    in_flight: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Chunks that arrived and aren't done: first offset -> the offset after them, and when it was written."""


class LagTracker:
    """Lag of all partitions of one worker. Pure: time is an argument, in seconds since 1970."""

    def __init__(self) -> None:
        self._partitions: dict[PartitionId, _Progress] = {}

    def assign(self, partition: PartitionId, offset: int) -> None:
        """The worker was assigned the partition, and everything before `offset` is done."""
        self._partitions[partition] = _Progress(offset)

    def start_chunk(self, chunk: Chunk, now: float) -> None:
        """A chunk arrived. Several of a partition may be in flight."""
        first = chunk.records[0]
        progress = self._partitions.setdefault((chunk.topic, chunk.partition), _Progress(first.offset))
        written = first.timestamp / 1000 if first.timestamp >= 0 else now
        progress.in_flight[first.offset] = (chunk.last + 1, written)

    def finish_chunk(self, chunk: Chunk, end: int | None) -> None:
        """A chunk is done, and the partition ends at `end`; its next record was written after this chunk."""
        progress = self._partitions.get((chunk.topic, chunk.partition))
        if progress is not None and progress.in_flight.pop(chunk.first, None) is not None:
            progress.next_offset, newest = chunk.last + 1, chunk.records[-1].timestamp
            more = end is not None and end > progress.next_offset
            progress.oldest = newest / 1000 if more and newest >= 0 else None

    def measure(self, ends: EndOffsets, now: float) -> dict[PartitionId, PartitionLag]:
        """The lag of each partition in `ends`; all others are no longer assigned to this worker."""
        self._partitions = {key: progress for key, progress in self._partitions.items() if key in ends}
        return {
            key: _partition_lag(progress, ends[key] or 0, now) for key, progress in self._partitions.items()
        }


def _partition_lag(progress: _Progress, end: int, now: float) -> PartitionLag:
    if progress.in_flight:
        first, (_, written) = min(progress.in_flight.items())
        arrived = max(after for after, _ in progress.in_flight.values())
        return PartitionLag(max(arrived, end) - first, max(0.0, now - written))
    if end <= progress.next_offset:
        progress.oldest = None
        return PartitionLag(0, 0.0)
    if progress.oldest is None:
        progress.oldest = now
    return PartitionLag(end - progress.next_offset, max(0.0, now - progress.oldest))


@dataclass
class LagAlarm:
    """Raises one alert when an agent lags behind a topic, and one when the lag is over. Pure."""

    agent: str
    topic: str
    partitions: int
    """Of the topic, which as many workers can share."""
    limit: float
    """Seconds of lag that raise the alert; it is over at half of that."""
    worker: str
    """Part of the alert's id: several workers raise alerts of their own."""
    _measurements: int = 0
    """In a row above the limit."""
    _since: float = 0.0
    _raised: AlertRaised | None = None

    def update(self, lags: Mapping[int, PartitionLag], now: float) -> AlertRaised | None:
        """The alert that follows from a measurement of the topic's partitions, if any."""
        worst = max((lag.seconds for lag in lags.values()), default=0.0)
        if self._raised is not None:
            return self._resolve_alarm(bool(lags), now) if worst <= self.limit / 2 else None
        self._measurements = self._measurements + 1 if worst > self.limit else 0
        if self._measurements < MEASUREMENTS:
            return None
        self._since = now - worst
        cause = ("lag", self.agent, self.topic, self.worker, int(now * 1000))
        self._raised = _alert(ids.derive(*cause), now, "warning", self._sentence(lags, worst))
        return self._raised

    def _resolve_alarm(self, assigned: bool, now: float) -> AlertRaised:
        raised, self._raised, self._measurements = self._raised, None, 0
        assert raised is not None
        what = "has caught up on" if assigned else "no longer reads its partitions of"
        duration = format_duration(now - self._since)
        sentence = f"agent {self.agent} {what} {self.topic}; it was behind for {duration}"
        return _alert(ids.derive(raised.id, "over"), now, "info", sentence, raised.id)

    def _sentence(self, lags: Mapping[int, PartitionLag], worst: float) -> str:
        late = sorted(partition for partition, lag in lags.items() if lag.seconds > self.limit)
        records = sum(lags[partition].records for partition in late)
        where = f"partition{'s' if len(late) > 1 else ''} {', '.join(map(str, late))}"
        return (
            f"agent {self.agent} is {format_duration(worst)} behind on {self.topic}: "
            f"at least {records:,} records wait in {where}. If `driftloop_retries_total` grows, a service "
            f"that the agent needs is down: its log names it. If not, start more workers "
            f"(`driftloop agents run {self.agent}`), up to one for each of the topic's {self.partitions} "
            "partitions; beyond that, add partitions"
        )


@dataclass
class LagMonitor:
    """Measures one worker's lag every `MEASURE_SECONDS`; exports it and publishes alerts."""

    agent: str
    kafka: KafkaSettings
    publisher: Publisher
    topics: Sequence[str]
    """Our names."""
    partitions: int
    """Of each topic."""
    end_offsets: Callable[[], EndOffsets]
    """The end of each partition that is assigned to this worker."""
    _lag: LagTracker = field(default_factory=LagTracker)
    _alarms: dict[str, LagAlarm] = field(default_factory=dict)
    _worker: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    _unpublished: list[ProducerRecord] = field(default_factory=list)
    _exported: set[PartitionId] = field(default_factory=set)

    def assign(self, offsets: Mapping[PartitionId, int]) -> None:
        """The worker was assigned these partitions and reads on from these offsets."""
        self._lag = LagTracker()
        for partition, offset in offsets.items():
            self._lag.assign(partition, offset)

    @contextmanager
    def in_progress(self, chunk: Chunk) -> Iterator[None]:
        """The chunk is handled, or waits to be, in this block."""
        self._lag.start_chunk(chunk, time.time())
        yield
        self._lag.finish_chunk(chunk, self.end_offsets().get((chunk.topic, chunk.partition)))

    async def measure(self, *_: object) -> None:
        """Measure, export, and publish alerts; an alert that is not delivered is published again later."""
        now = time.time()
        lags = self._lag.measure(self.end_offsets(), now)
        self._export(lags)
        self._unpublished += [routes.producer_record(alert, self.kafka) for alert in self._alerts(lags, now)]
        if self._unpublished:
            try:
                await asyncio.to_thread(self.publisher.deliver, self._unpublished)
                self._unpublished = []
            except NotDelivered as error:
                fields = {"agent": self.agent, "error": str(error)}
                log.warning("alert not delivered; it is published again", extra=fields)

    def _alerts(self, lags: Mapping[PartitionId, PartitionLag], now: float) -> Iterator[AlertRaised]:
        for topic in self.topics:
            alarm = self._alarms.setdefault(topic, self._alarm(topic))
            of_topic = {partition: lag for (name, partition), lag in lags.items() if name == topic}
            alert = alarm.update(of_topic, now)
            if alert is not None:
                log.warning(alert.sentence, extra={"agent": self.agent, "topic": topic})
                yield alert

    def _alarm(self, topic: str) -> LagAlarm:
        return LagAlarm(self.agent, topic, self.partitions, self.kafka.max_lag_seconds, self._worker)

    def _export(self, lags: Mapping[PartitionId, PartitionLag]) -> None:
        for topic, partition in self._exported - set(lags):
            metrics.remove_lag(self.agent, topic, partition)
        for (topic, partition), lag in lags.items():
            metrics.set_lag(self.agent, topic, partition, lag.records, lag.seconds)
        self._exported = set(lags)


def _alert(id_: str, now: float, severity: str, sentence: str, cause: str | None = None) -> AlertRaised:
    fields = {"id": id_, "at": int(now * 1000), "model": EVERY_MODEL, "caused_by": cause}
    return AlertRaised.model_validate({**fields, "severity": severity, "sentence": sentence})


def format_duration(seconds: float) -> str:
    """A duration in its largest sensible unit.

    >>> [format_duration(seconds) for seconds in (45, 600, 9_000, 200_000, 80_000_000)]
    ['45 s', '10 min', '2.5 h', '2.3 days', '2.5 years']
    """
    for unit, size, least in (("years", 31_557_600, 2), ("days", 86_400, 2), ("h", 3_600, 2), ("min", 60, 2)):
        if seconds >= least * size:
            exact = unit in ("days", "years")
            return f"{seconds / size:,.1f} {unit}" if exact else f"{seconds / size:.2g} {unit}"
    return f"{seconds:.0f} s"

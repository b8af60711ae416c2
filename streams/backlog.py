"""How far agents are behind, seen from outside: a group's committed offsets against the ends of its topics.

A worker's own view (`streams.processing.lag`) ends with the worker. While an agent is dead, its committed
offsets stand still and the ends grow, so this view needs no agent. Offsets are committed once a second, so
records that came since the look before are no backlog: an agent is behind once it has not done what was
there a look ago. The embedded broker says as a partition's end where its last batch begins: records are
then a lower bound.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import clients
from driftloop.streams.records import ConsumerRecord
from driftloop.streams.wire import rows

ANSWER_SECONDS = 3.0
FETCH_SECONDS = 1.0
FETCH_BYTES = 65_536
"""Of a partition at once: one record is wanted."""

PartitionId = tuple[str, int]
"""Topic (its name in Kafka) and partition."""
Offsets = Mapping[PartitionId, int]
"""The next offset of each place."""
RecordPosition = tuple[str, int, int]
"""Topic (its name in Kafka), partition, offset."""


@dataclass(frozen=True)
class Backlog:
    """What waits for one agent."""

    agent: str
    records: int
    """Records in Kafka that the agent has not done; 0 if it keeps up."""
    seconds: float
    """Age of the oldest of them by Kafka's time of it."""
    data_ms: int | None
    """From the oldest waiting record to the newest one of its partition, in the time of the data; None where
    the records don't say."""


@dataclass(frozen=True)
class RecordTimes:
    """The times of a record: Kafka's and that of the data (UTC, ms)."""

    written: int
    at: int | None


class BacklogMonitor:
    """Looks at the offsets of some agents again and again; close it at the end."""

    def __init__(self, kafka: KafkaSettings, agents: Iterable[str]) -> None:
        self._kafka = kafka
        self._groups = {name: f"{kafka.prefix}driftloop-{name}" for name in agents}
        self._admin = AdminClient({"bootstrap.servers": kafka.bootstrap}, logger=clients.log)
        fetching = {**clients.consumer_config(kafka), "fetch.message.max.bytes": FETCH_BYTES}
        self._consumer = Consumer(fetching, logger=clients.log)
        self._before: Offsets = {}
        """Ends at the look before."""

    def measure(self) -> Sequence[Backlog]:
        """Every agent that has ever committed an offset. Blocks; raises Unavailable."""
        try:
            return self._look()
        except KafkaException as error:
            raise Unavailable(f"{self._kafka.bootstrap}: {error.args[0].str()}") from error

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def offsets(self) -> tuple[Mapping[str, Offsets], Offsets]:
        """What each agent has committed, and the ends of all these partitions. Raises KafkaException."""
        asked = {
            name: self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_SECONDS
            )[group]
            for name, group in self._groups.items()
        }
        found = {
            name: _committed_offsets(answer.result().topic_partitions or ()) for name, answer in asked.items()
        }
        done = {name: offsets for name, offsets in found.items() if offsets}
        places = sorted({place for offsets in done.values() for place in offsets})
        if not places:
            return {}, {}
        latest = {TopicPartition(*place): OffsetSpec.latest() for place in places}
        answers = self._admin.list_offsets(latest, request_timeout=ANSWER_SECONDS)
        return done, {(at.topic, at.partition): int(end.result().offset) for at, end in answers.items()}

    def _look(self) -> Sequence[Backlog]:
        done, ends = self.offsets()
        late = {name: overdue_offsets(offsets, self._before) for name, offsets in done.items()}
        self._before = ends
        oldest = {(*place, offset) for offsets in late.values() for place, offset in offsets.items()}
        newest = {(topic, partition, ends[topic, partition] - 1) for topic, partition, _ in oldest}
        stamps = self._stamps(oldest | newest)
        now = time.time() * 1000
        return [agent_backlog(name, offsets, ends, stamps, now) for name, offsets in late.items()]

    def _stamps(self, wanted: set[RecordPosition]) -> Mapping[RecordPosition, RecordTimes]:
        """The times of these records; without those that don't come within `FETCH_SECONDS`."""
        found: dict[RecordPosition, RecordTimes] = {}
        left = sorted(wanted)
        while left:
            turn = {where[:2]: where for where in left}  # one offset a partition at a time
            found |= self._fetch_times(list(turn.values()))
            left = [where for where in left if where not in turn.values()]
        return found

    def _fetch_times(self, wanted: Sequence[RecordPosition]) -> Mapping[RecordPosition, RecordTimes]:
        """The first record at or after each offset, under the offset that was asked for."""
        missing = {where[:2]: where for where in wanted}
        self._consumer.assign([TopicPartition(*where) for where in wanted])
        found: dict[RecordPosition, RecordTimes] = {}
        deadline = time.monotonic() + FETCH_SECONDS
        while missing and time.monotonic() < deadline:
            for message in self._consumer.consume(100, 0.1):
                where = missing.pop((message.topic(), message.partition()), None)
                if where is not None and message.error() is None:
                    found[where] = _stamp(message)
        self._consumer.unassign()
        return found


def overdue_offsets(done: Offsets, before: Offsets) -> Offsets:
    """The offset that is waited for in each place where not even the end of the look before was reached.

    >>> overdue_offsets({("labels", 0): 70, ("labels", 1): 40}, {("labels", 0): 60, ("labels", 1): 60})
    {('labels', 1): 40}
    """
    return {place: offset for place, offset in done.items() if offset < before.get(place, 0)}


def agent_backlog(
    agent: str, waiting: Offsets, ends: Offsets, stamps: Mapping[RecordPosition, RecordTimes], now: float
) -> Backlog:
    """What waits for an agent from these offsets on; `now` and all times are UTC, ms."""
    records = sum(ends[place] - offset for place, offset in waiting.items())
    seconds, spans = 0.0, list[int]()
    for (topic, partition), offset in waiting.items():
        oldest = stamps.get((topic, partition, offset))
        newest = stamps.get((topic, partition, ends[topic, partition] - 1))
        if oldest is not None:
            seconds = max(seconds, (now - oldest.written) / 1000)
            if newest is not None and oldest.at is not None and newest.at is not None:
                spans.append(max(0, newest.at - oldest.at))
    return Backlog(agent, records, seconds, max(spans, default=None))


def data_time(value: bytes | None) -> int | None:
    """The newest time that a record of any topic has, in the time of the data (UTC, ms); None if it has none.

    >>> data_time(b'{"type":"label","model":"m","id":"1","at":7,"label":1}')
    7
    >>> data_time(b'{"times":[[1,2],[3,4]]}'), data_time(b'{"at":[1],"labelled_at":[5,3]}'), data_time(b"?")
    (4, 5, None)
    """
    found = rows.decode_records([ConsumerRecord(0, 0, None, value, {})]).runs
    if found:
        return max(int(run.rows.at.max()) for run in found)
    try:
        fields = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return _newest(fields) if isinstance(fields, dict) else None


def _newest(fields: Mapping[str, Any]) -> int | None:
    """Of an event, of joined rows, or of a summary."""
    at = fields.get("labelled_at", fields.get("at"))
    if at is None:
        at = [until for _, until in fields.get("times", ())]
    times = [value for value in (at if isinstance(at, list) else [at]) if isinstance(value, int)]
    return max(times, default=None)


def _stamp(message: Message) -> RecordTimes:
    _, written = message.timestamp()
    return RecordTimes(written, data_time(message.value()))


def _committed_offsets(offsets: Iterable[TopicPartition]) -> Offsets:
    return {(at.topic, at.partition): at.offset for at in offsets if at.offset >= 0}

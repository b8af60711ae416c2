"""An agent's changelog: a compacted topic with a partition for each partition of the source topics.

Only the newest checkpoint and the log entries after it are read. Keys repeat with each second checkpoint, so
compaction deletes what is older than the last two. An entry larger than a message is written in parts.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from driftloop.schemas import topics
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import admin, topic_reader
from driftloop.streams.processing.checkpoints import Checkpoint, LogEntry, RecoveryPoint, decode_entry
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import ConsumerRecord, ProducerRecord

PART_BYTES = 4_000_000
"""Of a message: half of what is allowed."""
SLACK = 16
"""Records read before a checkpoint begins, since late writes of a former owner may lie in between."""
SEGMENT_BYTES = 64_000_000
"""Small, because compaction skips the newest segment."""


@dataclass
class _Tail:
    """The newest checkpoint of one partition, and the records after it."""

    checkpoints: int = 0
    number: int = 0
    """Of the newest checkpoint."""
    records: int = 0
    """Since the newest checkpoint began."""


class Changelog:
    """Reads and writes entries. Calls block, and raise Unavailable or NotDelivered if Kafka is away."""

    def __init__(self, agent: str, kafka: KafkaSettings, publisher: Publisher, partitions: int) -> None:
        self.topic = f"{kafka.prefix}driftloop-{agent}-changelog"
        self._kafka = kafka
        self._publisher = publisher
        self._partitions = partitions
        self._tails: dict[int, _Tail] = {}

    def create(self) -> None:
        """Create the topic if it isn't there, with as many partitions as the source has."""
        config = {
            "cleanup.policy": "compact",
            "segment.bytes": str(SEGMENT_BYTES),
            "min.cleanable.dirty.ratio": "0.1",
            "max.message.bytes": str(topics.MAX_MESSAGE_BYTES),
        }
        admin.create_topic(self._kafka, self.topic, self._partitions, config)

    def read(self, partition: int) -> RecoveryPoint | None:
        """The newest checkpoint of one partition and the entries after it; None if it has none."""
        last = topic_reader.last_record(self._kafka, self.topic, partition)
        if last is None:
            self._tails[partition] = _Tail()
            return None
        first = max(last.offset - int(last.headers["back"]) - SLACK, 0)
        point = self._read_from(partition, first)
        return point if point is not None or first == 0 else self._read_from(partition, 0)

    def write(self, partition: int, entry: Checkpoint | LogEntry) -> None:
        """Append an entry; returns when it is durable."""
        if isinstance(entry, Checkpoint):
            self._tails[partition] = _Tail(entry.checkpoints, entry.number)
        tail = self._tails[partition]
        encoded = entry.encode()
        starts = range(0, len(encoded), PART_BYTES)
        slot = f"{tail.checkpoints % 2}/{entry.number - tail.number}"
        attempt = uuid.uuid4().hex  # parts of several attempts may be mixed
        parts = [
            ProducerRecord(
                topic=self.topic,
                key=f"{slot}/{part}",
                value=encoded[start : start + PART_BYTES],
                headers={"attempt": attempt, "parts": str(len(starts)), "back": str(tail.records + part)},
                partition=partition,
            )
            for part, start in enumerate(starts)
        ]
        tail.records += len(parts)
        self._publisher.deliver(parts)

    def _read_from(self, partition: int, first: int) -> RecoveryPoint | None:
        records = list(topic_reader.read_records(self._kafka, self.topic, partition, first))
        point = RecoveryPoint.from_entries(_entries(records))
        if point is not None:
            newest, since = point.checkpoint, int(records[-1].headers["back"]) + 1
            self._tails[partition] = _Tail(newest.checkpoints, newest.number, since)
        return point


def _entries(records: Iterable[ConsumerRecord]) -> Iterator[Checkpoint | LogEntry]:
    """Whole entries; one whose writer died before the last part is left out."""
    parts: defaultdict[str, list[bytes]] = defaultdict(list)
    for record in records:
        attempt = record.headers["attempt"]
        parts[attempt].append(record.value or b"")
        if len(parts[attempt]) == int(record.headers["parts"]):
            yield decode_entry(b"".join(parts.pop(attempt)))

"""Where an agent's memories lie in Kafka: a topic with a partition for each of the source's.

Only the newest base and its steps are ever read, so the topic is compacted, with keys that begin anew with
each second base: whatever is older than the last two bases goes. A value that is too large for a message
comes in parts.
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
"""Half of what a message may have."""
SLACK = 16
"""Records read before a base's beginning: late writes of a former owner may lie in between."""
SEGMENT_BYTES = 64_000_000
"""Compaction leaves the newest segment alone, so it is kept small."""


@dataclass
class _End:
    """What is known of the end of one partition."""

    turn: int = 0
    number: int = 0
    """Of the newest base."""
    records: int = 0
    """Since the newest base began."""


class Changelog:
    """Reads and writes memories; calls block, and raise Unavailable or NotDelivered if Kafka is away."""

    def __init__(self, agent: str, kafka: KafkaSettings, publisher: Publisher, partitions: int) -> None:
        self.topic = f"{kafka.prefix}driftloop-{agent}-changelog"
        self._kafka = kafka
        self._publisher = publisher
        self._partitions = partitions
        self._ends: dict[int, _End] = {}

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
        """The memory of one partition; None if it has none yet."""
        last = topic_reader.last_record(self._kafka, self.topic, partition)
        if last is None:
            self._ends[partition] = _End()
            return None
        first = max(last.offset - int(last.headers["back"]) - SLACK, 0)
        memory = self._read_from(partition, first)
        return memory if memory is not None or first == 0 else self._read_from(partition, 0)

    def write(self, partition: int, entry: Checkpoint | LogEntry) -> None:
        """Append an entry; returns when it is durable."""
        if isinstance(entry, Checkpoint):
            self._ends[partition] = _End(entry.checkpoints, entry.number)
        end = self._ends[partition]
        packed = entry.encode()
        cuts = range(0, len(packed), PART_BYTES)
        slot = f"{end.turn % 2}/{entry.number - end.number}"
        written = uuid.uuid4().hex  # a part belongs to its own attempt, whatever was written in between
        parts = [
            ProducerRecord(
                topic=self.topic,
                key=f"{slot}/{part}",
                value=packed[cut : cut + PART_BYTES],
                headers={"written": written, "parts": str(len(cuts)), "back": str(end.records + part)},
                partition=partition,
            )
            for part, cut in enumerate(cuts)
        ]
        end.records += len(parts)
        self._publisher.deliver(parts)

    def _read_from(self, partition: int, first: int) -> RecoveryPoint | None:
        found = list(topic_reader.read_records(self._kafka, self.topic, partition, first))
        memory = RecoveryPoint.from_entries(_entries(found))
        if memory is not None:
            records = int(found[-1].headers["back"]) + 1
            self._ends[partition] = _End(memory.checkpoint.checkpoints, memory.checkpoint.number, records)
        return memory


def _entries(found: Iterable[ConsumerRecord]) -> Iterator[Checkpoint | LogEntry]:
    """Whole entries; one whose writer died in the middle is left out."""
    parts: defaultdict[str, list[bytes]] = defaultdict(list)
    for record in found:
        written = record.headers["written"]
        parts[written].append(record.value or b"")
        if len(parts[written]) == int(record.headers["parts"]):
            yield decode_entry(b"".join(parts.pop(written)))

"""Restoring one partition of an agent: the newest checkpoint, and the chunks after it handled once more."""

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol

from driftloop.mlops_core.errors import Temporary
from driftloop.streams import metrics
from driftloop.streams.processing.agent import Agent, State
from driftloop.streams.processing.checkpoints import Checkpoint, LogEntry, RecoveryPoint
from driftloop.streams.processing.placement import Placement
from driftloop.streams.records import Chunk, ConsumerRecord, ProducerRecord

log = logging.getLogger(__name__)


class KafkaAccess(Protocol):
    """What a runner needs from Kafka. The first four methods block; the runner retries what they raise."""

    def read_changelog(self, partition: int) -> RecoveryPoint | None:
        """The newest checkpoint and the log entries after it; None for a partition without changelog."""
        ...

    def append_to_changelog(self, partition: int, entry: Checkpoint | LogEntry) -> None:
        """Write an entry; returns once all replicas have it."""
        ...

    def read_records(self, topic: str, partition: int, first: int, last: int) -> list[ConsumerRecord]:
        """Source records of these offsets; from the oldest that is kept if `first` has expired."""
        ...

    def first_offset_from(self, topic: str, partition: int, offset: int) -> int | None:
        """The first offset at or after `offset` that is kept."""
        ...

    async def rewind(self, topic: str, partition: int, offset: int) -> None:
        """Have the records from `offset` on delivered again."""
        ...

    def owns(self, partition: int) -> bool:
        """Whether this worker is assigned the partition."""
        ...

    def generation(self) -> int:
        """The consumer group's generation; it grows with each rebalance."""
        ...


@dataclass
class PartitionState(Generic[State]):
    """One partition of an agent in memory."""

    partition: int
    checkpoint: Checkpoint
    """Offsets and sequence numbers as of now; the bytes of the state are as old as the newest checkpoint."""
    state: State
    checkpoint_number: int | None = None
    """Number of the newest checkpoint in the changelog; None: the next entry must be a checkpoint."""
    bytes_since_checkpoint: int = 0
    """Values handled and published since the newest checkpoint, as many as a restart has to repeat."""

    def count_bytes(self, chunk: Chunk, outbox: Sequence[ProducerRecord]) -> None:
        """Add a chunk and the messages that followed from it to `bytes_since_checkpoint`."""
        self.bytes_since_checkpoint += chunk.size + sum(len(message.value) for message in outbox)


def restore_partition(
    agent: Agent[State], kafka: KafkaAccess, partition: int, placement: Placement
) -> PartitionState[State]:
    """The partition's state after its newest log entry; the initial state if it has none. Blocks."""
    found = kafka.read_changelog(partition)
    if found is None:
        state = agent.initial_state()
        incarnation = uuid.uuid4().hex[:8]
        return PartitionState(
            partition, Checkpoint(incarnation, agent.dump(state), epoch=kafka.generation()), state
        )
    newest = found.checkpoint
    restored = PartitionState(partition, newest, agent.load(newest.state), newest.number)
    records = _source_records(kafka, partition, found.entries)
    _replay(agent, restored, found.entries, records, placement)
    newest.epoch = max(found.newest_entry.epoch + 1, kafka.generation())
    return restored


def _source_records(
    kafka: KafkaAccess, partition: int, entries: Sequence[LogEntry]
) -> Mapping[str, Sequence[ConsumerRecord]]:
    """Topic -> all records that the entries' chunks held."""
    found: dict[str, Sequence[ConsumerRecord]] = {}
    for topic in {entry.topic for entry in entries}:
        of_topic = [entry for entry in entries if entry.topic == topic]
        first, last = min(entry.first for entry in of_topic), max(entry.last for entry in of_topic)
        found[topic] = kafka.read_records(topic, partition, first, last)
    return found


def _replay(
    agent: Agent[State],
    restored: PartitionState[State],
    entries: Sequence[LogEntry],
    records: Mapping[str, Sequence[ConsumerRecord]],
    placement: Placement,
) -> None:
    """Handle the chunk of each log entry again; the messages that follow are those in the entry's outbox."""
    bookkeeping = restored.checkpoint
    for entry in entries:
        again = [record for record in records[entry.topic] if entry.first <= record.offset <= entry.last]
        if not again or again[-1].offset != entry.last:
            log.error(
                "source records of a log entry have expired; the state lacks them",
                extra={"agent": agent.name, "topic": entry.topic, "last": entry.last},
            )
        new = bookkeeping.new_records(Chunk(entry.topic, restored.partition, again))
        if new:
            chunk = Chunk(entry.topic, restored.partition, new)
            placed, _ = placement.place(chunk)
            if placed:
                _handle_again(agent, restored.state, chunk.with_records(placed))
            bookkeeping.mark_applied(chunk)
            restored.count_bytes(chunk, entry.outbox)
        bookkeeping.offsets[entry.topic] = entry.last
        bookkeeping.sequence, bookkeeping.outbox = entry.sequence, entry.outbox
        bookkeeping.number = entry.number


def _handle_again(agent: Agent[State], state: State, chunk: Chunk) -> None:
    try:
        with metrics.replaying():
            agent.handle(state, chunk)
    except Temporary:
        raise
    except Exception:  # the code has changed since; a partition that stands still would be worse
        log.exception(
            "replay of a chunk failed; its records are left out of the state",
            extra={"agent": agent.name, "topic": chunk.topic, "last": chunk.last},
        )

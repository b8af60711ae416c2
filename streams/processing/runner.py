"""Runs one agent: takes chunks of records, has the agent handle them, and commits what follows.

`_commit` is the commit of one chunk, step by step (docs/architecture.md). A crash between two steps repeats
the newest log entry at most, and readers recognise repeated messages by their sequence number.
How far each topic was read is part of the state: reading goes on from there, records that were skipped are
fetched again, and the offsets that Faust commits to Kafka only show the lag to operators.
Effects follow from the state: after each chunk, and after a restart, the runner performs the effects that the
state asks for and cancels all others. The runner lets no exception out: Faust would acknowledge the chunk.
"""

import asyncio
import logging
import traceback
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from driftloop.mlops_core.errors import Temporary
from driftloop.schemas import topics
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import metrics, routes
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Agent, State
from driftloop.streams.processing.checkpoints import Checkpoint, LogEntry, with_sequence
from driftloop.streams.processing.effects import Effects
from driftloop.streams.processing.placement import Placement
from driftloop.streams.processing.resolver import Resolver
from driftloop.streams.processing.restore import KafkaAccess, PartitionState, restore_partition
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import Chunk, ProducerRecord, dead_letter

log = logging.getLogger(__name__)
Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds between two attempts; the pause doubles each time."""
OVERHEAD = 1000
"""Bytes of a message beside its value, at most."""


class PartitionRevoked(Exception):
    """The partition went to another worker, which goes on from our newest log entry."""


class AgentRunner(Generic[State]):
    """Runs one agent over the partitions that this worker is assigned."""

    def __init__(
        self, agent: Agent[State], settings: KafkaSettings, publisher: Publisher, kafka: KafkaAccess
    ) -> None:
        self._agent = agent
        self._settings = settings
        self._publisher = publisher
        self._kafka = kafka
        self._partitions: dict[int, PartitionState[State]] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._rebalances = 0
        """Counts rebalances: a restore that began before one must not be used after it."""
        self._placement = Placement(agent, settings)
        self._resolver = Resolver(agent)
        self._effects = Effects(agent.name, self._perform)

    async def process(self, chunk: Chunk) -> None:
        """Handle a chunk and commit what follows. Raises nothing but cancellation."""
        async with self._locks[chunk.partition]:
            try:
                await self._retry(chunk.partition, lambda: self._process_new_records(chunk))
            except PartitionRevoked:
                where = {"agent": self._agent.name, "partition": chunk.partition}
                log.info("partition revoked while a chunk was processed", extra=where)
                self.release(chunk.partition)

    async def resume(self, partition: int) -> Mapping[str, int]:
        """Restore a partition and perform its effects; returns the next offset of each topic.

        A topic that was never read is left out; so are all, if the partition went to another worker.
        """
        async with self._locks[partition]:
            try:
                current = await self._retry(partition, lambda: self._current_state(partition))
            except PartitionRevoked:
                self.release(partition)
                return {}
            self._update_effects(current)
            return {topic: offset + 1 for topic, offset in current.checkpoint.offsets.items()}

    def busy(self, partition: int) -> bool:
        """Whether a chunk or a restore of the partition is in progress."""
        return self._locks[partition].locked()

    def release(self, partition: int) -> None:
        """Drop the state of a partition and cancel its effects."""
        self._partitions.pop(partition, None)
        self._effects.cancel(partition)

    def release_all(self) -> None:
        """Drop all partitions, e.g. in a rebalance."""
        self._rebalances += 1
        for partition in {*self._partitions, *self._effects.partitions}:
            self.release(partition)

    async def _process_new_records(self, chunk: Chunk) -> None:
        """Commit the records of the chunk that the state has not seen; on an error the state is restored."""
        current = await self._current_state(chunk.partition)
        if await self._fetch_skipped_records(current, chunk):
            return
        new = current.checkpoint.new_records(chunk)
        if not new:
            current.checkpoint.mark_applied(chunk)
            return
        try:
            await self._commit(current, chunk.with_records(new))
        except BaseException:
            self.release(chunk.partition)
            raise

    async def _commit(self, current: PartitionState[State], chunk: Chunk) -> None:
        """Commit one chunk. Once this returns, Faust commits the chunk's offset."""
        placed, moved = self._placement.place(chunk)
        follows: list[ProducerRecord] = []
        must_checkpoint = False
        if placed:
            placed_chunk = chunk if placed is chunk.records else chunk.with_records(placed)
            follows, must_checkpoint = await self._decide(current, placed_chunk)
        outbox = self._with_sequence_numbers(current, [*moved, *follows])
        entry = self._log_entry(current, chunk, outbox, must_checkpoint)
        await self._write(current, entry)
        await self._publish(chunk.partition, outbox)
        self._update_effects(current)
        metrics.count_applied(self._agent.name, chunk.topic, len(chunk.records))

    async def _decide(
        self, current: PartitionState[State], chunk: Chunk
    ) -> tuple[list[ProducerRecord], bool]:
        """The messages that follow from the chunk, and whether a replay could not come to the same state.

        A record that the agent can't handle becomes a dead letter.
        """
        try:
            resolved, enters_state = await self._resolver.resolve(current.state, chunk)
            return self._serialize(self._agent.handle(current.state, resolved)), enters_state
        except Temporary:
            if not await self._resolver.may_park(current.state, chunk):
                raise
        # Broad, here and in `_retry`: an exception that leaves the runner loses the chunk. So whatever the
        # agent raises, the record becomes a dead letter with the reason, and the others are handled.
        except Exception as error:  # noqa: BLE001
            fields = {"agent": self._agent.name, "topic": chunk.topic, "error": summarize_error(error)}
            log.warning("chunk failed; its records are handled one by one", extra=fields)
        current.state = await self._state_before(current)
        return await self._decide_record_by_record(current, chunk), True

    async def _state_before(self, current: PartitionState[State]) -> State:
        """The state before the chunk that failed: the newest checkpoint's if it is as new, else restored."""
        if current.checkpoint_number is None or current.checkpoint_number == current.checkpoint.number:
            return self._agent.load(current.checkpoint.state)
        return (await self._restore(current.partition)).state

    async def _decide_record_by_record(
        self, current: PartitionState[State], chunk: Chunk
    ) -> list[ProducerRecord]:
        follows: list[ProducerRecord] = []
        good = self._agent.dump(current.state)
        for record in chunk.records:
            try:
                one, _ = await self._resolver.resolve(current.state, chunk.with_records([record]))
                follows += self._serialize(self._agent.handle(current.state, one))
                good = self._agent.dump(current.state)
            except Exception as error:
                unanswered = isinstance(error, Temporary)
                if unanswered and not await self._resolver.may_park(current.state, chunk):
                    raise
                reason = "lookup failed" if unanswered else "handler failed"
                where = {"agent": self._agent.name, "topic": chunk.topic, "offset": record.offset}
                log.exception("%s; the record becomes a dead letter", reason, extra=where)
                current.state = self._agent.load(good)
                letter = dead_letter(chunk, record, reason, summarize_error(error))
                follows += self._serialize([letter])
        return follows

    def _with_sequence_numbers(
        self, current: PartitionState[State], follows: Sequence[ProducerRecord]
    ) -> list[ProducerRecord]:
        """The messages with source and sequence number, by which readers recognise repetitions."""
        source = f"{self._agent.name}/{current.partition}/{current.checkpoint.incarnation}"
        first = current.checkpoint.sequence + 1
        return [with_sequence(message, source, first + n) for n, message in enumerate(follows)]

    def _log_entry(
        self,
        current: PartitionState[State],
        chunk: Chunk,
        outbox: Sequence[ProducerRecord],
        must_checkpoint: bool,
    ) -> Checkpoint | LogEntry:
        """The log entry of the chunk, or a checkpoint when it is time for one."""
        entry = current.checkpoint.log_entry(chunk, outbox)
        current.count_bytes(chunk, outbox)
        if not must_checkpoint and not self._should_checkpoint(current):
            return entry
        current.checkpoint.state = self._agent.dump(current.state)
        current.checkpoint.checkpoints += 1
        current.checkpoint_number, current.bytes_since_checkpoint = entry.number, 0
        return current.checkpoint

    def _should_checkpoint(self, current: PartitionState[State]) -> bool:
        newest, number = current.checkpoint_number, current.checkpoint.number
        if newest is None or number - newest >= self._agent.checkpoint_interval:
            return True
        return checkpoints.should_checkpoint(len(current.checkpoint.state), current.bytes_since_checkpoint)

    async def _write(self, current: PartitionState[State], entry: Checkpoint | LogEntry) -> None:
        """Append the entry to the changelog, unless the partition was revoked meanwhile."""
        partition = current.partition
        if self._partitions.get(partition) is not current:
            raise PartitionRevoked
        append = self._kafka.append_to_changelog
        await self._retry(partition, lambda: asyncio.to_thread(append, partition, entry))

    async def _publish(self, partition: int, messages: Sequence[ProducerRecord]) -> None:
        """Publish the messages; returns once all replicas have them."""
        if messages:
            await self._retry(partition, lambda: asyncio.to_thread(self._publisher.deliver, messages))

    def _update_effects(self, current: PartitionState[State]) -> None:
        if self._partitions.get(current.partition) is current:  # else it was revoked meanwhile
            self._effects.update(current.partition, self._agent.pending_effects(current.state))

    async def _perform(self, partition: int, effect: object) -> None:
        """Carry out one effect and publish what follows; the agent reads that as an event."""
        follows = await self._retry(partition, lambda: self._agent.perform(effect))
        await self._publish(partition, self._serialize(follows))

    async def _current_state(self, partition: int) -> PartitionState[State]:
        """The partition's state; if it is new here, from Kafka, and its newest outbox is published again."""
        current = self._partitions.get(partition)
        if current is None:
            rebalances = self._rebalances
            current = await self._restore(partition)
            await self._publish(partition, current.checkpoint.outbox)
            if rebalances != self._rebalances:
                raise PartitionRevoked
            self._partitions[partition] = current
        return current

    async def _restore(self, partition: int) -> PartitionState[State]:
        return await asyncio.to_thread(
            restore_partition, self._agent, self._kafka, partition, self._placement
        )

    async def _fetch_skipped_records(self, current: PartitionState[State], chunk: Chunk) -> bool:
        """Rewind if records before the chunk never arrived; whether it did, and the chunk will come again."""
        expected = current.checkpoint.offsets.get(chunk.topic, -1) + 1
        if chunk.first <= expected:
            return False
        where = (chunk.topic, chunk.partition, expected)
        if await asyncio.to_thread(self._kafka.first_offset_from, *where) == chunk.first:
            return False  # those before it have expired
        fields = {"agent": self._agent.name, "expected": where, "arrived": chunk.first}
        log.warning("records were skipped; they are fetched again", extra=fields)
        await self._kafka.rewind(*where)
        return True

    async def _retry(self, partition: int, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Repeat the attempt until it succeeds. Raises PartitionRevoked when the partition is lost."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except PartitionRevoked:
                raise
            except Exception as error:  # noqa: BLE001
                metrics.count_retry(self._agent.name)
                fields = {"agent": self._agent.name, "error": summarize_error(error), "seconds": pause}
                log.warning("attempt failed; it is repeated", extra=fields)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            if not self._kafka.owns(partition):
                raise PartitionRevoked

    def _serialize(self, follows: Sequence[Output]) -> list[ProducerRecord]:
        """The Kafka messages of an agent's output. Dead letters are counted once all can be sent.

        Raises:
            ValueError: a message is too large for Kafka.
        """
        records = [record for output in follows for record in self._producer_records(output)]
        for output in follows:
            if isinstance(output, DeadLetter):
                metrics.count_dead_letter(self._agent.name, output.reason)
        return records

    def _producer_records(self, output: Output) -> list[ProducerRecord]:
        records = routes.producer_records(output, self._settings)
        size = len(records[0].value)
        if size > topics.MAX_MESSAGE_BYTES - OVERHEAD:
            raise ValueError(f"a {type(output).__name__} of {size:,} bytes is too large for Kafka")
        return records


def summarize_error(error: BaseException) -> str:
    """The error and where it was raised, in one line."""
    frames: list[Any] = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"

"""The one consuming loop. A record whose handling raises out of a Faust stream is lost; none does here.

For each chunk: leave out what the state already knows, handle, write what follows as one durable entry of the
memory, publish it. A crash at any point repeats at most the last step, and the reader recognises the
repetition (see `snapshots`). How far each topic was read is part of the memory too: records that were skipped
on the way here, by whomever, are fetched again, and Kafka's committed offsets are only news for operators.
Effects are level-triggered: after each chunk, and after a restart, whatever the state asks for is being
performed, and nothing else is.
"""

import asyncio
import logging
import traceback
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from driftloop.mlops_core.errors import Temporary
from driftloop.schemas import ids
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import metrics, routes, topics
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Agent, Resolving, State
from driftloop.streams.processing.checkpoints import Checkpoint, LogEntry, RecoveryPoint, with_sequence
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import Chunk, ConsumerRecord, ProducerRecord

log = logging.getLogger(__name__)
Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
OVERHEAD = 1000
"""Bytes of a message beside its value, at most."""


class KafkaAccess(Protocol):
    """What the loop reads from. The first four block; what they raise, the loop tries again after."""

    def read_changelog(self, partition: int) -> RecoveryPoint | None:
        """The partition's memory as it is in Kafka."""
        ...

    def append_to_changelog(self, partition: int, entry: Checkpoint | LogEntry) -> None:
        """Make an entry durable."""
        ...

    def read_records(self, topic: str, partition: int, first: int, last: int) -> list[ConsumerRecord]:
        """Records that arrived earlier; from the oldest that is kept if `first` is gone."""
        ...

    def first_offset_from(self, topic: str, partition: int, offset: int) -> int | None:
        """The first offset at or after `offset` that is kept."""
        ...

    async def rewind(self, topic: str, partition: int, offset: int) -> None:
        """Have the records from `offset` on delivered again."""
        ...

    def owns(self, partition: int) -> bool:
        """Whether this worker is still assigned the partition."""
        ...

    def generation(self) -> int:
        """Grows with each time that the group hands out partitions."""
        ...


class PartitionRevoked(Exception):
    """The partition went to another worker meanwhile; it will go on from our last snapshot."""


@dataclass
class PartitionState(Generic[State]):
    """A partition being worked on; its snapshot's `state` bytes are as old as the last base."""

    checkpoint: Checkpoint
    state: State
    checkpoint_number: int | None = None
    """The newest base's number; None: write one before anything else."""
    bytes_since_checkpoint: int = 0
    """Bytes of the records handled since, and of what followed from them."""

    def count_bytes(self, chunk: Chunk, outbox: Sequence[ProducerRecord]) -> None:
        """So much more would have to be read and handled again after a crash."""
        self.bytes_since_checkpoint += chunk.size + sum(len(message.value) for message in outbox)


class AgentRunner(Generic[State]):
    """Runs one agent over the partitions that this worker is assigned."""

    def __init__(
        self, agent: Agent[State], kafka: KafkaSettings, publisher: Publisher, source: KafkaAccess
    ) -> None:
        self._agent = agent
        self._kafka = kafka
        self._publisher = publisher
        self._source = source
        self._partitions: dict[int, PartitionState[State]] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._rebalances = 0
        """Counts moves of partitions: what was begun before one must not be finished after it."""
        self._effects: dict[tuple[int, str], asyncio.Task[None]] = {}

    async def process(self, chunk: Chunk) -> None:
        """Everything that one chunk leads to. Raises nothing but cancellation."""
        async with self._locks[chunk.partition]:
            try:
                await self._retry(chunk.partition, lambda: self._process_new_records(chunk))
            except PartitionRevoked:
                log.info("partition revoked in mid-chunk", extra={"partition": chunk.partition})
                self.release(chunk.partition)

    async def resume(self, partition: int) -> Mapping[str, int]:
        """Take up a partition, so that its effects go on; returns the next offset of each topic.

        A topic that was never read is left out; so are all, if the partition is somebody else's by now.
        """
        async with self._locks[partition]:
            try:
                live = await self._retry(partition, lambda: self._restored_partition(partition))
                self._update_effects(partition, live)
            except PartitionRevoked:
                self.release(partition)
                return {}
            return {topic: offset + 1 for topic, offset in live.checkpoint.offsets.items()}

    def busy(self, partition: int) -> bool:
        """Whether something is being done on it at this moment."""
        return self._locks[partition].locked()

    def release(self, partition: int) -> None:
        """Drop what is known of a partition that another worker may have."""
        self._partitions.pop(partition, None)
        for key in [key for key in self._effects if key[0] == partition]:
            self._effects.pop(key).cancel()

    def release_all(self) -> None:
        """Drop everything, e.g. when partitions move."""
        self._rebalances += 1
        for partition in {*self._partitions, *(partition for partition, _ in self._effects)}:
            self.release(partition)

    async def _restored_partition(self, partition: int) -> PartitionState[State]:
        """The partition's memory: from Kafka when it is new here, with the last outbox said again."""
        live = self._partitions.get(partition)
        if live is None:
            moves = self._rebalances
            live = await asyncio.to_thread(self._restore, partition)
            await self._publish(partition, live.checkpoint.outbox)
            if moves != self._rebalances:
                raise PartitionRevoked
            self._partitions[partition] = live
        return live

    async def _process_new_records(self, chunk: Chunk) -> None:
        """Apply what is new in the chunk; if that fails, begin again from what is remembered."""
        live = await self._restored_partition(chunk.partition)
        if await self._fetch_skipped_records(live, chunk):
            return
        fresh = live.checkpoint.new_records(chunk)
        if not fresh:
            live.checkpoint.mark_applied(chunk)
            return
        try:
            await self._commit(live, chunk.with_records(fresh))
        except BaseException:
            self.release(chunk.partition)
            raise

    async def _fetch_skipped_records(self, live: PartitionState[State], chunk: Chunk) -> bool:
        """Whether records before the chunk never came; then they are fetched, and the chunk after them."""
        following = live.checkpoint.offsets.get(chunk.topic, -1) + 1
        if chunk.first <= following:
            return False
        where = (chunk.topic, chunk.partition, following)
        if await asyncio.to_thread(self._source.first_offset_from, *where) == chunk.first:
            return False  # there are none: retention was quicker than we
        log.warning("fetching again what was skipped", extra={"where": where, "came": chunk.first})
        await self._source.rewind(*where)
        return True

    async def _commit(self, live: PartitionState[State], chunk: Chunk) -> None:
        follows, whole = await self._decide(live, chunk)
        source = f"{self._agent.name}/{chunk.partition}/{live.checkpoint.incarnation}"
        outbox = [
            with_sequence(message, source, live.checkpoint.sequence + n)
            for n, message in enumerate(follows, 1)
        ]
        entry: Checkpoint | LogEntry = live.checkpoint.log_entry(chunk, outbox)
        live.count_bytes(chunk, outbox)
        if not whole or self._should_checkpoint(live):
            entry = self._checkpoint(live)
        if self._partitions.get(chunk.partition) is not live:
            raise PartitionRevoked
        await self._retry(
            chunk.partition,
            lambda: asyncio.to_thread(self._source.append_to_changelog, chunk.partition, entry),
        )
        await self._publish(chunk.partition, outbox)
        self._update_effects(chunk.partition, live)
        metrics.count_applied(self._agent.name, chunk.topic, len(chunk.records))

    def _should_checkpoint(self, live: PartitionState[State]) -> bool:
        """Whether the whole state is to be written."""
        if (
            live.checkpoint_number is None
            or live.checkpoint.number - live.checkpoint_number >= self._agent.checkpoint_interval
        ):
            return True
        return checkpoints.should_checkpoint(len(live.checkpoint.state), live.bytes_since_checkpoint)

    def _checkpoint(self, live: PartitionState[State]) -> Checkpoint:
        """A base as of now."""
        live.checkpoint.state = self._agent.dump(live.state)
        live.checkpoint.checkpoints += 1
        live.checkpoint_number, live.bytes_since_checkpoint = live.checkpoint.number, 0
        return live.checkpoint

    async def _decide(self, live: PartitionState[State], chunk: Chunk) -> tuple[list[ProducerRecord], bool]:
        """What follows from the chunk, and whether all of it could be handled.

        A record that breaks the handler follows as a dead letter.
        """
        try:
            resolved = await self._resolve(live.state, chunk)
            return self._serialize(self._agent.handle(live.state, resolved)), True
        except Temporary:
            raise
        # Broad, here and in `_retry`: what leaves this loop is lost, so whatever a record does to
        # the handler, the record is parked with the reason and the others go on.
        except Exception as error:  # noqa: BLE001
            log.warning("handled one by one", extra={"topic": chunk.topic, "error": summarize_error(error)})
        if live.checkpoint_number is None or live.checkpoint_number == live.checkpoint.number:
            live.state = self._agent.load(live.checkpoint.state)
        else:
            live.state = (await asyncio.to_thread(self._restore, chunk.partition)).state
        return await self._decide_one_by_one(live, chunk), False

    async def _resolve(self, state: State, chunk: Chunk) -> Chunk:
        """The chunk with what the agent looks up for it."""
        if not isinstance(self._agent, Resolving):
            return chunk
        return replace(chunk, resolved=await self._agent.resolve(state, chunk))

    async def _decide_one_by_one(self, live: PartitionState[State], chunk: Chunk) -> list[ProducerRecord]:
        follows: list[ProducerRecord] = []
        good = self._agent.dump(live.state)
        for record in chunk.records:
            try:
                alone = await self._resolve(live.state, chunk.with_records([record]))
                follows += self._serialize(self._agent.handle(live.state, alone))
                good = self._agent.dump(live.state)
            except Temporary:
                raise
            except Exception as error:
                log.exception("record parked", extra={"topic": chunk.topic, "offset": record.offset})
                live.state = self._agent.load(good)
                follows += self._serialize(
                    [dead_letter(chunk, record, "handler failed", summarize_error(error))]
                )
        return follows

    def _serialize(self, follows: Sequence[routes.Output]) -> list[ProducerRecord]:
        """As bytes; dead letters among them are counted, once all of them can be sent."""
        made = [one for message in follows for one in self._producer_records(message)]
        for message in follows:
            if isinstance(message, DeadLetter):
                metrics.count_dead_letter(self._agent.name, message.reason)
        return made

    def _producer_records(self, message: routes.Output) -> list[ProducerRecord]:
        made = routes.producer_records(message, self._kafka)
        if len(made[0].value) > topics.MAX_MESSAGE_BYTES - OVERHEAD:
            raise ValueError(
                f"a {type(message).__name__} of {len(made[0].value):,} bytes is too large for Kafka"
            )
        return made

    async def _publish(self, partition: int, messages: Sequence[ProducerRecord]) -> None:
        if messages:
            await self._retry(partition, lambda: asyncio.to_thread(self._publisher.deliver, messages))

    async def _retry(self, partition: int, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Try until it works or the partition is somebody else's."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except PartitionRevoked:
                raise
            except Exception as error:  # noqa: BLE001
                metrics.count_retry(self._agent.name)
                log.warning(
                    "trying again", extra={"agent": self._agent.name, "error": summarize_error(error)}
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            if not self._source.owns(partition):
                raise PartitionRevoked

    def _restore(self, partition: int) -> PartitionState[State]:
        """Blocks while it reads the memory, and the records of its steps."""
        memory = self._source.read_changelog(partition)
        if memory is None:
            state = self._agent.initial_state()
            born = Checkpoint(uuid.uuid4().hex[:8], self._agent.dump(state), epoch=self._source.generation())
            return PartitionState(born, state)
        live = PartitionState(
            memory.checkpoint, self._agent.load(memory.checkpoint.state), memory.checkpoint.number
        )
        self._replay(live, partition, memory.entries)
        live.checkpoint.epoch = max(memory.newest_entry.epoch + 1, self._source.generation())
        return live

    def _replay(self, live: PartitionState[State], partition: int, steps: Sequence[LogEntry]) -> None:
        """Handle again what came since the base; what followed from it was said then."""
        arrived = {
            topic: self._source.read_records(
                topic,
                partition,
                min(one.first for one in steps if one.topic == topic),
                max(one.last for one in steps if one.topic == topic),
            )
            for topic in {one.topic for one in steps}
        }
        for step in steps:
            records = [one for one in arrived[step.topic] if step.first <= one.offset <= step.last]
            if not records or records[-1].offset != step.last:
                log.error("records of the memory are gone", extra={"topic": step.topic, "last": step.last})
            fresh = live.checkpoint.new_records(Chunk(step.topic, partition, records))
            if fresh:
                again = Chunk(step.topic, partition, fresh)
                self._replay_chunk(live, again)
                live.count_bytes(again, step.outbox)
            live.checkpoint.offsets[step.topic] = step.last
            live.checkpoint.sequence, live.checkpoint.outbox = step.sequence, step.outbox
            live.checkpoint.number = step.number

    def _replay_chunk(self, live: PartitionState[State], chunk: Chunk) -> None:
        try:
            with metrics.replaying():
                self._agent.handle(live.state, chunk)
        except Temporary:
            raise
        except Exception:  # it could be handled then, so our code changed; to stand still would be worse
            log.exception("a step can't be repeated", extra={"topic": chunk.topic, "last": chunk.last})
        live.checkpoint.mark_applied(chunk)

    def _update_effects(self, partition: int, live: PartitionState[State]) -> None:
        if self._partitions.get(partition) is not live:
            return  # revoked meanwhile
        wanted = self._agent.pending_effects(live.state)
        for key in [key for key in self._effects if key[0] == partition and key[1] not in wanted]:
            self._effects.pop(key).cancel()
        for name, effect in wanted.items():
            if (partition, name) not in self._effects:
                task = asyncio.create_task(self._perform(partition, effect))
                metrics.change_performing(self._agent.name, 1)
                task.add_done_callback(lambda _: metrics.change_performing(self._agent.name, -1))
                self._effects[partition, name] = task

    async def _perform(self, partition: int, effect: object) -> None:
        """Carry out one effect to the end; what follows is published, and comes back as an event."""
        follows = await self._retry(partition, lambda: self._agent.perform(effect))
        await self._publish(
            partition, [one for message in follows for one in self._producer_records(message)]
        )


def dead_letter(
    chunk: Chunk, record: ConsumerRecord, reason: str, detail: str, row: int | None = None
) -> DeadLetter:
    """A dead letter for one record (or one row of it)."""
    where = (chunk.topic, chunk.partition, record.offset, -1 if row is None else row)
    return DeadLetter.of(
        record.value,
        id=ids.derived("dead-letter", *where),
        at=max(record.timestamp, 0),
        reason=reason,
        detail=detail,
        topic=chunk.topic,
        partition=chunk.partition,
        offset=record.offset,
        row=row,
        key=None if record.key is None else record.key.decode(errors="replace"),
    )


def summarize_error(error: BaseException) -> str:
    """The error and where it was raised, in one line."""
    frames: list[Any] = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"

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
from driftloop.streams.processing.checkpoints import Memory, Snapshot, Step, signed
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import Arrived, Chunk, Outgoing

log = logging.getLogger(__name__)
Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
OVERHEAD = 1000
"""Bytes of a message beside its value, at most."""


class Source(Protocol):
    """What the loop reads from. The first four block; what they raise, the loop tries again after."""

    def remembered(self, partition: int) -> Memory | None:
        """The partition's memory as it is in Kafka."""
        ...

    def remember(self, partition: int, entry: Snapshot | Step) -> None:
        """Make an entry durable."""
        ...

    def records(self, topic: str, partition: int, first: int, last: int) -> list[Arrived]:
        """Records that arrived earlier; from the oldest that is kept if `first` is gone."""
        ...

    def oldest_from(self, topic: str, partition: int, offset: int) -> int | None:
        """The first offset at or after `offset` that is kept."""
        ...

    async def rewind(self, topic: str, partition: int, offset: int) -> None:
        """Have the records from `offset` on delivered again."""
        ...

    def owned(self, partition: int) -> bool:
        """Whether this worker is still assigned the partition."""
        ...

    def epoch(self) -> int:
        """Grows with each time that the group hands out partitions."""
        ...


class Revoked(Exception):
    """The partition went to another worker meanwhile; it will go on from our last snapshot."""


@dataclass
class Live(Generic[State]):
    """A partition being worked on; its snapshot's `state` bytes are as old as the last base."""

    snapshot: Snapshot
    state: State
    base: int | None = None
    """The newest base's number; None: write one before anything else."""
    passed: int = 0
    """Bytes of the records handled since, and of what followed from them."""

    def took(self, chunk: Chunk, outbox: Sequence[Outgoing]) -> None:
        """So much more would have to be read and handled again after a crash."""
        self.passed += chunk.size + sum(len(message.value) for message in outbox)


class Loop(Generic[State]):
    """Runs one agent over the partitions that this worker is assigned."""

    def __init__(
        self, agent: Agent[State], kafka: KafkaSettings, publisher: Publisher, source: Source
    ) -> None:
        self._agent = agent
        self._kafka = kafka
        self._publisher = publisher
        self._source = source
        self._live: dict[int, Live[State]] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._moves = 0
        """Counts moves of partitions: what was begun before one must not be finished after it."""
        self._performing: dict[tuple[int, str], asyncio.Task[None]] = {}

    async def consume(self, chunk: Chunk) -> None:
        """Everything that one chunk leads to. Raises nothing but cancellation."""
        async with self._locks[chunk.partition]:
            try:
                await self._persist(chunk.partition, lambda: self._consumed(chunk))
            except Revoked:
                log.info("partition revoked in mid-chunk", extra={"partition": chunk.partition})
                self.forget(chunk.partition)

    async def resume(self, partition: int) -> Mapping[str, int]:
        """Take up a partition, so that its effects go on; returns the next offset of each topic.

        A topic that was never read is left out; so are all, if the partition is somebody else's by now.
        """
        async with self._locks[partition]:
            try:
                live = await self._persist(partition, lambda: self._resumed(partition))
                self._perform_what_is_asked(partition, live)
            except Revoked:
                self.forget(partition)
                return {}
            return {topic: offset + 1 for topic, offset in live.snapshot.offsets.items()}

    def busy(self, partition: int) -> bool:
        """Whether something is being done on it at this moment."""
        return self._locks[partition].locked()

    def forget(self, partition: int) -> None:
        """Drop what is known of a partition that another worker may have."""
        self._live.pop(partition, None)
        for key in [key for key in self._performing if key[0] == partition]:
            self._performing.pop(key).cancel()

    def forget_all(self) -> None:
        """Drop everything, e.g. when partitions move."""
        self._moves += 1
        for partition in {*self._live, *(partition for partition, _ in self._performing)}:
            self.forget(partition)

    async def _resumed(self, partition: int) -> Live[State]:
        """The partition's memory: from Kafka when it is new here, with the last outbox said again."""
        live = self._live.get(partition)
        if live is None:
            moves = self._moves
            live = await asyncio.to_thread(self._remembered, partition)
            await self._publish(partition, live.snapshot.outbox)
            if moves != self._moves:
                raise Revoked
            self._live[partition] = live
        return live

    async def _consumed(self, chunk: Chunk) -> None:
        """Apply what is new in the chunk; if that fails, begin again from what is remembered."""
        live = await self._resumed(chunk.partition)
        if await self._skipped(live, chunk):
            return
        fresh = live.snapshot.unapplied(chunk)
        if not fresh:
            live.snapshot.passed(chunk)
            return
        try:
            await self._apply(live, chunk.only(fresh))
        except BaseException:
            self.forget(chunk.partition)
            raise

    async def _skipped(self, live: Live[State], chunk: Chunk) -> bool:
        """Whether records before the chunk never came; then they are fetched, and the chunk after them."""
        following = live.snapshot.offsets.get(chunk.topic, -1) + 1
        if chunk.first <= following:
            return False
        where = (chunk.topic, chunk.partition, following)
        if await asyncio.to_thread(self._source.oldest_from, *where) == chunk.first:
            return False  # there are none: retention was quicker than we
        log.warning("fetching again what was skipped", extra={"where": where, "came": chunk.first})
        await self._source.rewind(*where)
        return True

    async def _apply(self, live: Live[State], chunk: Chunk) -> None:
        follows, whole = await self._handled(live, chunk)
        source = f"{self._agent.name}/{chunk.partition}/{live.snapshot.birth}"
        outbox = [signed(message, source, live.snapshot.said + n) for n, message in enumerate(follows, 1)]
        entry: Snapshot | Step = live.snapshot.applied(chunk, outbox)
        live.took(chunk, outbox)
        if not whole or self._due(live):
            entry = self._based(live)
        if self._live.get(chunk.partition) is not live:
            raise Revoked
        await self._persist(
            chunk.partition, lambda: asyncio.to_thread(self._source.remember, chunk.partition, entry)
        )
        await self._publish(chunk.partition, outbox)
        self._perform_what_is_asked(chunk.partition, live)
        metrics.applied(self._agent.name, chunk.topic, len(chunk.records))

    def _due(self, live: Live[State]) -> bool:
        """Whether the whole state is to be written."""
        if live.base is None or live.snapshot.number - live.base >= self._agent.steps:
            return True
        return checkpoints.due(len(live.snapshot.state), live.passed)

    def _based(self, live: Live[State]) -> Snapshot:
        """A base as of now."""
        live.snapshot.state = self._agent.dump(live.state)
        live.snapshot.turn += 1
        live.base, live.passed = live.snapshot.number, 0
        return live.snapshot

    async def _handled(self, live: Live[State], chunk: Chunk) -> tuple[list[Outgoing], bool]:
        """What follows from the chunk, and whether all of it could be handled.

        A record that breaks the handler follows as a dead letter.
        """
        try:
            resolved = await self._resolved(live.state, chunk)
            return self._said(self._agent.handle(live.state, resolved)), True
        except Temporary:
            raise
        # Broad, here and in `_persist`: what leaves this loop is lost, so whatever a record does to
        # the handler, the record is parked with the reason and the others go on.
        except Exception as error:  # noqa: BLE001
            log.warning("handled one by one", extra={"topic": chunk.topic, "error": _short(error)})
        if live.base is None or live.base == live.snapshot.number:
            live.state = self._agent.load(live.snapshot.state)
        else:
            live.state = (await asyncio.to_thread(self._remembered, chunk.partition)).state
        return await self._one_by_one(live, chunk), False

    async def _resolved(self, state: State, chunk: Chunk) -> Chunk:
        """The chunk with what the agent looks up for it."""
        if not isinstance(self._agent, Resolving):
            return chunk
        return replace(chunk, resolved=await self._agent.resolve(state, chunk))

    async def _one_by_one(self, live: Live[State], chunk: Chunk) -> list[Outgoing]:
        follows: list[Outgoing] = []
        good = self._agent.dump(live.state)
        for record in chunk.records:
            try:
                alone = await self._resolved(live.state, chunk.only([record]))
                follows += self._said(self._agent.handle(live.state, alone))
                good = self._agent.dump(live.state)
            except Temporary:
                raise
            except Exception as error:
                log.exception("record parked", extra={"topic": chunk.topic, "offset": record.offset})
                live.state = self._agent.load(good)
                follows += self._said([parked(chunk, record, "handler failed", _short(error))])
        return follows

    def _said(self, follows: Sequence[routes.Emitted]) -> list[Outgoing]:
        """As bytes; dead letters among them are counted, once all of them can be sent."""
        made = [one for message in follows for one in self._outgoing(message)]
        for message in follows:
            if isinstance(message, DeadLetter):
                metrics.parked(self._agent.name, message.reason)
        return made

    def _outgoing(self, message: routes.Emitted) -> list[Outgoing]:
        made = routes.copies(message, self._kafka)
        if len(made[0].value) > topics.MAX_MESSAGE_BYTES - OVERHEAD:
            raise ValueError(
                f"a {type(message).__name__} of {len(made[0].value):,} bytes is too large for Kafka"
            )
        return made

    async def _publish(self, partition: int, messages: Sequence[Outgoing]) -> None:
        if messages:
            await self._persist(partition, lambda: asyncio.to_thread(self._publisher.deliver, messages))

    async def _persist(self, partition: int, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Try until it works or the partition is somebody else's."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except Revoked:
                raise
            except Exception as error:  # noqa: BLE001
                metrics.retried(self._agent.name)
                log.warning("trying again", extra={"agent": self._agent.name, "error": _short(error)})
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            if not self._source.owned(partition):
                raise Revoked

    def _remembered(self, partition: int) -> Live[State]:
        """Blocks while it reads the memory, and the records of its steps."""
        memory = self._source.remembered(partition)
        if memory is None:
            state = self._agent.fresh()
            born = Snapshot(uuid.uuid4().hex[:8], self._agent.dump(state), epoch=self._source.epoch())
            return Live(born, state)
        live = Live(memory.base, self._agent.load(memory.base.state), memory.base.number)
        self._replay(live, partition, memory.steps)
        live.snapshot.epoch = max(memory.newest.epoch + 1, self._source.epoch())
        return live

    def _replay(self, live: Live[State], partition: int, steps: Sequence[Step]) -> None:
        """Handle again what came since the base; what followed from it was said then."""
        arrived = {
            topic: self._source.records(
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
            fresh = live.snapshot.unapplied(Chunk(step.topic, partition, records))
            if fresh:
                again = Chunk(step.topic, partition, fresh)
                self._handled_again(live, again)
                live.took(again, step.outbox)
            live.snapshot.offsets[step.topic] = step.last
            live.snapshot.said, live.snapshot.outbox = step.said, step.outbox
            live.snapshot.number = step.number

    def _handled_again(self, live: Live[State], chunk: Chunk) -> None:
        try:
            with metrics.handling_again():
                self._agent.handle(live.state, chunk)
        except Temporary:
            raise
        except Exception:  # it could be handled then, so our code changed; to stand still would be worse
            log.exception("a step can't be repeated", extra={"topic": chunk.topic, "last": chunk.last})
        live.snapshot.passed(chunk)

    def _perform_what_is_asked(self, partition: int, live: Live[State]) -> None:
        if self._live.get(partition) is not live:
            return  # revoked meanwhile
        wanted = self._agent.outstanding(live.state)
        for key in [key for key in self._performing if key[0] == partition and key[1] not in wanted]:
            self._performing.pop(key).cancel()
        for name, effect in wanted.items():
            if (partition, name) not in self._performing:
                task = asyncio.create_task(self._perform(partition, effect))
                metrics.performing(self._agent.name, 1)
                task.add_done_callback(lambda _: metrics.performing(self._agent.name, -1))
                self._performing[partition, name] = task

    async def _perform(self, partition: int, effect: object) -> None:
        """Carry out one effect to the end; what follows is published, and comes back as an event."""
        follows = await self._persist(partition, lambda: self._agent.perform(effect))
        await self._publish(partition, [one for message in follows for one in self._outgoing(message)])


def parked(chunk: Chunk, record: Arrived, reason: str, detail: str, row: int | None = None) -> DeadLetter:
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


def _short(error: BaseException) -> str:
    """The error and where it was raised, in one line."""
    frames: list[Any] = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"

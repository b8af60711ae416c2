"""The one consuming loop. A record whose handling raises out of a Faust stream is lost; none does here.

For each chunk: leave out what the state already knows, handle, save state and outbox as one durable
write, publish the outbox, acknowledge. A crash at any point repeats at most the last step, and the reader
recognises the repetition (see `snapshots`). Effects are level-triggered: after each chunk, and after a
restart, whatever the state asks for is being performed, and nothing else is.
"""

import asyncio
import logging
import traceback
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mlops_core.errors import Temporary
from schemas import ids
from schemas.dead_letters import DeadLetter
from schemas.settings import KafkaSettings
from streams import metrics, routes, topics
from streams.agent import Agent, State
from streams.chunks import Arrived, Chunk
from streams.publisher import Outgoing, Publisher
from streams.snapshots import Snapshot, signed

log = logging.getLogger(__name__)
Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
OVERHEAD = 1000
"""Bytes of a message beside its value, at most."""


class Revoked(Exception):
    """The partition went to another worker meanwhile; it will go on from our last snapshot."""


@dataclass
class Live(Generic[State]):
    """A partition being worked on."""

    snapshot: Snapshot
    state: State
    spoilt: bool = False
    """A handler raised, perhaps in mid-change: the state is taken from the snapshot before the next try."""


class Loop(Generic[State]):
    """Runs one agent over the partitions that this worker is assigned."""

    def __init__(
        self,
        agent: Agent[State],
        kafka: KafkaSettings,
        publisher: Publisher,
        load: Callable[[int], bytes | None],
        save: Callable[[int, bytes], Awaitable[None]],
        owned: Callable[[int], bool],
    ) -> None:
        self._agent = agent
        self._kafka = kafka
        self._publisher = publisher
        self._load = load
        self._save = save
        self._owned = owned
        self._live: dict[int, Live[State]] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._epoch = 0
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

    async def resume(self, partition: int) -> None:
        """Take up a partition on which nothing has arrived yet, so that its effects go on."""
        async with self._locks[partition]:
            try:
                live = await self._persist(partition, lambda: self._resumed(partition))
                self._perform_what_is_asked(partition, live)
            except Revoked:
                self.forget(partition)

    def forget(self, partition: int) -> None:
        """Drop what is known of a partition that another worker may have."""
        self._live.pop(partition, None)
        for key in [key for key in self._performing if key[0] == partition]:
            self._performing.pop(key).cancel()

    def forget_all(self) -> None:
        """Drop everything, e.g. when partitions move."""
        self._epoch += 1
        for partition in {*self._live, *(partition for partition, _ in self._performing)}:
            self.forget(partition)

    async def _resumed(self, partition: int) -> Live[State]:
        """The partition's memory: from the changelog when it is new here, with the last outbox said again."""
        live = self._live.get(partition)
        if live is None:
            epoch = self._epoch
            live = self._remembered(partition)
            await self._publish(partition, live.snapshot.outbox)
            if epoch != self._epoch:
                raise Revoked
            self._live[partition] = live
        return live

    async def _consumed(self, chunk: Chunk) -> None:
        """Apply what is new in the chunk; if that fails, begin again from the last snapshot."""
        live = await self._resumed(chunk.partition)
        fresh = live.snapshot.unapplied(chunk)
        if not fresh:
            return
        try:
            await self._apply(live, chunk.only(fresh))
        except BaseException:
            self.forget(chunk.partition)
            raise

    async def _apply(self, live: Live[State], chunk: Chunk) -> None:
        messages = await self._handled(live, chunk)
        source = f"{self._agent.name}/{chunk.partition}/{live.snapshot.birth}"
        outbox = [signed(message, source, live.snapshot.said + n) for n, message in enumerate(messages, 1)]
        live.snapshot.applied(chunk, self._agent.dump(live.state), outbox)
        packed = live.snapshot.pack()
        if self._live.get(chunk.partition) is not live:
            raise Revoked
        await self._persist(chunk.partition, lambda: self._save(chunk.partition, packed))
        await self._publish(chunk.partition, outbox)
        metrics.applied(self._agent.name, chunk.topic, len(chunk.records))
        self._perform_what_is_asked(chunk.partition, live)

    async def _handled(self, live: Live[State], chunk: Chunk) -> list[Outgoing]:
        """What follows from the chunk; a record that breaks the handler follows as a dead letter."""

        async def handled() -> list[Outgoing]:
            self._restore(live)
            live.spoilt = True
            follows = [self._outgoing(message) for message in self._agent.handle(live.state, chunk)]
            live.spoilt = False
            return follows

        try:
            return await self._persist(chunk.partition, handled, only=Temporary)
        except Revoked:
            raise
        # Broad, here and in `_persist`: what leaves this loop is lost, so whatever a record does to
        # the handler, the record is parked with the reason and the others go on.
        except Exception as error:
            if len(chunk.records) > 1:
                return await self._one_by_one(live, chunk)
            log.exception("record parked", extra={"topic": chunk.topic, "offset": chunk.last})
            self._restore(live)
            return [self._outgoing(parked(chunk, chunk.records[0], "handler failed", _short(error)))]

    def _restore(self, live: Live[State]) -> None:
        if live.spoilt:
            live.state = self._agent.load(live.snapshot.state)
            live.spoilt = False

    def _outgoing(self, message: routes.Emitted) -> Outgoing:
        made = routes.outgoing(message, self._kafka)
        if len(made.value) > topics.MAX_MESSAGE_BYTES - OVERHEAD:
            raise ValueError(
                f"a {type(message).__name__} of {len(made.value):,} bytes is too large for Kafka"
            )
        return made

    async def _one_by_one(self, live: Live[State], chunk: Chunk) -> list[Outgoing]:
        emitted: list[Outgoing] = []
        before = live.snapshot.state
        try:
            for record in chunk.records:
                emitted += await self._handled(live, chunk.only([record]))
                live.snapshot.state = self._agent.dump(live.state)
        finally:
            live.snapshot.state = before
        return emitted

    async def _publish(self, partition: int, messages: list[Outgoing]) -> None:
        if messages:
            await self._persist(partition, lambda: asyncio.to_thread(self._publisher.deliver, messages))

    async def _persist(
        self,
        partition: int,
        attempt: Callable[[], Awaitable[Result]],
        only: type[Exception] = Exception,
    ) -> Result:
        """Try until it works or the partition is somebody else's; errors other than `only` come through."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except Revoked:
                raise
            except only as error:
                metrics.retried(self._agent.name)
                log.warning("trying again", extra={"agent": self._agent.name, "error": _short(error)})
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            if not self._owned(partition):
                raise Revoked

    def _remembered(self, partition: int) -> Live[State]:
        packed = self._load(partition)
        if packed is not None:
            snapshot = Snapshot.unpack(packed)
            return Live(snapshot, self._agent.load(snapshot.state))
        state = self._agent.fresh()
        return Live(Snapshot(birth=uuid.uuid4().hex[:8], state=self._agent.dump(state)), state)

    def _perform_what_is_asked(self, partition: int, live: Live[State]) -> None:
        if self._live.get(partition) is not live:
            return  # revoked meanwhile
        wanted = self._agent.outstanding(live.state)
        for key in [key for key in self._performing if key[0] == partition and key[1] not in wanted]:
            self._performing.pop(key).cancel()
        for name, effect in wanted.items():
            if (partition, name) not in self._performing:
                self._performing[partition, name] = asyncio.create_task(self._perform(partition, effect))

    async def _perform(self, partition: int, effect: object) -> None:
        """Carry out one effect to the end; what follows is published, and comes back as an event."""
        follows = await self._persist(partition, lambda: self._agent.perform(effect))
        await self._publish(partition, [self._outgoing(message) for message in follows])


def parked(chunk: Chunk, record: Arrived, reason: str, detail: str, row: int | None = None) -> DeadLetter:
    """A dead letter for one record (or one row of it)."""
    metrics.parked(reason)
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

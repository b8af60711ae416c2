"""A Faust app around one agent: its consumer group, its memory in Kafka, and the loop between them."""

import asyncio
import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic

import faust
from faust.types import TP

from driftloop.mlops_core.errors import Conflict, Unavailable
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import topic_reader, topics
from driftloop.streams.processing import faust_transport, lag
from driftloop.streams.processing.agent import Agent, State
from driftloop.streams.processing.changelog import Changelog
from driftloop.streams.processing.checkpoints import Checkpoint, LogEntry, RecoveryPoint
from driftloop.streams.processing.runner import AgentRunner
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import ConsumerRecord

log = logging.getLogger(__name__)

RESUME_SECONDS = 1.0
"""How often quiet partitions are looked after."""
STUCK_SECONDS = 15.0
"""Without progress, though there are records, for longer than a slow chunk takes."""
METADATA_MS = 10_000
"""How soon a topic that has grown is noticed: from its first moment on, ids miss each other."""
CONCURRENCY = 4
"""Chunks in work at once; those of one partition keep their order."""


def build_app(agent: Agent[State], kafka: KafkaSettings, publisher: PublisherSettings) -> faust.App:
    """The app that runs `agent`. Several apps may run in one process (`run_all`)."""
    worker = Worker(agent, kafka, publisher)
    worker.create()
    return worker.app


class Worker(Generic[State]):
    """Wires an agent's loop to Faust: chunks in, positions out, signals when partitions move."""

    def __init__(self, agent: Agent[State], kafka: KafkaSettings, publisher: PublisherSettings) -> None:
        self._agent = agent
        self._kafka = kafka
        self._names = {topics.name_of(topic, kafka): topic.name for topic in agent.topics}
        self.app = _faust(kafka, f"{kafka.prefix}driftloop-{agent.name}")
        faust_transport.install(self.app, self._names, kafka.chunk_records, self._positions)
        self._publisher = Publisher(kafka, publisher.unspooled())  # the loop waits for each anyway
        self._count = agent.topics[0].partitions(kafka)
        self._changelog = Changelog(agent.name, kafka, self._publisher, self._count)
        self._loop = AgentRunner(agent, kafka, self._publisher, self)
        self._watch = lag.LagMonitor(
            agent.name, kafka, self._publisher, self._names, self._count, lambda: self.app.consumer
        )
        self._settled = False
        """False while partitions move: their former owner may still be writing."""
        self._stuck: dict[lag.PartitionId, tuple[int, float]] = {}
        """Offset that is waited for, and since when."""
        self._attach()

    def create(self) -> None:
        """Create the topic of its memories. Raises Unavailable."""
        self._changelog.create()

    def read_changelog(self, partition: int) -> RecoveryPoint | None:
        """The partition's memory as it is in Kafka."""
        return self._changelog.read(partition)

    def append_to_changelog(self, partition: int, entry: Checkpoint | LogEntry) -> None:
        """Make an entry durable."""
        self._changelog.write(partition, entry)

    def read_records(self, topic: str, partition: int, first: int, last: int) -> list[ConsumerRecord]:
        """Records that arrived earlier."""
        return list(
            topic_reader.read_records(self._kafka, self._kafka.prefix + topic, partition, first, last)
        )

    def first_offset_from(self, topic: str, partition: int, offset: int) -> int | None:
        """The first offset at or after `offset` that is kept."""
        return topic_reader.first_offset_from(self._kafka, self._kafka.prefix + topic, partition, offset)

    async def rewind(self, topic: str, partition: int, offset: int) -> None:
        """Have the records from `offset` on delivered again."""
        await self.app.consumer.rewind(TP(self._kafka.prefix + topic, partition), offset)

    def owns(self, partition: int) -> bool:
        """Whether this worker is still assigned the partition."""
        return partition in self._partitions()

    def generation(self) -> int:
        """The group's generation."""
        generation: int = self.app.consumer_generation_id
        return generation

    def _attach(self) -> None:
        source = self.app.topic(*self._names, schema=faust_transport.ChunkSchema())

        async def consume(stream: Any) -> None:
            async for chunk in stream:
                with self._watch.in_progress(chunk):
                    await self._loop.process(chunk)

        # several at once, so that one partition's waiting for Kafka is another one's time
        self.app.agent(source, name=self._agent.name, concurrency=CONCURRENCY)(consume)
        self.app.timer(RESUME_SECONDS, name=f"{self._agent.name}-resume")(self._look_after)
        self.app.timer(lag.LOOK_SECONDS, name=f"{self._agent.name}-lag")(self._watch.measure)
        self.app.on_partitions_revoked.connect(self._moving, weak=False)

    async def _positions(self) -> Mapping[TP, int]:
        """Take up what was handed out; the next offset of each topic and partition that was read before.

        Raises:
            Conflict: a topic has grown.
        """
        self._loop.release_all()
        partitions = sorted(self._partitions())
        if partitions and partitions[-1] >= self._count:
            raise Conflict(
                f"{self._agent.name} was given partition {partitions[-1]}, but the settings say "
                f"{self._count} partitions: ids would miss each other; docs/decisions/0011 says how to grow"
            )
        try:
            taken = await asyncio.gather(*(self._loop.resume(partition) for partition in partitions))
        finally:
            self._settled = True
        positions = {
            TP(self._kafka.prefix + topic, partition): offset
            for partition, offsets in zip(partitions, taken, strict=True)
            for topic, offset in offsets.items()
        }
        self._watch.assign(positions)
        return positions

    async def _look_after(self) -> None:
        """Effects of quiet partitions go on, and records that got lost on the way are fetched again."""
        for partition in self._partitions() if self._settled else ():
            if not self._loop.busy(partition):
                offsets = await self._loop.resume(partition)
                await self._unstick(partition, offsets)

    async def _unstick(self, partition: int, offsets: Mapping[str, int]) -> None:
        """Go back where nothing has moved for a while though there is more."""
        ends = self._watch.end_offsets()
        for topic in self._names.values():
            place, following = (topic, partition), offsets.get(topic, 0)
            waiting, since = self._stuck.get(place, (-1, 0.0))
            if waiting != following:
                self._stuck[place] = (following, time.monotonic())
            elif time.monotonic() - since > STUCK_SECONDS and (ends.get(place) or 0) > following:
                self._stuck[place] = (following, time.monotonic())
                await self._read_again(topic, partition, following)

    async def _read_again(self, topic: str, partition: int, offset: int) -> None:
        try:
            there = await asyncio.to_thread(self.first_offset_from, topic, partition, offset)
        except Unavailable:
            return  # then nothing was lost on the way
        if there is not None:  # else it has expired
            where = {"topic": topic, "partition": partition, "offset": there}
            log.warning("reading again what got lost", extra=where)
            await self.rewind(topic, partition, there)

    async def _moving(self, *_: Any, **__: Any) -> None:
        self._settled = False
        self._loop.release_all()

    def _partitions(self) -> set[int]:
        return {tp.partition for tp in self.app.consumer.assignment() if tp.topic in self._names}


class AgentDied(RuntimeError):
    """An agent can't go on in this process; says which and why."""


async def run_all(apps: list[faust.App]) -> None:
    """Run the apps in this process until cancelled.

    Raises:
        AgentDied: one of them crashed; whoever supervises the process starts it anew.
    """
    try:
        await asyncio.gather(*(app.start() for app in apps))
        while True:
            for app in apps:
                if app.crashed:
                    raise AgentDied(f"{app.conf.id}: {app.crash_reason!r}") from app.crash_reason
            await asyncio.sleep(RESUME_SECONDS)
    finally:
        await asyncio.gather(*(app.stop() for app in apps))


def _faust(kafka: KafkaSettings, name: str) -> faust.App:
    return faust.App(
        name,
        broker=[f"kafka://{server}" for server in kafka.bootstrap.split(",")],
        # state lives in Kafka; Faust asks for a folder all the same
        datadir=str(Path(tempfile.gettempdir()) / "driftloop-faust"),
        web_enabled=False,
        topic_disable_leader=True,
        topic_replication_factor=kafka.replication,
        broker_session_timeout=kafka.session_timeout,
        broker_heartbeat_interval=kafka.session_timeout / 3,
        broker_commit_interval=1.0,
        broker_max_poll_interval=600.0,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MS,
        consumer_max_fetch_size=topics.MAX_MESSAGE_BYTES,
        producer_max_request_size=topics.MAX_MESSAGE_BYTES,
        producer_linger_ms=0,
        stream_wait_empty=False,
    )

"""A Faust app for one agent: its consumer group, its changelog, and the runner between them."""

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
from driftloop.schemas import topics
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import topic_reader
from driftloop.streams.processing import faust_transport, lag
from driftloop.streams.processing.agent import Agent, State
from driftloop.streams.processing.changelog import Changelog
from driftloop.streams.processing.checkpoints import Checkpoint, LogEntry, RecoveryPoint
from driftloop.streams.processing.runner import AgentRunner
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import ConsumerRecord

log = logging.getLogger(__name__)

RESUME_SECONDS = 1.0
"""Between two checks of the partitions that have no chunk in work."""
STUCK_SECONDS = 15.0
"""Without progress though there are records; longer than a slow chunk takes."""
METADATA_MS = 10_000
"""Until a worker notices that a topic has more partitions; rows and labels of one id then no longer meet."""
CONCURRENCY = 4
"""Chunks in work at once; those of one partition keep their order."""


def build_app(agent: Agent[State], kafka: KafkaSettings, publisher: PublisherSettings) -> faust.App:
    """The app that runs `agent`. Several apps can run in one process (`run_all`)."""
    worker = Worker(agent, kafka, publisher)
    worker.create()
    return worker.app


class Worker(Generic[State]):
    """Connects a runner to Faust: it receives chunks and rebalances, and is the runner's `KafkaAccess`."""

    def __init__(self, agent: Agent[State], kafka: KafkaSettings, publisher: PublisherSettings) -> None:
        self._agent = agent
        self._kafka = kafka
        self._names = {topics.name_of(topic, kafka): topic.name for topic in agent.topics}
        self.app = _faust_app(kafka, f"{kafka.prefix}driftloop-{agent.name}")
        faust_transport.install(self.app, self._names, kafka.chunk_records, self._positions)
        self._publisher = Publisher(
            kafka, publisher.without_spool()
        )  # the runner waits for each acknowledgement
        self._count = agent.topics[0].partitions(kafka)
        self._changelog = Changelog(agent.name, kafka, self._publisher, self._count)
        self._runner = AgentRunner(agent, kafka, self._publisher, self)
        self._lag = lag.LagMonitor(
            agent.name, kafka, self._publisher, list(self._names.values()), self._count, self._end_offsets
        )
        self._assigned = False
        """False during a rebalance: the former owner of a partition may still write."""
        self._expected: dict[lag.PartitionId, tuple[int, float]] = {}
        """The next offset of each partition, and since when (monotonic seconds)."""
        self._attach()

    def create(self) -> None:
        """Create the changelog topic. Raises Unavailable."""
        self._changelog.create()

    def read_changelog(self, partition: int) -> RecoveryPoint | None:
        """The newest checkpoint and the log entries after it."""
        return self._changelog.read(partition)

    def append_to_changelog(self, partition: int, entry: Checkpoint | LogEntry) -> None:
        """Write an entry; returns once all replicas have it."""
        self._changelog.write(partition, entry)

    def read_records(self, topic: str, partition: int, first: int, last: int) -> list[ConsumerRecord]:
        """Source records of these offsets."""
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
                with self._lag.in_progress(chunk):
                    await self._runner.process(chunk)

        # several at once: while one partition waits for Kafka, another is handled
        self.app.agent(source, name=self._agent.name, concurrency=CONCURRENCY)(consume)
        self.app.timer(RESUME_SECONDS, name=f"{self._agent.name}-resume")(self._resume_idle)
        self.app.timer(lag.MEASURE_SECONDS, name=f"{self._agent.name}-lag")(self._lag.measure)
        self.app.on_partitions_revoked.connect(self._on_revoked, weak=False)

    async def _positions(self) -> Mapping[TP, int]:
        """Restore the assigned partitions; returns the next offset of each that was read before.

        Raises:
            Conflict: a topic has more partitions than the settings say.
        """
        self._runner.release_all()
        partitions = sorted(self._partitions())
        if partitions and partitions[-1] >= self._count:
            raise Conflict(
                f"agent {self._agent.name} was assigned partition {partitions[-1]}, but the settings say "
                f"{self._count} partitions: rows and labels of one id would be in different partitions; "
                "docs/decisions/0011 says how to add partitions"
            )
        try:
            offsets_of = await asyncio.gather(*(self._runner.resume(partition) for partition in partitions))
        finally:
            self._assigned = True
        positions = {
            TP(self._kafka.prefix + topic, partition): offset
            for partition, offsets in zip(partitions, offsets_of, strict=True)
            for topic, offset in offsets.items()
        }
        self._lag.assign({(self._names[tp.topic], tp.partition): offset for tp, offset in positions.items()})
        return positions

    async def _resume_idle(self) -> None:
        """Restart effects of partitions without a chunk in work, and fetch lost records again."""
        for partition in self._partitions() if self._assigned else ():
            if not self._runner.busy(partition):
                offsets = await self._runner.resume(partition)
                await self._rewind_if_stuck(partition, offsets)

    async def _rewind_if_stuck(self, partition: int, offsets: Mapping[str, int]) -> None:
        """Rewind where the offset has not moved for `STUCK_SECONDS` though there are records."""
        ends = self._end_offsets()
        for topic in self._names.values():
            key, offset = (topic, partition), offsets.get(topic, 0)
            before, since = self._expected.get(key, (-1, 0.0))
            if before != offset:
                self._expected[key] = (offset, time.monotonic())
            elif time.monotonic() - since > STUCK_SECONDS and (ends.get(key) or 0) > offset:
                self._expected[key] = (offset, time.monotonic())
                await self._rewind_to_kept(topic, partition, offset)

    async def _rewind_to_kept(self, topic: str, partition: int, offset: int) -> None:
        try:
            first = await asyncio.to_thread(self.first_offset_from, topic, partition, offset)
        except Unavailable:
            return  # Kafka is away, so no record was lost
        if first is not None:  # else the records have expired
            where = {"agent": self._agent.name, "topic": topic, "partition": partition, "offset": first}
            log.warning("records did not arrive; they are fetched again", extra=where)
            await self.rewind(topic, partition, first)

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        self._assigned = False
        self._runner.release_all()

    def _partitions(self) -> set[int]:
        return {tp.partition for tp in self._assignment()}

    def _end_offsets(self) -> dict[lag.PartitionId, int | None]:
        return {
            (self._names[tp.topic], tp.partition): faust_transport.end_offset(self.app, tp)
            for tp in self._assignment()
        }

    def _assignment(self) -> list[TP]:
        return [tp for tp in self.app.consumer.assignment() if tp.topic in self._names]


class AgentDied(RuntimeError):
    """An agent crashed and can't go on in this process; the message says which and why."""


async def run_all(apps: list[faust.App]) -> None:
    """Run the apps in this process until cancelled.

    Raises:
        AgentDied: one of them crashed; the supervisor of the process restarts it.
    """
    try:
        await asyncio.gather(*(app.start() for app in apps))
        while True:
            for app in apps:
                if app.crashed:
                    raise AgentDied(
                        f"agent {app.conf.id} crashed: {app.crash_reason!r}"
                    ) from app.crash_reason
            await asyncio.sleep(RESUME_SECONDS)
    finally:
        await asyncio.gather(*(app.stop() for app in apps))


def _faust_app(kafka: KafkaSettings, name: str) -> faust.App:
    return faust.App(
        name,
        broker=[f"kafka://{server}" for server in kafka.bootstrap.split(",")],
        # Faust wants a folder, though all state is in Kafka
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

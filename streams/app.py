"""A Faust app around one agent: its consumer group, its changelog, and the loop between them."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Generic

import faust

from schemas.settings import KafkaSettings, PublisherSettings
from streams import chunks, topics
from streams.agent import Agent, State
from streams.consume import Loop
from streams.publisher import Outgoing, Publisher

RESUME_SECONDS = 1.0
"""How often effects of quiet partitions are looked after (after a restart nothing else would)."""


def build_app(agent: Agent[State], kafka: KafkaSettings, publisher: PublisherSettings) -> faust.App:
    """The app that runs `agent`. Several apps may run in one process (`run_all`)."""
    return Worker(agent, kafka, publisher).app


class Worker(Generic[State]):
    """Wires an agent's loop to Faust: streams in, a table for snapshots, signals when partitions move."""

    def __init__(self, agent: Agent[State], kafka: KafkaSettings, publisher: PublisherSettings) -> None:
        self._agent = agent
        self._kafka = kafka
        self._names = {topics.name_of(topic, kafka): topic.name for topic in agent.topics}
        self.app = _faust(kafka, f"{kafka.prefix}driftloop-{agent.name}")
        chunks.install(self.app, self._names, kafka.chunk_records)
        self._table = self.app.Table(
            f"{agent.name}-state",
            partitions=agent.topics[0].partitions(kafka),
            key_type=bytes,  # raw in the changelog; any other type comes back from recovery as another one
            value_type=bytes,
            extra_topic_configs={"max.message.bytes": str(topics.MAX_MESSAGE_BYTES)},
        )
        self._publisher = Publisher(kafka, publisher.unspooled())  # the loop waits for each anyway
        self._loop = Loop(agent, kafka, self._publisher, self._load, self._save, self._owned)
        self._settled = False
        """False while partitions move and the table is being read: what it says then is old."""
        self._attach()

    def _attach(self) -> None:
        source = self.app.topic(*self._names, schema=chunks.ChunkSchema())

        async def consume(stream: Any) -> None:
            async for chunk in stream:
                await self._loop.consume(chunk)

        self.app.agent(source, name=self._agent.name)(consume)
        self.app.timer(RESUME_SECONDS, name=f"{self._agent.name}-resume")(self._resume)
        self.app.on_partitions_revoked.connect(self._moving, weak=False)
        self.app.on_partitions_assigned.connect(self._moving, weak=False)
        self.app.on_rebalance_complete.connect(self._recovered, weak=False)

    async def _resume(self) -> None:
        """Load the memory of partitions on which nothing has arrived yet, so that their effects go on."""
        if not self._settled:
            return
        for tp in list(self.app.consumer.assignment()):
            if tp.topic in self._names:
                await self._loop.resume(tp.partition)

    async def _moving(self, *_: Any, **__: Any) -> None:
        self._settled = False
        self._loop.forget_all()

    async def _recovered(self, *_: Any, **__: Any) -> None:
        """Partitions are where they belong, and the table has their newest snapshots."""
        self._loop.forget_all()
        self._settled = True

    def _load(self, partition: int) -> bytes | None:
        packed: bytes | None = self._table.get(b"%d" % partition)
        return packed

    async def _save(self, partition: int, packed: bytes) -> None:
        """Written by our own publisher: Faust's flush returns though a write failed, and says nothing."""
        changelog = self._table.changelog_topic.get_topic_name()
        write = Outgoing(changelog, str(partition), packed, partition=partition)
        await asyncio.to_thread(self._publisher.deliver, [write])
        self._table.data[b"%d" % partition] = packed

    def _owned(self, partition: int) -> bool:
        return any(
            tp.partition == partition for tp in self.app.consumer.assignment() if tp.topic in self._names
        )


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
        store="memory://",
        datadir=str(
            Path(tempfile.gettempdir()) / "driftloop-faust"
        ),  # state lives in Kafka; Faust asks for a folder all the same
        web_enabled=False,
        topic_disable_leader=True,
        topic_replication_factor=kafka.replication,
        table_standby_replicas=0,
        broker_session_timeout=kafka.session_timeout,
        broker_heartbeat_interval=kafka.session_timeout / 3,
        broker_commit_interval=1.0,
        broker_max_poll_interval=600.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=topics.MAX_MESSAGE_BYTES,
        producer_max_request_size=topics.MAX_MESSAGE_BYTES,
        producer_linger_ms=0,
        stream_wait_empty=False,
    )

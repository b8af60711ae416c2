"""Who is late gets larger chunks, not more of them, and nobody waits long for a partition without records."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from itertools import count

import faust
import numpy as np
import pytest
from faust.types import TP

from driftloop.infra.brokers import Broker
from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas import topics
from driftloop.schemas.messages import Output
from driftloop.schemas.records import Label
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import admin
from driftloop.streams.backlog import BacklogMonitor
from driftloop.streams.processing.agent import WithoutEffects
from driftloop.streams.processing.app import build_app, run_all
from driftloop.streams.processing.faust_transport import AHEAD, FETCH_BYTES, FETCH_WAIT_MS
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import Chunk, ProducerRecord
from driftloop.streams.wire import codec
from driftloop.streams.wire.batches import partition_of


class Held(WithoutEffects):
    """Can't go on until it is let go; remembers how many records each chunk had."""

    name = "held"
    topics = (topics.LABELS,)
    tried = free = False

    def __init__(self) -> None:
        self.chunks: list[int] = []

    def initial_state(self) -> None:
        pass

    def dump(self, state: None) -> bytes:
        return b""

    def load(self, data: bytes) -> None:
        pass

    def handle(self, state: None, chunk: Chunk) -> list[Output]:
        self.tried = True
        if not self.free:
            raise Unavailable("held")
        self.chunks.append(len(chunk.records))
        return []


@pytest.fixture
def kafka(kafka_broker: Broker) -> KafkaSettings:
    settings = KafkaSettings(bootstrap=kafka_broker.bootstrap, prefix=f"t{uuid.uuid4().hex[:8]}-")
    admin.create_topics(settings)
    return settings


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
async def app(held: Held, kafka: KafkaSettings) -> AsyncIterator[faust.App]:
    """Runs the agent during the test."""
    app = build_app(held, kafka, PublisherSettings())
    running = asyncio.create_task(run_all([app]))
    yield app
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    while not true():
        assert asyncio.get_running_loop().time() < deadline, "did not become true in time"
        await asyncio.sleep(0.02)


def label(kafka: KafkaSettings, number: int) -> ProducerRecord:
    """With an id whose partition is 0, where it is put."""
    names = (f"id-{number}-{n}" for n in count())
    id_ = next(name for name in names if partition_of(name, kafka.data_partitions) == 0)
    value = codec.encode(Label(model="m", id=id_, at=number, label=1.0))
    return ProducerRecord(topics.name_of(topics.LABELS, kafka), id_, value, {}, 0)


async def test_what_comes_while_an_agent_is_busy_comes_as_a_few_large_chunks(
    kafka: KafkaSettings, held: Held, app: faust.App, rng: np.random.Generator
) -> None:
    records = int(rng.integers(150, 300))
    with Publisher(kafka) as publisher:
        for number in range(
            records
        ):  # each acknowledged before the next, so that each could be fetched alone
            await asyncio.to_thread(publisher.deliver, [label(kafka, number)])
            if number == 0:
                await until(lambda: held.tried)
    held.free = True
    await until(lambda: sum(held.chunks) >= records)
    assert sum(held.chunks) == records
    # one that was in work, one that waited, and what one fetch or two brought of the rest
    assert len(held.chunks) <= AHEAD + 2, f"{records} records in chunks of {held.chunks}"


async def test_a_fetch_of_nothing_is_short_whatever_faust_says(
    kafka: KafkaSettings, held: Held, app: faust.App
) -> None:
    with Publisher(kafka) as publisher:
        await asyncio.to_thread(publisher.deliver, [label(kafka, 0)])
    await until(lambda: held.tried)
    fetcher = app.consumer._thread._consumer._fetcher
    assert (fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes) == (FETCH_WAIT_MS, FETCH_BYTES)


async def test_a_partition_that_is_read_again_is_committed_and_read_on(
    kafka: KafkaSettings, held: Held, app: faust.App
) -> None:
    held.free = True
    app.consumer.scheduler.size = 1  # each record is a chunk
    place = (topics.name_of(topics.LABELS, kafka), 0)
    backlogs = BacklogMonitor(kafka, [held.name])

    async def committed(records: int) -> None:
        await until(lambda: backlogs.offsets()[0].get(held.name, {}).get(place) == records)

    with Publisher(kafka) as publisher:
        for number in range(10):
            await asyncio.to_thread(publisher.deliver, [label(kafka, number)])
        await committed(10)
        for again in (0, 3, 5):  # more often than chunks may wait
            await app.consumer.rewind(TP(*place), again)
        for number in range(10, 15):
            await asyncio.to_thread(publisher.deliver, [label(kafka, number)])
    await committed(15)
    backlogs.close()
    assert sum(held.chunks) == 15

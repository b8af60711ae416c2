"""What is counted is counted once, and cheaply; what is logged of connections is not said in vain."""

import asyncio
import logging
import uuid

import numpy as np
import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram

from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.agents.joining import JoiningAgent
from driftloop.mlops_core.data.label_join import LabelJoin
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.messages import Output
from driftloop.schemas.records import LabelBatch, PredictionBatch
from driftloop.schemas.settings import PerformanceSettings
from driftloop.streams.clients import QUIET_SECONDS, RateLimit
from driftloop.streams.metrics import ColumnHistogram
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from driftloop.streams.wire.batches import partition_of
from tests.unit.agents.agents_test import NOBODY
from tests.unit.streams.consume_test import KAFKA, Cluster, worker

BOUNDS = (1, 10, 60.5)


def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (one.name, one.labels.get("le", "")): one.value
        for family in registry.collect()
        for one in family.samples
        if not one.name.endswith("_created")
    }


def test_a_column_is_counted_as_prometheus_own_histogram_counts_its_values(seed: int) -> None:
    generator, ours, theirs = np.random.default_rng(seed), CollectorRegistry(), CollectorRegistry()
    own = ColumnHistogram("delay", "How late", BOUNDS)
    ours.register(own)
    other = PrometheusHistogram("delay", "How late", ["model"], buckets=BOUNDS, registry=theirs)
    for _ in range(5):
        values = np.append(generator.exponential(20, 100).round(1), BOUNDS)
        own.observe("m", values)
        for value in values.tolist():
            other.labels("m").observe(value)
    assert samples(ours) == pytest.approx(samples(theirs))


class Remembering(JoiningAgent):
    """Tells of which topics it was given chunks."""

    def __init__(self, settings: PerformanceSettings) -> None:
        super().__init__(NOBODY, settings)
        self.handled: list[str] = []

    def handle(self, state: LabelJoin, chunk: Chunk) -> list[Output]:
        self.handled.append(chunk.topic)
        return super().handle(state, chunk)


def test_what_is_handled_again_after_a_crash_is_not_counted_again() -> None:
    model, at = f"m-{uuid.uuid4().hex[:8]}", [1, 2]
    ids = [name for name in map(str, range(50)) if partition_of(name, KAFKA.data_partitions) == 0][:2]
    batch = PredictionBatch(
        model=model, version="1", ids=ids, at=at, scores=[0.5, 0.5], features={"x": [1, 2]}
    )
    labels = LabelBatch(model=model, ids=ids, at=[7, 8], labels=[1.0, 0.0])
    chunks = [
        Chunk(
            topic,
            0,
            [ConsumerRecord(0, 0, None, codec.encode(one), {}), ConsumerRecord(1, 0, None, b"no JSON", {})],
        )
        for topic, one in (("predictions", batch), ("labels", labels))
    ]
    cluster = Cluster()

    def counted() -> list[float | None]:
        joined = {"model": model, "what": "joined"}
        return [
            REGISTRY.get_sample_value("driftloop_label_join_rows_total", joined),
            REGISTRY.get_sample_value("driftloop_label_delay_seconds_count", {"model": model}),
            REGISTRY.get_sample_value(
                "driftloop_dead_letters_total", {"agent": "joining", "reason": "malformed"}
            ),
        ]

    async def handle() -> None:
        loop = worker(cluster, JoiningAgent(NOBODY, PerformanceSettings()))  # type: ignore[arg-type]  # another state
        for chunk in chunks:
            await loop.process(chunk)

    async def restart() -> None:
        agent = Remembering(PerformanceSettings())
        await worker(cluster, agent).resume(0)  # type: ignore[arg-type]  # another state
        assert agent.handled == ["labels"]

    asyncio.run(handle())
    before = counted()
    cluster.arrived = list(chunks[1].records)
    asyncio.run(restart())
    assert before[:2] == [2.0, 2.0]
    assert counted() == before


def said(lines: list[tuple[float, str, str]]) -> list[str]:
    """What passes of librdkafka's lines: (second, kind, what)."""
    passed, seldom = [], RateLimit()
    for second, kind, what in lines:
        arguments = (kind, "rdkafka#producer-1", what)
        record = logging.LogRecord("kafka", logging.ERROR, "", 0, "%s [%s] %s", arguments, None)
        record.created = second
        if seldom.filter(record):
            passed.append(record.getMessage())
    return passed


def test_a_broker_that_is_away_is_news_once_in_ten_seconds() -> None:
    away = "[thrd:127.0.0.1:9092/1]: Connection refused"
    lines = [(second / 20, "FAIL", away) for second in range(int(2.5 * QUIET_SECONDS * 20))]
    first, second, third = said(lines)
    assert first == f"FAIL [rdkafka#producer-1] {away}"
    assert second == third == f"FAIL [rdkafka#producer-1] {away} (and 199 more like it)"


def test_another_broker_and_another_kind_of_trouble_are_news_at_once() -> None:
    lines = [
        (0.0, "FAIL", "[thrd:127.0.0.1:9092/1]: Connection refused"),
        (0.1, "FAIL", "[thrd:127.0.0.1:9093/2]: Connection refused"),
        (0.2, "REQTMOUT", "[thrd:127.0.0.1:9092/1]: Timed out"),
    ]
    assert len(said(lines)) == 3


def test_a_line_that_is_not_librdkafkas_passes() -> None:
    record = logging.LogRecord("kafka", logging.INFO, "", 0, "a plain sentence", None, None)
    seldom = RateLimit()
    assert all(seldom.filter(record) for _ in range(3))


def test_a_record_that_two_agents_park_is_one_letter_and_counted_by_each() -> None:
    def counted(agent: str) -> float:
        named = {"agent": agent, "reason": "malformed"}
        return REGISTRY.get_sample_value("driftloop_dead_letters_total", named) or 0.0

    broken = Chunk("predictions", 0, [ConsumerRecord(0, 0, None, b"no JSON", {})])
    letters: list[bytes] = []
    for agent in (JoiningAgent(NOBODY, PerformanceSettings()), DriftAggregationAgent(NOBODY)):
        cluster, before = Cluster(), counted(agent.name)
        asyncio.run(worker(cluster, agent).process(broken))  # type: ignore[arg-type]  # another state
        assert counted(agent.name) == before + 1
        letters += [one.value for one in cluster.published]
    one, other = map(DeadLetter.model_validate_json, letters)
    assert one.id == other.id

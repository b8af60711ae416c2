"""Rows that another client's partitioner misplaced are sent to the partition of their ids, once."""

import asyncio
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.agents.joining import JoiningAgent
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.schemas import topics
from driftloop.schemas.records import Label, LabelBatch, Prediction
from driftloop.schemas.settings import KafkaSettings, PerformanceSettings
from driftloop.schemas.summaries import Outcomes
from driftloop.streams.processing.placement import Placement
from driftloop.streams.processing.runner import AgentRunner
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from driftloop.streams.wire.batches import partition_of
from tests.unit.streams.consume_test import Cluster

KAFKA = KafkaSettings(data_partitions=4)
IDS = [f"id-{n}" for n in range(40)]


@pytest.fixture
def joining(tmp_path: Path) -> JoiningAgent:
    return JoiningAgent(FolderReader(tmp_path), PerformanceSettings())


def label(id_: str) -> Label:
    return Label(model="m", id=id_, at=2, label=1)


def chunk(*messages: Label | LabelBatch | Prediction, keyed: bool, partition: int = 0) -> Chunk:
    topic = messages[0].kafka_topic.name
    records = []
    for offset, message in enumerate(messages):
        id_ = message.ids[0] if isinstance(message, LabelBatch) else message.id
        records.append(ConsumerRecord(offset, 1, id_.encode() if keyed else None, codec.encode(message), {}))
    return Chunk(topic, partition, records)


@pytest.mark.parametrize("keyed", [True, False])
def test_each_record_stays_or_is_sent_to_the_partition_of_its_id(joining: JoiningAgent, keyed: bool) -> None:
    came = chunk(*map(label, IDS), keyed=keyed)
    kept, moved = Placement(joining, KAFKA).place(came)
    here = {id_ for id_ in IDS if partition_of(id_, 4) == 0}
    assert 0 < len(here) < len(IDS)
    assert {codec.decode_record(record.value).id for record in kept} == here  # type: ignore[union-attr]  # single labels
    assert {(one.key, one.partition) for one in moved} == {
        (id_, partition_of(id_, 4)) for id_ in set(IDS) - here
    }
    assert {one.topic for one in moved} == {"labels"}


def test_rows_of_a_batch_are_sent_each_to_its_partition(joining: JoiningAgent) -> None:
    batch = LabelBatch(model="m", ids=IDS, at=np.arange(40), labels=np.ones(40))
    kept, moved = Placement(joining, KAFKA).place(chunk(batch, keyed=False))
    assert not kept
    found = {
        (id_, one.partition)
        for one in moved
        for id_ in getattr(codec.decode_record(one.value), "ids", [one.key])
    }
    assert found == {(id_, partition_of(id_, 4)) for id_ in IDS}


def test_another_agent_of_the_topic_leaves_them_out_and_sends_nothing(tmp_path: Path) -> None:
    agent = DriftAggregationAgent(FolderReader(tmp_path))
    predictions = [Prediction(model="m", version="1", id=id_, at=1, score=0.5) for id_ in IDS]
    kept, moved = Placement(agent, KAFKA).place(chunk(*predictions, keyed=False))
    assert (len(kept), moved) == (sum(partition_of(id_, 4) == 0 for id_ in IDS), [])


def test_what_cannot_be_read_stays_for_its_dead_letter(joining: JoiningAgent) -> None:
    broken = Chunk("labels", 0, [ConsumerRecord(0, 1, None, b"{", {})])
    assert Placement(joining, KAFKA).place(broken) == (broken.records, [])


@given(first=st.permutations(range(4)), keyed=st.booleans())
def test_labels_meet_their_predictions_wherever_a_client_put_them(first: list[int], keyed: bool) -> None:
    """A cluster of four partitions: every record begins in a partition of the client's choice."""
    waiting: dict[tuple[str, int], list[ConsumerRecord]] = {}
    for n, id_ in enumerate(IDS):
        prediction = Prediction(model="m", version="1", id=id_, at=1, score=0.5, features={"x": 1.0})
        for message, shift in ((prediction, 0), (label(id_), 1)):
            place = message.kafka_topic.name, first[(n + shift) % 4]
            records = waiting.setdefault(place, [])
            key = id_.encode() if keyed else None
            records.append(ConsumerRecord(len(records), 1, key, codec.encode(message), {}))
    met: list[str] = []
    offsets = count(1000)

    async def main() -> None:
        clusters = [Cluster() for _ in range(4)]
        agent = JoiningAgent(FolderReader(Path("nowhere")), PerformanceSettings())
        runners = [AgentRunner(agent, KAFKA, cluster, cluster) for cluster in clusters]  # type: ignore[arg-type]  # a publisher that keeps what it is given
        while waiting:
            (topic, partition), records = waiting.popitem()
            cluster = clusters[partition]
            cluster.arrived = [*records]
            await runners[partition].process(Chunk(topic, partition, records))
            sent, cluster.published = cluster.published, []
            for one in sent:
                if one.topic == topics.OUTCOMES.name:
                    met.extend(Outcomes.model_validate_json(one.value).ids)
                elif one.topic in (topics.PREDICTIONS.name, topics.LABELS.name):
                    assert one.partition is not None
                    again = waiting.setdefault((one.topic, one.partition), [])
                    offset = next(offsets)
                    again.append(ConsumerRecord(offset, 1, one.key.encode(), one.value, dict(one.headers)))

    asyncio.run(main())
    assert sorted(met) == sorted(IDS)

"""Publishing: bounded, acknowledged, and never silently lost. On both brokers."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.processes import free_port
from schemas.records import Label, LabelBatch, Prediction, PredictionBatch
from schemas.settings import KafkaSettings, PublisherSettings
from streams import admin, codec, topics
from streams.publisher import BufferFull, NotDelivered, Publisher, partition_of, split_by_partition
from streams.reading import Reader

WIDE = PredictionBatch(
    model="m",
    version="1",
    ids=[f"id-{n}" for n in range(100)],
    at=list(range(100)),
    scores=[n / 100 for n in range(100)],
    features={"n": list(range(100)), "parity": ["odd" if n % 2 else "even" for n in range(100)]},
)


@pytest.fixture
def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    admin.create_topics(kafka_settings)
    return kafka_settings


def read(kafka: KafkaSettings, topic: topics.Topic, count: int) -> list[tuple[int, bytes, bytes]]:
    """(partition, key, value) of what is on the topic, once `count` messages are."""
    found: list[tuple[int, bytes, bytes]] = []
    deadline = time.monotonic() + 20
    with Reader(kafka, [topic]) as reader:
        while len(found) < count and time.monotonic() < deadline:
            found += [(m.partition(), m.key(), m.value()) for _, m in reader.poll(0.2)]
    return found


def test_what_was_published_is_in_kafka_when_the_with_block_is_over(kafka: KafkaSettings) -> None:
    label = Label(model="m", id="a", at=1, label=1)
    with Publisher(kafka) as publisher:
        publisher.publish(label)
    [(_, key, value)] = read(kafka, topics.LABELS, 1)
    assert (key, codec.decode_record(value)) == (b"a", label)


def test_a_batch_reaches_the_partitions_that_single_records_with_its_ids_do(kafka: KafkaSettings) -> None:
    with Publisher(kafka, PublisherSettings(batch_rows=1)) as publisher:
        publisher.publish_batch(WIDE)
        for one in WIDE.ids:
            publisher.publish(Prediction(model="m", version="1", id=one, at=0, score=0))
    found = read(kafka, topics.PREDICTIONS, 104)
    single = {key.decode(): partition for partition, key, value in found if b'"prediction"' in value}
    batched = {
        one: partition
        for partition, _, value in found
        if b'"predictions"' in value
        for one in codec.decode_record(value).ids  # type: ignore[union-attr]  # a batch
    }
    assert single == batched
    assert len(set(single.values())) == kafka.data_partitions


def test_creating_topics_again_changes_nothing(kafka: KafkaSettings) -> None:
    assert admin.create_topics(kafka) == []


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=50), st.integers(1, 12))
def test_splitting_a_batch_keeps_every_row_once_and_in_order(ids: list[str], partitions: int) -> None:
    batch = LabelBatch(
        model="m", ids=ids, at=list(range(len(ids))), labels=[float(n) for n in range(len(ids))]
    )
    parts = split_by_partition(batch, partitions)
    rows = [(one, at, label) for _, p in parts for one, at, label in zip(p.ids, p.at, p.labels, strict=True)]  # type: ignore[attr-defined]  # a label batch
    assert sorted(rows, key=lambda row: row[1]) == list(zip(ids, batch.at, batch.labels, strict=True))
    assert all(partition_of(one, partitions) == partition for partition, p in parts for one in p.ids)


@pytest.fixture
def nobody() -> KafkaSettings:
    """A cluster that isn't there."""
    return KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")


def test_a_full_buffer_raises_at_once_where_the_policy_says_so(nobody: KafkaSettings) -> None:
    settings = PublisherSettings(buffer_messages=10, when_full="raise", delivery_timeout=1)
    publisher = Publisher(nobody, settings)
    with pytest.raises(BufferFull, match="10 messages wait for 127.0.0.1"):
        for n in range(11):
            publisher.publish(Label(model="m", id=str(n), at=1, label=1))
    with pytest.raises(NotDelivered, match="10 messages given up"):
        publisher.close()


def test_blocking_waits_for_room_and_gives_up_after_the_time_it_was_given(nobody: KafkaSettings) -> None:
    settings = PublisherSettings(buffer_messages=1, block_seconds=0.3, delivery_timeout=60)
    publisher = Publisher(nobody, settings)
    publisher.publish(Label(model="m", id="1", at=1, label=1))
    with pytest.raises(BufferFull, match="waited 0.3 s"):
        publisher.publish(Label(model="m", id="2", at=1, label=1))
    with pytest.raises(NotDelivered, match="1 still waiting"):
        publisher.flush(0.1)


def test_what_the_broker_never_acknowledged_is_said_on_leaving(nobody: KafkaSettings) -> None:
    with pytest.raises(NotDelivered, match="1 messages given up"):
        with Publisher(nobody, PublisherSettings(delivery_timeout=0.5)) as publisher:
            publisher.publish(Label(model="m", id="1", at=1, label=1))

"""Publishing: bounded, acknowledged, and never silently lost. On both brokers."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from driftloop.infra.brokers import Broker
from driftloop.infra.brokers.embedded import EmbeddedBroker
from driftloop.infra.brokers.kafka import KafkaBroker
from driftloop.infra.processes.child import Child, free_port, python_command
from driftloop.schemas import topics
from driftloop.schemas.records import (
    AnyRecord,
    Batch,
    FeatureBatch,
    FeatureRow,
    Label,
    LabelBatch,
    Prediction,
    PredictionBatch,
)
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import admin
from driftloop.streams.producer.client import ResilientProducer
from driftloop.streams.producer.partition_counts import PartitionCounts
from driftloop.streams.producer.publisher import BufferFull, NotDelivered, Publisher, TooLarge
from driftloop.streams.records import ProducerRecord
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec
from driftloop.streams.wire.batches import partition_of

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
    with TopicReader(kafka, [topic]) as reader:
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
    with pytest.raises(NotDelivered, match="10 messages failed"):
        publisher.close()


def test_blocking_waits_for_room_and_gives_up_after_the_time_it_was_given(nobody: KafkaSettings) -> None:
    settings = PublisherSettings(buffer_messages=1, block_seconds=0.3, delivery_timeout=60)
    publisher = Publisher(nobody, settings)
    publisher.publish(Label(model="m", id="1", at=1, label=1))
    with pytest.raises(BufferFull, match="waited 0.3 s"):
        publisher.publish(Label(model="m", id="2", at=1, label=1))
    with pytest.raises(NotDelivered, match="1 not acknowledged yet"):
        publisher.flush(0.1)


def test_what_the_broker_never_acknowledged_is_said_on_leaving(nobody: KafkaSettings) -> None:
    with pytest.raises(NotDelivered, match="1 messages failed"):
        with Publisher(nobody, PublisherSettings(delivery_timeout=0.5)) as publisher:
            publisher.publish(Label(model="m", id="1", at=1, label=1))


def rows_on(kafka: KafkaSettings, topic: topics.Topic, ids: set[str], seconds: float = 30) -> list[AnyRecord]:
    """What is on the topic, once all `ids` are (or the time is over)."""
    found: list[AnyRecord] = []
    missing = set(ids)
    deadline = time.monotonic() + seconds
    with TopicReader(kafka, [topic]) as reader:
        while missing and time.monotonic() < deadline:
            records = [codec.decode_record(message.value()) for _, message in reader.poll(0.2)]
            found += records
            missing -= {one for record in records for one in ids_of(record)}
    assert not missing, f"{len(missing)} of {len(ids)} ids never came"
    return found


def ids_of(record: AnyRecord) -> Sequence[str]:
    return record.ids if isinstance(record, Batch) else [record.id]


def labels(first: int, last: int) -> list[Label]:
    return [Label(model="m", id=f"id-{n}", at=n, label=n % 2) for n in range(first, last)]


def test_single_records_travel_together_and_each_in_the_partition_of_its_id(kafka: KafkaSettings) -> None:
    with Publisher(kafka) as publisher:
        for label in labels(0, 1000):
            publisher.publish(label)
    found = rows_on(kafka, topics.LABELS, {f"id-{n}" for n in range(1000)})
    assert len(found) < 100
    assert sum(len(ids_of(record)) for record in found) == 1000


def test_rows_of_one_id_keep_their_order_whatever_they_travel_with(kafka: KafkaSettings) -> None:
    with Publisher(kafka) as publisher:
        for n in range(300):
            features = {"a": n} if n % 3 else {"a": n, "b": n}
            publisher.publish(FeatureRow(model="m", id=f"id-{n % 7}", at=n, features=features))
    at: dict[str, list[int]] = {}
    with TopicReader(kafka, [topics.FEATURES]) as reader:
        deadline = time.monotonic() + 20
        while sum(map(len, at.values())) < 300 and time.monotonic() < deadline:
            for _, message in reader.poll(0.2):
                record = codec.decode_record(message.value())
                times = record.at if isinstance(record, Batch) else [record.at]
                for one, when in zip(ids_of(record), times, strict=True):
                    at.setdefault(one, []).append(when)
    assert {one: sorted(times) for one, times in at.items()} == at
    assert sum(map(len, at.values())) == 300


def test_columns_may_be_numpy_arrays(kafka: KafkaSettings) -> None:
    ids = [f"id-{n}" for n in range(50)]
    columns: dict[str, Any] = {"at": np.arange(50), "scores": np.linspace(0, 1, 50)}
    columns["features"] = {"x": np.arange(50.0)}
    batch = PredictionBatch.model_construct(model="m", version="1", ids=ids, **columns)
    with Publisher(kafka) as publisher:
        publisher.publish_batch(batch)
    found = rows_on(kafka, topics.PREDICTIONS, set(ids))
    assert len(found) == kafka.data_partitions
    assert all(isinstance(part, PredictionBatch) for part in found)


def test_a_record_that_no_message_can_carry_is_refused_with_its_size(nobody: KafkaSettings) -> None:
    record = FeatureRow(model="m", id="big", at=1, features={"text": "x" * 9_000_000})
    for rows in (1, 500):
        publisher = Publisher(nobody, PublisherSettings(batch_rows=rows))
        with pytest.raises(TooLarge, match="features 'big' of model 'm' is too large: 9,000,... bytes"):
            publisher.publish(record)
        publisher.close()


def test_a_batch_that_is_too_large_for_one_message_becomes_several(kafka: KafkaSettings) -> None:
    ids = [f"id-{n}" for n in range(12)]
    texts = ["x" * 3_000_000] * 12
    with Publisher(kafka) as publisher:
        publisher.publish_batch(FeatureBatch(model="m", ids=ids, at=list(range(12)), features={"t": texts}))
    found = rows_on(kafka, topics.FEATURES, set(ids))
    assert sum(len(ids_of(record)) for record in found) == 12


def test_publishing_never_waits_for_a_kafka_that_is_not_there(nobody: KafkaSettings, tmp_path: Path) -> None:
    for settings in (PublisherSettings(), PublisherSettings(when_full="spool", spool_folder=tmp_path)):
        publisher = Publisher(nobody, settings)
        took = timed(publisher, labels(0, 2000))
        batch = LabelBatch(model="m", ids=["a", "b"], at=[1, 2], labels=[0, 1])
        began = time.perf_counter()
        publisher.publish_batch(batch)
        took.append(time.perf_counter() - began)
        say_p99(f"publish() with {settings.when_full}, Kafka not there", took)
        with pytest.raises(NotDelivered) as raised:
            publisher.close(0.1)
        assert raised.value.spooled == (settings.when_full == "spool")


def timed(publisher: Publisher, records: Sequence[Label], pause: float = 0.0) -> list[float]:
    """Publish them; how long each call took, in seconds."""
    took = []
    for record in records:
        began = time.perf_counter()
        publisher.publish(record)
        took.append(time.perf_counter() - began)
        if pause:
            time.sleep(pause)
    return took


def say_p99(what: str, took: Sequence[float]) -> None:
    p99 = float(np.quantile(took, 0.99))
    print(f"{what}: p99 {p99 * 1e6:.0f} us, longest {max(took) * 1e3:.1f} ms of {len(took)} calls")  # noqa: T201
    assert p99 < 0.05


def spooling(folder: Path) -> PublisherSettings:
    return PublisherSettings(when_full="spool", spool_folder=folder)


def test_with_a_spool_everything_arrives_once_and_nothing_is_left_behind(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    with Publisher(kafka, spooling(tmp_path)) as publisher:
        publisher.publish_batch(WIDE)
        for label in labels(0, 1000):
            publisher.publish(label)
        publisher.flush()
        assert (publisher.waiting, publisher.spooled, publisher.failed) == (0, 0, 0)
    rows_on(kafka, topics.PREDICTIONS, set(WIDE.ids))
    found = rows_on(kafka, topics.LABELS, {f"id-{n}" for n in range(1000)})
    assert sum(len(ids_of(record)) for record in found) == 1000
    assert not list(tmp_path.glob("*.spool"))


def test_a_batch_spooled_before_kafka_was_ever_seen_arrives_in_the_right_partitions(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    away = Publisher(
        KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}", prefix=kafka.prefix), spooling(tmp_path)
    )
    away.publish_batch(WIDE)
    with pytest.raises(NotDelivered, match=f"1 kept in {tmp_path}"):
        away.close(0.1)
    with Publisher(kafka, spooling(tmp_path)):
        pass
    found = read(kafka, topics.PREDICTIONS, kafka.data_partitions)
    for partition, _, value in found:
        assert {partition_of(one, kafka.data_partitions) for one in ids_of(codec.decode_record(value))} == {
            partition
        }
    assert sum(len(ids_of(codec.decode_record(value))) for _, _, value in found) == len(WIDE)


def test_a_full_spool_is_a_full_buffer(nobody: KafkaSettings, tmp_path: Path) -> None:
    settings = PublisherSettings(when_full="spool", spool_folder=tmp_path, spool_bytes=1_000_000)
    publisher = Publisher(nobody, settings)
    with pytest.raises(BufferFull, match="of 1,000,000 bytes"):
        for label in labels(0, 20_000):
            publisher.publish(label)
    with pytest.raises(NotDelivered):
        publisher.close(0.1)


def test_a_spool_needs_a_folder() -> None:
    with pytest.raises(ValueError, match="needs a spool_folder"):
        PublisherSettings(when_full="spool")


def test_a_closed_publisher_accepts_nothing(nobody: KafkaSettings) -> None:
    publisher = Publisher(nobody)
    publisher.close()
    with pytest.raises(RuntimeError, match="is closed"):
        publisher.publish(labels(0, 1)[0])


@pytest.mark.parametrize("policy", ["block", "spool"])
def test_a_publisher_outlives_its_broker_and_goes_on_with_an_empty_one(policy: str, tmp_path: Path) -> None:
    settings = PublisherSettings() if policy == "block" else spooling(tmp_path / "spool")
    with EmbeddedBroker.start(tmp_path / "first") as first:
        kafka = KafkaSettings(bootstrap=first.bootstrap)
        admin.create_topics(kafka)
        publisher = Publisher(kafka, settings)
        for label in labels(0, 100):
            publisher.publish(label)
        publisher.flush(20)
        first.kill()
        for label in labels(100, 200):
            publisher.publish(label)
        with EmbeddedBroker.start(tmp_path / "second", port=first.port):
            admin.create_topics(kafka)
            for label in labels(200, 300):
                publisher.publish(label)
            publisher.deliver([ProducerRecord("labels", "id-300", codec.encode(labels(300, 301)[0]))])
            publisher.close(60)
            rows_on(kafka, topics.LABELS, {f"id-{n}" for n in range(100, 301)})


def test_messages_count_as_on_their_way_while_a_new_producer_takes_over(nobody: KafkaSettings) -> None:
    line = ResilientProducer(nobody, PublisherSettings())
    for _ in range(10_000):
        line.send("topic", b"key", b"value")
    seen, over = [len(line)], threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.append(len(line))

    watcher = threading.Thread(target=watch)
    watcher.start()
    line.replace("asked to")
    over.set()
    watcher.join()
    line.close()
    assert min(seen) >= 10_000, "whoever flushed at that moment would have left"


def test_partitions_that_were_added_are_noticed(kafka_broker: Broker) -> None:
    kafka = KafkaSettings(bootstrap=kafka_broker.bootstrap, prefix="growing-")
    admin.create_topics(kafka)
    line = ResilientProducer(kafka, PublisherSettings())
    known = PartitionCounts(line.partition_count, refresh=0.2)
    try:
        assert known.count("growing-labels", 20) == kafka.data_partitions
        grown = NewPartitions("growing-labels", kafka.data_partitions + 2)
        client = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for done in client.create_partitions([grown]).values():
            done.result(20)
        deadline = time.monotonic() + 20
        while known.count("growing-labels") != kafka.data_partitions + 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert known.count("growing-labels") == kafka.data_partitions + 2
    finally:
        known.close()
        line.close()


def test_a_topic_that_nobody_can_tell_about_is_waited_for_only_so_long() -> None:
    known = PartitionCounts(lambda _: None)
    began = time.monotonic()
    assert known.count("labels", 0.1) is None
    assert time.monotonic() - began < 5
    known.close()


def publish_while_kafka_is_away(folder: Path, seconds: float) -> None:
    """Publish all the while, with Kafka away for so long: every label must arrive."""
    with KafkaBroker.start(folder / "kafka") as broker:
        kafka = KafkaSettings(bootstrap=broker.bootstrap)
        admin.create_topics(kafka)
        publisher = Publisher(kafka, spooling(folder / "spool"))
        took = timed(publisher, labels(0, 1000), pause=0.001)
        broker.kill()
        away = 1000 + int(seconds * 500)
        took += timed(publisher, labels(1000, away), pause=0.002)
        with KafkaBroker.start(folder / "kafka", port=broker.port):
            took += timed(publisher, labels(away, away + 1000), pause=0.001)
            publisher.close(60)
            rows_on(kafka, topics.LABELS, {f"id-{n}" for n in range(away + 1000)}, 60)
    say_p99(f"publish() with a spool, Kafka away for {seconds:g} s", took)


def test_kafka_may_be_away_for_ten_seconds(needs_kafka: None, tmp_path: Path) -> None:
    publish_while_kafka_is_away(tmp_path, 10)


@pytest.mark.parametrize("kafka_there", [False, True])
def test_what_was_accepted_outlives_kill_9_and_the_next_process_sends_it(
    kafka: KafkaSettings, tmp_path: Path, kafka_there: bool
) -> None:
    bootstrap = kafka.bootstrap if kafka_there else f"127.0.0.1:{free_port()}"
    arguments = [bootstrap, kafka.prefix, str(tmp_path / "spool")]
    command = python_command("tests.support.publisher_process", *arguments)
    child = Child.start("publishing child", command, log=tmp_path / "accepted")
    child.wait_until(lambda: len(child.log.read_bytes()) > 20_000, 30)
    child.kill()
    accepted = set(child.log.read_text().rpartition("\n")[0].splitlines())
    accepted = {one for one in accepted if one.startswith("id-")}
    with Publisher(kafka, spooling(tmp_path / "spool")) as publisher:
        assert kafka_there or publisher.spooled >= len(accepted)
    found = rows_on(kafka, topics.LABELS, accepted)
    at = [when for record in found for when in (record.at if isinstance(record, Batch) else [record.at])]
    if not kafka_there:  # sent once, since nothing of it was acknowledged before
        assert len(at) == len(set(at))

"""The Publisher against bare `Producer.produce` of the same bytes to the same broker."""

import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from confluent_kafka import Producer

from benchmarks.speed import traffic
from benchmarks.speed.table import Row
from driftloop.infra.brokers.kafka import KafkaBroker
from driftloop.schemas import topics
from driftloop.schemas.records import Prediction, PredictionBatch
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import admin
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.wire import codec

ROWS = 100_000
COLUMNAR_ROWS = 400_000


def measure() -> list[Row]:
    """CPU of this process, all threads of the clients included."""
    records = list(traffic.singles(ROWS))
    values = [codec.encode(record) for record in records]
    batches = list(traffic.batches(COLUMNAR_ROWS, 2000))
    with tempfile.TemporaryDirectory() as folder, KafkaBroker.start(Path(folder)) as broker:
        kafka = KafkaSettings(bootstrap=broker.bootstrap, prefix=f"b{uuid.uuid4().hex[:6]}-")
        admin.create_topics(kafka)
        bare = _cpu(lambda: _produce(kafka, records, values)) / ROWS
        singly = _cpu(lambda: _publish(kafka, records, PublisherSettings(batch_rows=1))) / ROWS
        gathered = _cpu(lambda: _publish(kafka, records, PublisherSettings())) / ROWS
        columnar = _cpu(lambda: _publish_batches(kafka, batches)) / COLUMNAR_ROWS
        with Publisher(kafka) as publisher:
            calls = _calls(publisher, records)
    return [
        Row("bare `Producer.produce` of single JSON events, encoded before", bare * 1e6, "us/row"),
        Row("`publish` of records as single JSON events", singly * 1e6, "us/row"),
        Row.at_most("`publish` of records against bare produce", singly / bare, "x", 1.5),
        Row("`publish` of records, travelling as columnar messages (the default)", gathered * 1e6, "us/row"),
        Row.at_most("`publish` of records, columnar, against bare produce", gathered / bare, "x", 1.5),
        Row.at_most("`publish_batch`", columnar * 1e6, "us/row", 2),
        Row.at_most("a call of `publish`, p99", calls * 1e6, "us", 1_000),
    ]


def _cpu(work: Callable[[], None]) -> float:
    """CPU seconds, after one round to warm up: threads, connections, metadata."""
    work()
    began = time.process_time()
    work()
    return time.process_time() - began


def _produce(kafka: KafkaSettings, records: Sequence[Prediction], values: Sequence[bytes]) -> None:
    topic = topics.name_of(topics.PREDICTIONS, kafka)
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
        }
    )
    for record, value in zip(records, values, strict=True):
        while True:
            try:
                producer.produce(topic, value, record.id)
                break
            except BufferError:
                producer.poll(0.01)
    producer.flush()


def _publish(kafka: KafkaSettings, records: Sequence[Prediction], settings: PublisherSettings) -> None:
    with Publisher(kafka, settings) as publisher:
        for record in records:
            publisher.publish(record)


def _publish_batches(kafka: KafkaSettings, batches: Sequence[PredictionBatch]) -> None:
    with Publisher(kafka) as publisher:
        for batch in batches:
            publisher.publish_batch(batch)


def _calls(publisher: Publisher, records: Sequence[Prediction]) -> float:
    """Seconds of a call, 99 of 100 are quicker."""
    took = np.empty(len(records))
    for number, record in enumerate(records):
        began = time.perf_counter()
        publisher.publish(record)
        took[number] = time.perf_counter() - began
    return float(np.percentile(took, 99))

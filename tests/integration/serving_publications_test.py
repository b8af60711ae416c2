"""Answers on their way to Kafka."""

from prometheus_client import CollectorRegistry

from driftloop.infra.serving.publications import Publications
from driftloop.schemas import topics
from driftloop.schemas.records import Prediction, PredictionBatch
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import admin
from driftloop.streams.producer import serializer
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec

HUGE = "x" * 9_000_000


def test_an_answer_that_no_message_can_carry_is_counted_and_its_neighbours_are_published(
    kafka_settings: KafkaSettings,
) -> None:
    admin.create_topics(kafka_settings)
    counters = CollectorRegistry()
    publications = Publications(kafka_settings, PublisherSettings(), counters)
    publications.offer(
        PredictionBatch(
            model="m",
            version="1",
            ids=["before", "huge", "after"],
            at=[1, 2, 3],
            scores=[0.1, 0.2, 0.3],
            features={"text": ["short", HUGE, "short"]},
        )
    )
    publications.close(10)
    with TopicReader(kafka_settings, [topics.PREDICTIONS]) as reader:
        ids: list[str] = []
        while not reader.caught_up:
            for _, message in reader.poll(0.2):
                record = codec.decode_record(message.value())
                rows = serializer.single_records(record) if isinstance(record, PredictionBatch) else [record]
                ids += [row.id for row in rows if isinstance(row, Prediction)]
    assert sorted(ids) == ["after", "before"]
    failed = counters.get_sample_value("driftloop_publish_failures_total", {"reason": "too large"})
    assert failed == 1

"""The Kafka messages that carry what a handler returned: topic, key and partition follow from its class."""

from dataclasses import replace

from driftloop.schemas import topics
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams.records import ProducerRecord
from driftloop.streams.wire import codec


def producer_records(message: Output, kafka: KafkaSettings) -> list[ProducerRecord]:
    """One Kafka message, or one for each partition of a broadcast topic."""
    record, topic = producer_record(message, kafka), message.kafka_topic
    if not topic.broadcast:
        return [record]
    return [replace(record, partition=partition) for partition in range(topic.partitions(kafka))]


def producer_record(message: Output, kafka: KafkaSettings) -> ProducerRecord:
    """The Kafka message that carries `message`."""
    topic = topics.name_of(message.kafka_topic, kafka)
    return ProducerRecord(topic, message.kafka_key, codec.encode(message), partition=message.kafka_partition)

"""What a handler returns is what gets published: which topic and key each kind of message has."""

from dataclasses import replace

from pydantic import BaseModel

from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import Event, PoolChanged
from driftloop.schemas.settings import KafkaSettings
from driftloop.schemas.summaries import DriftSummary, LabelledExamples, Outcomes, PairedLosses
from driftloop.streams import topics
from driftloop.streams.records import ProducerRecord
from driftloop.streams.wire import codec

Output = Event | DriftSummary | LabelledExamples | Outcomes | PairedLosses | DeadLetter


def producer_records(message: Output, kafka: KafkaSettings) -> list[ProducerRecord]:
    """The Kafka messages that carry what a handler returned: one, or one in each partition (a broadcast).

    `PoolChanged` is about one model whose rows lie in every partition of the data plane.
    """
    made = producer_record(message, kafka)
    if not isinstance(message, PoolChanged):
        return [made]
    return [replace(made, partition=partition) for partition in range(topics.POOLS.partitions(kafka))]


def producer_record(message: Output, kafka: KafkaSettings) -> ProducerRecord:
    """The Kafka message that carries what a handler returned."""
    topic, key = _route(message)
    # Examples stay in their partition, so that one model's can be written by as many workers as joined them.
    partition = message.span.partition if isinstance(message, LabelledExamples) else None
    return ProducerRecord(topics.name_of(topic, kafka), key, codec.encode(message), partition=partition)


def _route(message: BaseModel) -> tuple[topics.Topic, str]:
    match message:
        case Event():
            return topics.OF_EVENT[type(message)], message.model
        case DriftSummary():
            return topics.SUMMARIES, message.model
        case LabelledExamples():
            return topics.EXAMPLES, message.model
        case Outcomes():
            return topics.OUTCOMES, message.model
        case PairedLosses():
            return topics.LOSSES, message.model
        case DeadLetter():
            return topics.DEAD_LETTERS, message.topic
        case _:
            raise TypeError(f"no topic carries {type(message).__name__}; see streams/routes.py")

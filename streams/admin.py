"""Creating our topics, with explicit partitions and settings, and asking how far consumers lag."""

import logging
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from mlops_core.errors import Unavailable
from schemas.settings import KafkaSettings
from streams import topics

log = logging.getLogger(__name__)

TIMEOUT = 30.0


def create_topics(kafka: KafkaSettings, wanted: Iterable[topics.Topic] = topics.ALL) -> list[str]:
    """Create the topics that aren't there yet; returns the names of those created.

    Raises:
        Unavailable: the cluster doesn't answer, or refuses.
    """
    settings = {"bootstrap.servers": kafka.bootstrap, "socket.timeout.ms": int(TIMEOUT * 1000)}
    client = AdminClient(settings, logger=log)
    try:
        there = set(client.list_topics(timeout=TIMEOUT).topics)
        missing = [topic for topic in wanted if topics.name_of(topic, kafka) not in there]
        if not missing:
            return []
        answers = client.create_topics([_new(topic, kafka) for topic in missing], request_timeout=TIMEOUT)
        return [name for name, answer in answers.items() if _created(answer.exception())]
    except KafkaException as error:
        raise Unavailable(f"Kafka at {kafka.bootstrap}: {error.args[0].str()}") from error


def _new(topic: topics.Topic, kafka: KafkaSettings) -> NewTopic:
    return NewTopic(
        topics.name_of(topic, kafka),
        num_partitions=topic.partitions(kafka),
        replication_factor=kafka.replication,
        config=dict(topic.config()),
    )


def _created(error: BaseException | None) -> bool:
    if error is None:
        return True
    if isinstance(error, KafkaException) and error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
        return False  # somebody else was quicker
    raise error

"""Creates topics with explicit partitions and settings."""

import time
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from driftloop.mlops_core.errors import Conflict, Unavailable
from driftloop.schemas import topics
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import clients

TIMEOUT = 30.0
ONLINE_SECONDS = 60.0
"""Until created partitions answer; a busy broker takes long."""
ASK_SECONDS = 3.0
"""Of one request for their offsets."""


ANSWER_SECONDS = 5.0
"""How long a command or a client waits for a broker, before it says that there is none."""


def require_broker(kafka: KafkaSettings) -> None:
    """Return once a broker answers.

    Raises:
        Unavailable: none does within `ANSWER_SECONDS`.
    """
    try:
        _client(kafka).list_topics(timeout=ANSWER_SECONDS)
    except KafkaException as error:
        raise Unavailable(
            f"no Kafka broker answers at {kafka.bootstrap} within {ANSWER_SECONDS:g} s "
            f"({error.args[0].str()}); start `driftloop up`, or name your cluster by kafka.bootstrap "
            "(KAFKA_BOOTSTRAP_SERVERS)"
        ) from None


def create_topics(kafka: KafkaSettings, wanted: Iterable[topics.Topic] = topics.ALL) -> list[str]:
    """Create the topics that don't exist yet; returns the names of those created.

    Raises:
        Unavailable: the cluster doesn't answer, or refuses.
        Conflict: a topic has another number of partitions than the settings say.
    """
    return _create(
        kafka,
        [
            NewTopic(
                topics.name_of(topic, kafka),
                num_partitions=topic.partitions(kafka),
                replication_factor=kafka.replication,
                config=dict(topic.config()),
            )
            for topic in wanted
        ],
    )


def create_topic(kafka: KafkaSettings, name: str, partitions: int, config: Mapping[str, str]) -> bool:
    """Create one topic by its full name; returns whether it wasn't there yet. Raises Unavailable."""
    topic = NewTopic(
        name, num_partitions=partitions, replication_factor=kafka.replication, config=dict(config)
    )
    return bool(_create(kafka, [topic]))


def _create(kafka: KafkaSettings, wanted: Sequence[NewTopic]) -> list[str]:
    try:
        client = _client(kafka)
        there = client.list_topics(timeout=TIMEOUT).topics
        _check_partition_counts({name: len(topic.partitions) for name, topic in there.items()}, wanted)
        missing = [topic for topic in wanted if topic.topic not in there]
        answers = client.create_topics(missing, request_timeout=TIMEOUT) if missing else {}
        made = [name for name, answer in answers.items() if _is_created(answer.exception())]
        _wait_until_online(kafka, wanted)  # also those that another process is creating at this moment
    except KafkaException as error:
        raise Unavailable(
            f"Kafka at {kafka.bootstrap}: {error.args[0].str()}; `driftloop broker` starts one, and "
            "KAFKA_BOOTSTRAP_SERVERS names another"
        ) from error
    return made


def _client(kafka: KafkaSettings) -> AdminClient:
    settings = {"bootstrap.servers": kafka.bootstrap, "socket.timeout.ms": int(TIMEOUT * 1000)}
    return AdminClient(settings, logger=clients.log)


def _check_partition_counts(there: Mapping[str, int], wanted: Sequence[NewTopic]) -> None:
    """Raise Conflict for another number of partitions: prediction and label would be in different ones."""
    for topic in wanted:
        has = there.get(topic.topic, 0)  # 0: another process is creating it
        if has not in (0, topic.num_partitions):
            raise Conflict(
                f"topic {topic.topic} has {has} partitions, the settings say {topic.num_partitions} "
                "(kafka.data_partitions, kafka.control_partitions): predictions and labels of one id would "
                "be in different partitions; docs/decisions/0011 says how to grow"
            )


def _wait_until_online(kafka: KafkaSettings, wanted: Sequence[NewTopic]) -> None:
    """Until each partition answers.

    A broker that knows of a new partition but hasn't opened it refuses a producer's first request and may
    take its second, and the first is then lost in silence, idempotent or not (KAFKA-15591, open in 4.3).
    Each request has a new client: a client that learnt of a partition without leader may never ask again.
    """
    waiting = {TopicPartition(new.topic, number) for new in wanted for number in range(new.num_partitions)}
    deadline = time.monotonic() + ONLINE_SECONDS
    while waiting:
        refused = _unavailable_partitions(_client(kafka), waiting)
        if refused and time.monotonic() > deadline:
            raise next(iter(refused.values()))
        waiting = set(refused)
        time.sleep(0.05 if waiting else 0)


def _unavailable_partitions(
    client: AdminClient, asked: set[TopicPartition]
) -> dict[TopicPartition, BaseException]:
    """The partitions that don't answer, and why; no request is sent before all have a leader."""
    led = {
        TopicPartition(name, number)
        for name, topic in client.list_topics(timeout=TIMEOUT).topics.items()
        for number, partition in topic.partitions.items()
        if partition.leader >= 0
    }
    if asked - led:
        return dict.fromkeys(asked, KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE)))
    answers = client.list_offsets(dict.fromkeys(asked, OffsetSpec.latest()), request_timeout=ASK_SECONDS)
    refused = {key: answer.exception() for key, answer in answers.items()}
    return {key: error for key, error in refused.items() if error is not None}


def _is_created(error: BaseException | None) -> bool:
    if error is None:
        return True
    if isinstance(error, KafkaException) and error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
        return False  # another process created it
    raise error

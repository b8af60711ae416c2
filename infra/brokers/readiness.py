"""Whether a broker truly serves: asked with the requests that a pipeline will make first.

That the port is open says little. Apache Kafka answers metadata seconds before it can answer a consumer
group (its coordinator must load a topic that the first question creates) or number an idempotent producer
(it needs a block of ids from its controller).
"""

import time

import orjson
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from driftloop.infra.processes.child import listening

GROUP = "driftloop-readiness"
"""A group that nobody joins; asking for it makes the broker find, and so load, a coordinator."""
SECONDS = 5.0
"""How long one question may take; the caller asks again."""
QUIET = {"log_level": 0}
"""What fails before the broker is ready is expected, and no news on a terminal."""


def answers(port: int) -> bool:
    """Whether the broker on this port of 127.0.0.1 answers a metadata request with itself in it."""
    if not listening(port):
        return False
    try:
        found = _client(port).list_topics(timeout=SECONDS)
    except KafkaException:
        return False
    return any(broker.port == port for broker in found.brokers.values())


def serves(port: int) -> bool:
    """Whether it answers, coordinates consumer groups and numbers idempotent producers."""
    return answers(port) and _coordinates_groups(port) and _assigns_producer_ids(port)


def _coordinates_groups(port: int) -> bool:
    # Not list_consumer_group_offsets: while there is no coordinator, confluent-kafka crashes in it (SIGSEGV).
    client = _client(port)
    try:
        client.describe_consumer_groups([GROUP], request_timeout=SECONDS)[GROUP].result()
    except KafkaException as error:
        return bool(error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND)  # so a coordinator looked for it
    return True


def _assigns_producer_ids(port: int) -> bool:
    """A producer asks for its number by itself, and its statistics say when it has it: no topic is needed."""
    states: set[str] = set()
    producer = Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "enable.idempotence": True,
            "statistics.interval.ms": 20,
            "stats_cb": lambda text: states.add(orjson.loads(text)["eos"]["idemp_state"]),
            **QUIET,
        }
    )
    deadline = time.monotonic() + SECONDS
    while "Assigned" not in states and time.monotonic() < deadline:
        producer.poll(0.05)
    return "Assigned" in states


def _client(port: int) -> AdminClient:
    return AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", **QUIET})

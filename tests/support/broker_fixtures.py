"""Brokers for tests, real ones, each started once a session when the first test asks for it."""

import uuid
from collections.abc import Iterator

import pytest

from driftloop.infra.brokers import Broker
from driftloop.infra.brokers import kafka as apache
from driftloop.infra.brokers.embedded import EmbeddedBroker
from driftloop.schemas.settings import KafkaSettings


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with EmbeddedBroker.start(tmp_path_factory.mktemp("embedded")) as broker:
        yield broker


@pytest.fixture(scope="session")
def needs_kafka() -> None:
    """Skips, with the reason, where Apache Kafka can't run."""
    reason = apache.missing()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka_broker(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with apache.KafkaBroker.start(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session", params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """A promise that uses it is kept on both."""
    started: Broker = request.getfixturevalue(f"{request.param}_broker")
    return started


@pytest.fixture
def kafka_settings(broker: Broker) -> KafkaSettings:
    """The broker, with a prefix of one's own, so that tests sharing it don't meet."""
    return KafkaSettings(bootstrap=broker.bootstrap, prefix=f"t{uuid.uuid4().hex[:8]}-")

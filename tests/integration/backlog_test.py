"""How far agents are behind is seen from outside, also while they are dead."""

import uuid

import pytest
from confluent_kafka import Consumer, TopicPartition

from driftloop.infra.brokers import Broker
from driftloop.infra.dashboard.agent_lag import Pace, families
from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas import topics
from driftloop.schemas.records import Label
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import admin
from driftloop.streams.backlog import Backlog, BacklogMonitor, RecordTimes, agent_backlog
from driftloop.streams.producer.publisher import Publisher
from tests.support.dashboard_server import eventually, serving

HOUR = 3_600_000
PLACE = ("labels", 0)


@pytest.fixture
def kafka(kafka_broker: Broker) -> KafkaSettings:
    settings = KafkaSettings(
        bootstrap=kafka_broker.bootstrap, prefix=f"t{uuid.uuid4().hex[:8]}-", data_partitions=1
    )
    admin.create_topics(settings)
    return settings


def publish(kafka: KafkaSettings, first: int, last: int) -> None:
    """Labels an hour of the data apart, each a record."""
    with Publisher(kafka, PublisherSettings(batch_rows=1)) as publisher:
        for number in range(first, last):
            publisher.publish(Label(model="m", id=str(number), at=number * HOUR, label=1.0))


def commit(kafka: KafkaSettings, agent: str, offset: int) -> None:
    """As the agent's worker does."""
    config = {"bootstrap.servers": kafka.bootstrap, "group.id": f"{kafka.prefix}driftloop-{agent}"}
    consumer = Consumer(config)
    place = TopicPartition(topics.name_of(topics.LABELS, kafka), 0, offset)
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()


def test_a_dead_agent_is_behind_by_what_was_published_since(kafka: KafkaSettings) -> None:
    publish(kafka, 0, 10)
    commit(kafka, "joining", 10)
    backlogs = BacklogMonitor(kafka, ["joining", "drift"])
    assert backlogs.measure() == [Backlog("joining", 0, 0.0, None)]
    publish(kafka, 10, 50)
    [found] = [backlogs.measure(), backlogs.measure()][-1]
    backlogs.close()
    assert (found.agent, found.records, found.data_ms) == ("joining", 40, 39 * HOUR)
    assert found.seconds > 0


def test_an_agent_that_has_caught_up_is_not_behind(kafka: KafkaSettings) -> None:
    commit(kafka, "joining", 0)
    publish(kafka, 0, 5)
    backlogs = BacklogMonitor(kafka, ["joining"])
    assert [backlogs.measure(), backlogs.measure()][-1][0].records == 5
    commit(kafka, "joining", 5)
    assert backlogs.measure() == [Backlog("joining", 0, 0.0, None)]
    backlogs.close()


def test_a_cluster_that_does_not_answer_is_unavailable() -> None:
    backlogs = BacklogMonitor(KafkaSettings(bootstrap="127.0.0.1:1"), ["joining"])
    with pytest.raises(Unavailable, match="127.0.0.1:1"):
        backlogs.measure()
    backlogs.close()


def test_the_oldest_partition_counts_in_both_clocks() -> None:
    stamps = {
        ("labels", 0, 4): RecordTimes(8_000, 100),
        ("labels", 0, 9): RecordTimes(9_500, 700),
        ("labels", 1, 2): RecordTimes(6_000, None),
    }
    ends = {PLACE: 10, ("labels", 1): 5}
    assert agent_backlog("drift", {PLACE: 4, ("labels", 1): 2}, ends, stamps, 10_000) == Backlog(
        "drift", 9, 4.0, 600
    )


def test_the_sentence_names_the_agent_that_is_most_behind_and_warns_beyond_the_limit() -> None:
    behind = [
        Backlog("drift", 10, 4.0, None),
        Backlog("joining", 12_300, 40.0, 0),
        Backlog("storing", 0, 0, None),
    ]
    assert Pace.of(behind, 300) == Pace("joining is 40 s behind (12,300 records); 1 more behind", "plain")
    assert Pace.of(behind, 39).tone == "warn"
    assert Pace.of(behind[2:], 39) == Pace("agents keep up", "good")
    assert Pace.of([], 39).sentence == ""


def test_prometheus_gets_records_seconds_and_the_time_of_the_data() -> None:
    found = {one.name: one.samples for one in families([Backlog("drift", 10, 4.0, 60_000)])}
    assert {name: samples[0].value for name, samples in found.items()} == {
        "driftloop_lag_records": 10,
        "driftloop_lag_seconds": 4.0,
        "driftloop_lag_data_seconds": 60.0,
    }


def test_the_page_says_which_agent_is_behind(broker: Broker) -> None:
    with serving(broker.bootstrap) as page:
        eventually(lambda: page.ask("/healthz").status_code == 200, "the page is healthy")
        commit(page.kafka, "joining", 0)
        told = eventually(lambda: page.snapshot()["agents"]["sentence"], "the page knows the agents")
        assert told == "agents keep up"
        one_partition = page.kafka.model_copy(update={"data_partitions": 1})
        for number in range(40):
            publish(one_partition, number, number + 1)
        told = eventually(
            lambda: text if "behind" in (text := page.snapshot()["agents"]["sentence"]) else "",
            "it is behind",
        )
        assert told.startswith("joining is ")
        assert 'driftloop_lag_records{agent="joining"}' in page.ask("/metrics").text

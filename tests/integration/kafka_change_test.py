"""Kafka and the data change while workers run: restarts, clocks that jump, messages beyond all bounds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from driftloop.infra.processes.child import Child
from driftloop.schemas import topics
from driftloop.schemas.dead_letters import KEPT_BYTES
from driftloop.schemas.records import FeatureBatch, FeatureRow
from driftloop.streams.producer.publisher import Publisher, TooLarge
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec
from tests.support.chaos import trial
from tests.support.chaos.accounts import Accounts
from tests.support.chaos.load import HOUR_MS, Load
from tests.support.chaos.system import MODELS, System

AGENTS = ("joining", "storing", "summarising", "performance")
YEAR_MS = 365 * 24 * HOUR_MS
HUGE = 10_000_000


@contextmanager
def under_load(system: System, seed: int) -> Iterator[tuple[Load, Accounts]]:
    """Agents at work on what comes in during the block; at its end every id is accounted for."""
    system.start_agents("agents", AGENTS)
    with Publisher(system.settings.kafka) as publisher, system.accounts() as accounts:
        load = Load(publisher, seed, MODELS)
        with trial.meanwhile(system, load.run):
            yield load, accounts
        trial.settle(system, load, accounts)
    told = trial.report(system, load, accounts, seed)
    assert not trial.wrong(system, load, accounts), told


@pytest.mark.timeout(240)
def test_a_broker_that_is_killed_and_comes_back_in_mid_load_loses_no_id(system: System, seed: int) -> None:
    with under_load(system, seed) as (_, accounts):
        trial.more(1, system, accounts)
        system.supervisor.kill("kafka")
        trial.more(1000, system, accounts)


@pytest.mark.timeout(240)
def test_a_client_whose_clock_jumps_a_year_ahead_and_back_makes_nobody_give_up_waiting(
    system: System, seed: int
) -> None:
    with under_load(system, seed) as (load, accounts):
        for _ in range(3):
            trial.more(500, system, accounts)
            load.stray(
                4, YEAR_MS
            )  # all twelve may meet in one window of 50: still less than its last quarter
        trial.more(1000, system, accounts)
    ahead = [window for window in accounts.windows.values() if window.until > load.now + YEAR_MS // 2]
    assert not ahead, f"one client's year is everybody's in {len(ahead)} windows, e.g. {ahead[0]}"


@pytest.mark.timeout(240)
def test_a_message_of_ten_megabytes_is_refused_or_parked_and_stops_nobody(system: System, seed: int) -> None:
    system.start_agents("agents", AGENTS)
    features = topics.name_of(topics.FEATURES, system.settings.kafka)
    rows = [f"{n:0>190}" for n in range(HUGE // 200)]
    batch = FeatureBatch(model=MODELS[0], ids=rows, at=[0] * len(rows), features={"n": [0] * len(rows)})
    foreign = Producer(
        {
            "bootstrap.servers": system.settings.kafka.bootstrap,
            "message.max.bytes": 2 * HUGE,
            "compression.type": "lz4",  # Kafka counts the bytes that it stores
        }
    )
    with Publisher(system.settings.kafka) as publisher, system.accounts() as accounts:
        load = Load(publisher, seed, MODELS)
        with trial.meanwhile(system, load.run):
            trial.more(1, system, accounts)
            foreign.produce(features, b"{" + b"x" * HUGE)
            foreign.produce(features, codec.encode(batch))
            assert foreign.flush(30) == 0
            trial.until(lambda: bool(accounts.letters), system, accounts, "dead letter")
            trial.more(1000, system, accounts)
        trial.settle(system, load, accounts)
    letters = [letter for letter in accounts.letters.values() if letter.topic == "features"]
    for letter in letters:
        del accounts.letters[letter.id]
    told = trial.report(system, load, accounts, seed)
    assert [(one.reason, one.size, len(one.original())) for one in letters] == [
        ("malformed", HUGE + 1, KEPT_BYTES)
    ], told
    assert not trial.wrong(system, load, accounts), told


@pytest.mark.timeout(120)
def test_a_message_of_ten_megabytes_is_refused_by_our_own_publisher_and_the_next_one_is_sent(
    system: System,
) -> None:
    huge = FeatureRow(model=MODELS[0], id="huge", at=0, features={"text": "x" * HUGE})
    with Publisher(system.settings.kafka) as publisher:
        with pytest.raises(TooLarge, match=r"'huge' of model 'churn' is too large: 10,000,110 bytes"):
            publisher.publish(huge)
        publisher.publish(huge.model_copy(update={"id": "small", "features": {}}))
    with TopicReader(system.settings.kafka, [topics.FEATURES]) as reader:
        found = []
        while not reader.caught_up:
            found += [message.key() for _, message in reader.poll(0.2)]
    assert found == [b"small"]


def grow(system: System) -> None:
    """Two more partitions for labels, as any administrator may add them."""
    kafka = system.settings.kafka
    grown = topics.name_of(topics.LABELS, kafka)
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    client.create_partitions([NewPartitions(grown, kafka.data_partitions + 2)])[grown].result()


def wait_for_the_end(agents: Child) -> None:
    deadline = time.monotonic() + 90
    while agents.alive and time.monotonic() < deadline:
        time.sleep(0.1)
    assert agents.exit_code not in (None, 0)


@pytest.mark.timeout(180)
def test_agents_refuse_topics_that_have_grown_and_say_so_with_both_numbers(system: System) -> None:
    grow(system)
    agents = system.run("refusing", "agents", "run", *AGENTS)
    try:
        wait_for_the_end(agents)
        assert "topic labels has 6 partitions, the settings say 4" in agents.tail(50)
    finally:
        agents.stop()


@pytest.mark.timeout(180)
def test_an_agent_under_which_a_topic_grows_ends_and_says_why(system: System) -> None:
    agents = system.run("growing", "agents", "run", "joining")
    try:
        with Publisher(system.settings.kafka) as publisher, system.accounts() as accounts:
            load = Load(publisher, 1, MODELS)
            with trial.meanwhile(system, load.run):
                trial.more(1, system, accounts)
        grow(system)
        wait_for_the_end(agents)
        assert "was assigned partition 5, but the settings say 4 partitions" in agents.tail(50)
    finally:
        agents.stop()

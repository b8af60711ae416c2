"""What the host sends to each version is counted, whoever answers in the end, and arrives in Kafka."""

import asyncio
import os
import signal
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from driftloop.infra.brokers import Broker
from driftloop.infra.brokers.embedded import EmbeddedBroker
from driftloop.infra.serving.traffic import TrafficCounter, TrafficReporter
from driftloop.schemas import topics
from driftloop.schemas.events import Traffic, TrafficMeasured
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams import admin
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec
from tests.support import serving_processes as rig
from tests.support.serving_processes import MODEL, NOBODY, HostProcess


def measured(kafka: KafkaSettings) -> list[TrafficMeasured]:
    """All events so far, each id once."""
    events: dict[str, TrafficMeasured] = {}
    with TopicReader(kafka, [topics.METRICS]) as reader:
        while not reader.caught_up:
            for _, message in reader.poll(0.2):
                event = codec.decode_event(message.value())
                if isinstance(event, TrafficMeasured):
                    events[event.id] = event
    return list(events.values())


def total(kafka: KafkaSettings) -> dict[str, Traffic]:
    sums: defaultdict[str, Traffic] = defaultdict(Traffic)
    for event in measured(kafka):
        for version, traffic in event.versions.items():
            sums[version] += traffic
    return dict(sums)


@pytest.fixture
def kafka_settings(embedded_broker: Broker) -> KafkaSettings:
    """One broker is enough: that publishers work on both is promised elsewhere."""
    return KafkaSettings(bootstrap=embedded_broker.bootstrap, prefix=f"t{uuid.uuid4().hex[:8]}-")


@pytest.fixture
def host(tmp_path: Path, kafka_settings: KafkaSettings) -> Iterator[HostProcess]:
    """Versions 1 and 2 of a model, half of the entities each."""
    admin.create_topics(kafka_settings)
    serving = HostProcess(tmp_path, rig.models(tmp_path / "models"), kafka_settings)
    try:
        serving.up("1")
        serving.up("2")
        serving.weigh(v1=50, v2=50)
        yield serving
    finally:
        serving.stop()


def test_every_call_and_row_arrives_also_the_last_ones_before_the_end(
    host: HostProcess, kafka_settings: KafkaSettings
) -> None:
    versions = [version for _ in range(20) for version in host.answered_by(30).values()]
    rig.until(lambda: sum(one.calls for one in total(kafka_settings).values()) == 40)
    host.weigh(v1=100)
    host.predict(7)
    host.child.stop(30)
    counted = total(kafka_settings)
    assert {version: one.predictions for version, one in counted.items()} == {
        "1": versions.count("1") + 7,
        "2": versions.count("2"),
    }
    assert {version: one.calls for version, one in counted.items()} == {"1": 21, "2": 20}
    assert {version: one.timed_calls for version, one in counted.items()} == {"1": 21, "2": 20}
    assert not any(one.failures for one in counted.values())
    for event in measured(kafka_settings):
        assert event.since <= event.until == event.at


def test_what_a_broken_version_cannot_answer_counts_for_it_though_the_client_has_an_answer(
    host: HostProcess, kafka_settings: KafkaSettings
) -> None:
    [pid] = host.pids("2")
    os.kill(pid, signal.SIGKILL)
    answered = host.answered_by(50)
    assert set(answered.values()) == {"1"}
    host.child.stop(30)
    counted = total(kafka_settings)
    assert counted["2"].errors >= 1
    assert counted["2"].predictions == 0
    assert (counted["1"].predictions, counted["1"].failures) == (50, 0)


def test_what_a_hanging_version_does_not_answer_counts_as_its_timeout(
    host: HostProcess, kafka_settings: KafkaSettings
) -> None:
    [pid] = host.pids("2")
    os.kill(pid, signal.SIGSTOP)
    assert set(host.answered_by(50).values()) == {"1"}
    os.kill(pid, signal.SIGCONT)
    host.child.stop(30)
    counted = total(kafka_settings)
    assert (counted["2"].timeouts, counted["2"].predictions) == (1, 0)
    assert counted["2"].quantile(0.5) > 5_000


def test_a_refusal_of_the_clients_rows_is_an_answer(host: HostProcess, kafka_settings: KafkaSettings) -> None:
    host.weigh(v1=100)
    sent = rig.body(3)
    sent["rows"][0]["features"]["miles"] = "far"
    assert host.client.post("/predict", json=sent).status_code == 422
    host.child.stop(30)
    assert total(kafka_settings)["1"] == Traffic(calls=1, latency=total(kafka_settings)["1"].latency)


def test_a_request_by_version_is_no_traffic(host: HostProcess, kafka_settings: KafkaSettings) -> None:
    inputs = [{"name": "miles", "datatype": "FP64", "shape": [1], "data": [900.0]}]
    page = f"/v2/models/{MODEL}/versions/2/infer"
    assert host.client.post(page, json={"inputs": inputs}).status_code == 200
    host.child.stop(30)
    assert total(kafka_settings) == {}


def test_answers_do_not_wait_for_an_absent_broker(tmp_path: Path) -> None:
    serving = HostProcess(tmp_path, rig.models(tmp_path / "models"), KafkaSettings(bootstrap=NOBODY))
    try:
        serving.up("1")
        serving.up("2")
        serving.weigh(v1=50, v2=50)
        for _ in range(20):
            assert httpx.post(f"{serving.url}/predict", json=rig.body(5), timeout=5.0).status_code == 200
    finally:
        serving.stop()
    assert serving.child.exit_code == 0


async def test_counts_add_up_while_kafka_hangs_and_follow_when_it_is_back(tmp_path: Path) -> None:
    """Given up after 1.1 s, the same event is sent again; what comes meanwhile is one more event."""
    with EmbeddedBroker.start(tmp_path / "broker") as broker:
        kafka = KafkaSettings(bootstrap=broker.bootstrap)
        admin.create_topics(kafka)
        reports = TrafficReporter(kafka, PublisherSettings(delivery_timeout=1.1), lambda _: True)
        os.kill(broker.pid, signal.SIGSTOP)
        running = asyncio.create_task(reports.run())
        for _ in range(12):
            for version in ("1", "2"):
                reports.tally.count(MODEL, version, rows=3, seconds=0.01)
            await asyncio.sleep(0.4)
        assert len(reports.tally.spans()) == 1
        os.kill(broker.pid, signal.SIGCONT)
        await arrived(kafka, 36)
        running.cancel()
        await asyncio.to_thread(reports.close)
        assert total(kafka)["2"].predictions == 36
        assert len(measured(kafka)) <= 3


async def arrived(kafka: KafkaSettings, rows: int) -> None:
    """Wait until so many rows of each version are in Kafka."""
    while [one.predictions for one in total(kafka).values()] != [rows, rows]:
        await asyncio.sleep(0.2)


def test_a_tally_takes_each_call_once() -> None:
    tally = TrafficCounter()
    tally.count("m", "1", rows=5, seconds=0.001)
    tally.count("m", "1", failure="error")
    tally.count("m", "1", seconds=10.0, failure="timeout")
    taken = tally.take("m")["1"]
    assert (taken.predictions, taken.calls, taken.errors, taken.timeouts, taken.timed_calls) == (
        5,
        3,
        1,
        1,
        2,
    )
    assert tally.spans() == {}

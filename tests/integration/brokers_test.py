"""Brokers: one suite for both kinds, and what only Apache Kafka promises."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from driftloop.infra import brokers
from driftloop.infra.brokers import Broker, BrokerUnavailable, claim, embedded, jars
from driftloop.infra.brokers import kafka as apache
from driftloop.infra.brokers.kafka import KafkaBroker
from driftloop.infra.processes.child import free_port, listening
from driftloop.schemas.settings import KafkaSettings

Start = Callable[..., Broker]


@pytest.fixture(params=["embedded", "kafka"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "kafka":
        request.getfixturevalue("needs_kafka")
    return str(request.param)


@pytest.fixture
def start_kafka(needs_kafka: None) -> Iterator[Start]:
    """Starts Apache Kafka; whatever a test leaves running is killed."""
    started: list[Broker] = []

    def start(folder: Path, port: int | None = None) -> Broker:
        started.append(KafkaBroker.start(folder, port))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def running(pid: int) -> bool:
    """Whether there is such a process that is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def create(bootstrap: str, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result()


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Returns once the broker has acknowledged every one."""
    refused: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all"})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: refused.append(error) if error else None)
    assert producer.flush(30) == 0
    assert not refused


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """What a new consumer group reads from the beginning, once it has `count` (or after 30 s)."""
    found: list[bytes] = []
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{topic}-readers",
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe([topic])
    try:
        eventually(lambda: _take(consumer, found) >= count)
    finally:
        consumer.close()
    return found


def _take(consumer: Consumer, found: list[bytes]) -> int:
    found.extend(one.value() for one in consumer.consume(1000, timeout=0.2) if not one.error())
    return len(found)


VALUES = [b"%d" % n for n in range(500)]


# Both kinds


def test_a_started_broker_tells_clients_the_address_it_was_started_on(broker: Broker) -> None:
    known = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).brokers
    assert [f"{one.host}:{one.port}" for one in known.values()] == [broker.bootstrap]


def test_a_group_reads_what_an_idempotent_producer_wrote_once_and_in_order(
    broker: Broker, kafka_settings: KafkaSettings
) -> None:
    topic = f"{kafka_settings.prefix}round-trip"
    create(broker.bootstrap, topic)
    produce(broker.bootstrap, topic, VALUES)
    assert consume(broker.bootstrap, topic, len(VALUES)) == VALUES


def test_after_stop_nothing_runs_and_nothing_listens(kind: str, tmp_path: Path) -> None:
    with brokers.start(kind, tmp_path) as started:
        assert running(started.pid)
    assert not running(started.pid)
    assert not listening(int(started.bootstrap.split(":")[1]))


def test_a_taken_port_is_named_before_anything_starts(kind: str, broker: Broker, tmp_path: Path) -> None:
    port = int(broker.bootstrap.split(":")[1])
    with pytest.raises(BrokerUnavailable, match=f"port {port} .* is taken"):
        brokers.start(kind, tmp_path, port)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tethers a child to its parent")
def test_a_parent_killed_with_9_leaves_no_broker_behind(kind: str, tmp_path: Path) -> None:
    pid = _orphan(kind, tmp_path)
    assert eventually(lambda: not running(pid))


def test_in_the_foreground_it_says_its_address_and_ends_with_sigterm(kind: str, tmp_path: Path) -> None:
    port = free_port()
    with _python(FOREGROUND, kind, str(tmp_path), str(port)) as command:
        assert command.stdout is not None
        assert f"127.0.0.1:{port}" in command.stdout.readline()
        command.send_signal(signal.SIGTERM)
        assert command.wait(60) == 0
    assert not listening(port)


def test_an_unknown_kind_is_told_what_is_possible(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="'redpanda'; possible: embedded, kafka"):
        brokers.start("redpanda", tmp_path)


# The embedded one only


def test_a_missing_binary_of_the_embedded_broker_is_said_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "nowhere"))
    assert "--kind kafka" in str(embedded.missing())


# Apache Kafka only: the embedded broker keeps everything in memory and promises nothing after its end


def test_kafka_keeps_its_data_over_a_restart_on_the_same_folder_and_port(
    start_kafka: Start, tmp_path: Path
) -> None:
    port = free_port()
    first = start_kafka(tmp_path, port)
    create(first.bootstrap, "kept")
    produce(first.bootstrap, "kept", VALUES)
    first.stop()
    second = start_kafka(tmp_path, port)
    assert second.bootstrap == first.bootstrap
    assert consume(second.bootstrap, "kept", len(VALUES)) == VALUES


def test_kafka_killed_with_9_still_has_what_it_acknowledged_even_on_another_port(
    start_kafka: Start, tmp_path: Path
) -> None:
    first = start_kafka(tmp_path)
    create(first.bootstrap, "kept")
    produce(first.bootstrap, "kept", VALUES)
    first.kill()
    second = start_kafka(tmp_path, free_port())
    assert consume(second.bootstrap, "kept", len(VALUES)) == VALUES


def test_a_second_kafka_on_the_same_folder_fails_with_the_reason_and_leaves_the_first_alone(
    start_kafka: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "SECONDS", 0.2)
    first = start_kafka(tmp_path)
    with pytest.raises(BrokerUnavailable, match=f"another Apache Kafka runs in {tmp_path}"):
        start_kafka(tmp_path)
    create(first.bootstrap, "still-served")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tethers a child to its parent")
def test_kafka_started_while_the_last_one_is_still_dying_waits_for_it(
    start_kafka: Start, tmp_path: Path
) -> None:
    pid = _orphan("kafka", tmp_path)
    second = start_kafka(tmp_path)
    assert not running(pid)
    create(second.bootstrap, "served-again")


def test_without_java_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerUnavailable, match=r"Java 17 or newer: install it .*apt install.*no `java`"):
        KafkaBroker.start(tmp_path / "kafka")


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        ('openjdk version "11.0.2"', "is version 11"),
        ('java version "1.8.0_292"', "is version 8"),
        ("No Java runtime present, requesting install.", "is not a working Java"),
    ],
)
def test_a_java_that_will_not_do_is_named_with_its_version(
    says: str, verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert f"{java} {verdict}" in str(apache.missing())


def test_maven_is_asked_for_only_while_the_jars_are_not_there(
    needs_kafka: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(java.parent))
    assert "no `mvn`" in str(jars.missing(tmp_path / "jars"))
    (tmp_path / "jars").mkdir()
    assert jars.missing(tmp_path / "jars") is None


def test_jars_fetched_twice_at_once_are_whole_and_nothing_else_is_left(
    needs_kafka: None, tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(jars.fetch, [tmp_path / "kafka"] * 2))
    assert both == [tmp_path / "kafka"] * 2
    assert [one.name for one in tmp_path.iterdir()] == ["kafka"]
    whole = {one.name for one in jars.fetch().iterdir()}
    assert {one.name for one in both[0].iterdir()} == whole


def test_jars_that_cannot_be_fetched_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mvn = tmp_path / "bin" / "mvn"
    mvn.parent.mkdir()
    mvn.write_text("#!/bin/sh\necho 'repo unreachable'\nexit 1\n")
    mvn.chmod(0o755)
    monkeypatch.setenv("PATH", str(mvn.parent))
    with pytest.raises(BrokerUnavailable, match=r"network is needed this once[^$]*repo unreachable"):
        jars.fetch(tmp_path / "cache" / "kafka")
    assert list((tmp_path / "cache").iterdir()) == []


PARENT = """
import sys, time
from pathlib import Path
from driftloop.infra import brokers
print(brokers.start(sys.argv[1], Path(sys.argv[2])).pid, flush=True)
time.sleep(600)
"""

FOREGROUND = """
import sys
from pathlib import Path
from driftloop.infra import brokers
brokers.run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
"""


def _orphan(kind: str, folder: Path) -> int:
    """The process id of a broker whose parent was just killed with -9."""
    with _python(PARENT, kind, str(folder)) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert running(pid)
        parent.kill()
    return pid


def _python(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-uc", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

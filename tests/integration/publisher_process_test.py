"""A publisher in a process that forks, or ends without closing it: what was accepted arrives."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from driftloop.schemas import topics
from driftloop.schemas.records import Batch
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import admin
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec

OPENED = """
import os, signal, sys, time
from driftloop.schemas.records import Label, Prediction
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams.producer.publisher import Publisher

kafka = KafkaSettings(bootstrap={bootstrap!r}, prefix={prefix!r})
publisher = Publisher(kafka, PublisherSettings({settings}))

def publish(who, rows=100):
    for n in range(rows):
        publisher.publish(Label(model="m", id=f"{{who}}-{{n}}", at=n, label=1))
"""
ENDINGS = {
    "end of the script": "",
    "sys.exit": "sys.exit(3)",
    "exception": "raise ValueError('a bug')",
    "SIGTERM": "print('ready', flush=True)\ntime.sleep(60)",
    "SIGTERM while it publishes": "print('ready', flush=True)\npublish('more', 10**9)",
}


@pytest.fixture
def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    admin.create_topics(kafka_settings)
    return kafka_settings


def run(kafka: KafkaSettings, script: str, settings: str = "") -> subprocess.CompletedProcess[str]:
    """The script, in a process of its own that has opened a publisher."""
    with _started(kafka, script, settings) as process:
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _started(kafka: KafkaSettings, script: str, settings: str = "") -> subprocess.Popen[str]:
    opened = OPENED.format(bootstrap=kafka.bootstrap, prefix=kafka.prefix, settings=settings)
    command = [sys.executable, "-c", opened + dedent(script)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def arrived(kafka: KafkaSettings, expected: set[str]) -> set[str]:
    """Ids on the topic, once all of `expected` are, or after 20 s."""
    found: set[str] = set()
    deadline = time.monotonic() + 20
    with TopicReader(kafka, [topics.LABELS]) as reader:
        while not expected <= found and time.monotonic() < deadline:
            for _, message in reader.poll(0.2):
                record = codec.decode_record(message.value())
                found |= set(record.ids) if isinstance(record, Batch) else {record.id}
    return found


def ids(who: str, rows: int = 100) -> set[str]:
    return {f"{who}-{n}" for n in range(rows)}


@pytest.mark.parametrize("spooled", [False, True])
def test_rows_of_a_parent_and_of_its_forked_children_arrive(
    kafka: KafkaSettings, spooled: bool, tmp_path: Path
) -> None:
    settings = f"when_full='spool', spool_folder={str(tmp_path)!r}" if spooled else ""
    script = """
    publish("before")
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            publish(f"child{number}")
            sys.exit(0)
        children.append(child)
    publish("after")
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    """
    ended = run(kafka, script, settings)
    assert (ended.returncode, ended.stderr) == (0, "")
    wanted = ids("before") | ids("after") | ids("child0") | ids("child1") | ids("child2")
    assert arrived(kafka, wanted) == wanted


def test_rows_of_multiprocessing_workers_arrive_though_they_end_without_atexit(kafka: KafkaSettings) -> None:
    script = """
    import multiprocessing
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=publish, args=(f"worker{n}",)) for n in range(2)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    """
    assert run(kafka, script).stderr == ""
    assert arrived(kafka, ids("worker0") | ids("worker1")) == ids("worker0") | ids("worker1")


def test_a_child_that_publishes_nothing_ends_at_once(kafka: KafkaSettings) -> None:
    script = """
    publish("parent")
    if os.fork() == 0:
        sys.exit(0)
    began = time.monotonic()
    os.wait()
    assert time.monotonic() - began < 3
    """
    assert run(kafka, script).returncode == 0
    assert arrived(kafka, ids("parent")) == ids("parent")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_that_ends_without_close_loses_no_row(kafka: KafkaSettings, ending: str) -> None:
    script = 'publish("row", 200)\n' + ENDINGS[ending]
    if ending.startswith("SIGTERM"):
        with _started(kafka, script) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGTERM
    else:
        run(kafka, script)
    assert ids("row", 200) <= arrived(kafka, ids("row", 200))


def test_what_can_not_be_delivered_at_the_end_is_counted_on_stderr() -> None:
    nowhere = KafkaSettings(bootstrap="127.0.0.1:9")
    ended = run(nowhere, 'publish("row", 7)', "exit_seconds=0.5, batch_rows=1")
    assert "driftloop: the process ended, and 7 messages to 127.0.0.1:9 were not delivered" in ended.stderr
    assert ended.stderr.count("driftloop: ") == 1


@pytest.mark.parametrize("settings", ["", "when_full='raise'", "when_full='spool', spool_folder='{}'"])
@pytest.mark.parametrize("value", ["'\\ud800'", "2**70", "-2**63 - 1"])
def test_a_value_that_no_message_can_carry_is_refused_and_costs_no_neighbour(
    kafka: KafkaSettings, settings: str, value: str, tmp_path: Path
) -> None:
    script = f"""
    from driftloop.mlops_core.errors import InvalidData
    for n in range(40):
        features = {{"x": {value} if n == 9 else n}}
        row = Prediction.model_construct(
            model="m", version="1", id=f"row-{{n}}", entity=None, at=n, score=0.5, features=features
        )
        try:
            publisher.publish(row)
        except InvalidData as error:
            assert n == 9, error
            assert "row-9" in str(error) and "'x'" in str(error), error
        else:
            assert n != 9
    publish("label", 40)
    """
    ended = run(kafka, script, settings.format(tmp_path))
    assert (ended.returncode, ended.stderr) == (0, "")
    with TopicReader(kafka, [topics.PREDICTIONS]) as reader:
        found: set[str] = set()
        deadline = time.monotonic() + 20
        while len(found) < 39 and time.monotonic() < deadline:
            for _, message in reader.poll(0.2):
                record = codec.decode_record(message.value())
                found |= set(record.ids) if isinstance(record, Batch) else {record.id}
    assert found == {f"row-{n}" for n in range(40) if n != 9}


def test_a_sender_that_died_is_an_error_at_the_next_publish(kafka: KafkaSettings) -> None:
    script = """
    def broken(*_):
        raise ZeroDivisionError("a bug")
    publisher._accumulator._send = broken
    publish("first", 1)
    while publisher._accumulator.failure is None:
        time.sleep(0.01)
    try:
        publish("second", 1)
    except RuntimeError as error:
        print(error)
    os._exit(0)
    """
    assert "ended, so nothing more is sent: ZeroDivisionError('a bug')" in run(kafka, script).stdout

"""Real workers on real brokers: kill -9 loses nothing and repeats nothing that a reader would count twice."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driftloop.infra.processes.child import Child, python_command
from driftloop.schemas import topics
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.records import Label, LabelBatch, PredictionBatch
from driftloop.schemas.settings import KafkaSettings, PerformanceSettings, Settings
from driftloop.schemas.summaries import Outcomes
from driftloop.streams import admin
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import ProducerRecord
from driftloop.streams.topic_reader import TopicReader

log = logging.getLogger(__name__)

MODEL = "flights"
HOUR_MS = 3_600_000
START = Callable[[str], Child]


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> Settings:
    admin.create_topics(kafka_settings)
    performance = PerformanceSettings(horizon_hours=1)
    return Settings(kafka=kafka_settings, performance=performance)


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[START]:
    """Start `driftloop agents run <name>` as a user would."""
    written = tmp_path / "settings.json"
    written.write_text(settings.model_dump_json())
    children: list[Child] = []

    def started(name: str) -> Child:
        command = python_command("driftloop.infra.cli.app", "--settings", str(written), "agents", "run", name)
        child = Child.start(name, command, log=tmp_path / f"{name}.log")
        children.append(child)
        return child

    yield started
    for child in children:
        child.stop()
        log.warning("%s:\n%s", child.name, child.tail())  # shown when the test fails


def publish(publisher: Publisher, first: int, last: int) -> None:
    """Predictions and their labels, a minute apart."""
    for at in range(first, last, 100):
        rows = range(at, min(at + 100, last))
        ids, times = [f"id-{row}" for row in rows], [row * 10 for row in rows]
        publisher.publish_batch(
            PredictionBatch(
                model=MODEL,
                version="1",
                ids=ids,
                at=times,
                scores=[0.5] * len(rows),
                features={"n": list(rows)},
            )
        )
        labels = [float(row % 2) for row in rows]
        publisher.publish_batch(
            LabelBatch(model=MODEL, ids=ids, at=[time + 60_000 for time in times], labels=labels)
        )
    publisher.flush()


class Heard:
    """What a reader that knows repetitions makes of the outcomes topic."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._reader = TopicReader(kafka, [topics.OUTCOMES])
        self._newest: dict[str, int] = {}
        self.ids: list[str] = []

    def wait_for(self, count: int, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while len(self.ids) < count and time.monotonic() < deadline:
            for _, message in self._reader.poll(0.2):
                headers = {name: value.decode() for name, value in message.headers()}
                if int(headers["seq"]) > self._newest.get(headers["source"], 0):
                    self._newest[headers["source"]] = int(headers["seq"])
                    self.ids += Outcomes.model_validate_json(message.value()).ids


@pytest.mark.timeout(240)
def test_kill_9_of_a_worker_loses_no_row_and_joins_none_twice(settings: Settings, start: START) -> None:
    heard = Heard(settings.kafka)
    with Publisher(settings.kafka) as publisher:
        worker = start("joining")
        publish(publisher, 0, 6_000)
        heard.wait_for(1)
        worker.kill()
        publish(publisher, 6_000, 8_000)
        again = start("joining")
        heard.wait_for(7_000)
        again.kill()
        start("joining")
        publish(publisher, 8_000, 9_000)
        heard.wait_for(9_000)
    assert sorted(heard.ids) == sorted(f"id-{row}" for row in range(9_000))


@pytest.mark.timeout(240)
def test_partitions_that_move_between_workers_lose_no_row_and_join_none_twice(
    settings: Settings, start: START
) -> None:
    heard = Heard(settings.kafka)
    with Publisher(settings.kafka) as publisher:
        first = start("joining")
        publish(publisher, 0, 3_000)
        heard.wait_for(1)
        start("joining")
        publish(publisher, 3_000, 6_000)
        heard.wait_for(6_000)
        first.kill()
        publish(publisher, 6_000, 9_000)
        heard.wait_for(9_000, seconds=90)
    assert sorted(heard.ids) == sorted(f"id-{row}" for row in range(9_000))


def letters(kafka: KafkaSettings, count: int) -> dict[str, DeadLetter]:
    """The first `count` dead letters, by reason."""
    found: list[DeadLetter] = []
    deadline = time.monotonic() + 60
    with TopicReader(kafka, [topics.DEAD_LETTERS]) as reader:
        while len(found) < count and time.monotonic() < deadline:
            found += [DeadLetter.model_validate_json(m.value()) for _, m in reader.poll(0.2)]
    return {letter.reason: letter for letter in found}


@pytest.mark.timeout(180)
def test_what_cant_be_used_is_parked_with_its_reason_and_the_loop_goes_on(
    settings: Settings, start: START
) -> None:
    labels = topics.name_of(topics.LABELS, settings.kafka)
    start("joining")
    with Publisher(settings.kafka) as publisher:
        for broken in (b"{", b'{"type": "label", "schema_version": 7}', b'{"type": "label"}'):
            publisher.send(ProducerRecord(labels, "key", broken))
        publisher.publish(Label(model=MODEL, id="nobody", at=1, label=1))
        publish(publisher, 0, 200)
        heard = Heard(settings.kafka)
        heard.wait_for(200)
        publisher.publish_batch(  # an hour of predictions later nobody waits for that label any more
            PredictionBatch(
                model=MODEL,
                version="1",
                ids=[f"later-{row}" for row in range(2_000)],
                at=[2 * HOUR_MS] * 2_000,
                scores=[0.5] * 2_000,
            )
        )
    assert len(heard.ids) == 200
    parked = letters(settings.kafka, 4)
    assert set(parked) == {"malformed", "future schema", "invalid", "label without prediction"}
    assert parked["malformed"].original() == b"{"
    assert "'nobody'" in parked["label without prediction"].detail

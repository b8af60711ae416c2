"""Consumer lag: what is behind is measured without asking the broker, and said once when it lasts."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from driftloop.infra.brokers import Broker
from driftloop.infra.processes.child import Child, python_command
from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas import topics
from driftloop.schemas.events import AlertRaised, DriftDetected, DriftKind
from driftloop.schemas.messages import Output
from driftloop.schemas.records import LabelBatch, PredictionBatch
from driftloop.schemas.settings import KafkaSettings, MetricsSettings, PublisherSettings, Settings
from driftloop.streams import admin
from driftloop.streams.processing.agent import WithoutEffects
from driftloop.streams.processing.app import build_app, run_all
from driftloop.streams.processing.lag import MEASUREMENTS, LagAlarm, LagTracker, PartitionLag
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.topic_reader import TopicReader

PLACE = ("labels", 0)


def chunk(first: int, last: int, written: float) -> Chunk:
    """Offsets `first` to `last`, all written at `written` (seconds)."""
    millis = int(written * 1000)
    return Chunk("labels", 0, [ConsumerRecord(o, millis, None, b"", {}) for o in range(first, last + 1)])


def test_nobody_is_behind_before_anything_arrived() -> None:
    assert LagTracker().measure({PLACE: 100}, 50.0) == {}


def test_a_chunk_in_hand_is_not_done() -> None:
    lag = LagTracker()
    lag.start_chunk(chunk(10, 19, written=40), now=50)
    assert lag.measure({PLACE: 100}, 50.0) == {PLACE: PartitionLag(90, 10.0)}


def test_a_chunk_in_hand_counts_although_no_end_is_known() -> None:
    lag = LagTracker()
    lag.start_chunk(chunk(10, 19, written=40), now=50)
    assert lag.measure({PLACE: None}, 50.0) == {PLACE: PartitionLag(10, 10.0)}


def test_who_has_done_everything_is_not_behind_however_old_it_was() -> None:
    lag = LagTracker()
    lag.start_chunk(chunk(10, 19, written=40), now=50)
    lag.finish_chunk(chunk(10, 19, written=40), end=20)
    assert lag.measure({PLACE: 20}, 5000.0) == {PLACE: PartitionLag(0, 0.0)}


def test_within_a_backlog_the_next_record_is_as_old_as_the_last_one() -> None:
    lag = LagTracker()
    lag.start_chunk(chunk(10, 19, written=40), now=50)
    lag.finish_chunk(chunk(10, 19, written=40), end=30)
    assert lag.measure({PLACE: 30}, 100.0) == {PLACE: PartitionLag(10, 60.0)}


def test_a_record_after_a_long_silence_is_as_old_as_we_know_of_it() -> None:
    lag = LagTracker()
    lag.start_chunk(chunk(10, 19, written=40), now=50)
    lag.finish_chunk(chunk(10, 19, written=40), end=20)
    assert lag.measure({PLACE: 21}, 5000.0) == {PLACE: PartitionLag(1, 0.0)}
    assert lag.measure({PLACE: 21}, 5007.0) == {PLACE: PartitionLag(1, 7.0)}


def test_the_oldest_of_several_chunks_in_hand_counts() -> None:
    lag = LagTracker()
    lag.start_chunk(chunk(10, 19, written=40), now=50)
    lag.start_chunk(chunk(20, 29, written=44), now=50)
    assert lag.measure({PLACE: 25}, 50.0) == {PLACE: PartitionLag(20, 10.0)}
    lag.finish_chunk(chunk(10, 19, written=40), end=25)
    assert lag.measure({PLACE: 25}, 50.0) == {PLACE: PartitionLag(10, 6.0)}


def test_a_backlog_is_known_before_any_of_it_arrives() -> None:
    lag = LagTracker()
    lag.assign(PLACE, 40)
    assert lag.measure({PLACE: 100}, 50.0) == {PLACE: PartitionLag(60, 0.0)}


def test_a_partition_that_went_to_another_worker_is_forgotten() -> None:
    lag = LagTracker()
    lag.start_chunk(chunk(10, 19, written=40), now=50)
    assert lag.measure({}, 60.0) == {}
    assert lag.measure({PLACE: 100}, 60.0) == {}


def alarm() -> LagAlarm:
    return LagAlarm("joining", "labels", partitions=4, limit=60, worker="w")


def looks(one: LagAlarm, seconds: list[float]) -> list[AlertRaised]:
    said = [one.update({2: PartitionLag(1234, late)}, 1000.0 + at) for at, late in enumerate(seconds)]
    return [alert for alert in said if alert is not None]


def test_a_short_delay_is_told_to_nobody() -> None:
    assert looks(alarm(), [61.0] * (MEASUREMENTS - 1) + [59.0] + [61.0] * (MEASUREMENTS - 1)) == []


def test_a_lasting_delay_is_told_once_with_what_to_do() -> None:
    [raised] = looks(alarm(), [120.0] * 50)
    assert raised.severity == "warning"
    assert raised.sentence.startswith(
        "agent joining is 2 min behind on labels: at least 1,234 records wait in partition 2."
    )
    assert "start more workers (`driftloop agents run joining`)" in raised.sentence


def test_it_is_over_at_half_the_limit_and_may_begin_again() -> None:
    said = looks(alarm(), [120.0] * MEASUREMENTS + [31.0, 30.0] + [70.0] * MEASUREMENTS)
    assert [one.severity for one in said] == ["warning", "info", "warning"]
    assert said[1].caused_by == said[0].id
    assert said[1].sentence == "agent joining has caught up on labels; it was behind for 2 min"
    assert len({one.id for one in said}) == 3


def test_partitions_that_move_away_end_the_alarm_and_say_why() -> None:
    one = alarm()
    looks(one, [120.0] * MEASUREMENTS)
    over = one.update({}, 2000.0)
    assert over is not None
    assert "no longer reads its partitions of labels" in over.sentence


class Waiting(WithoutEffects):
    """Needs something that is away until `back`."""

    name = "waiting"
    topics = (topics.DRIFT,)
    back = False

    def initial_state(self) -> None:
        pass

    def dump(self, state: None) -> bytes:
        return b""

    def load(self, data: bytes) -> None:
        pass

    def handle(self, state: None, chunk: Chunk) -> list[Output]:
        if not self.back:
            raise Unavailable("away")
        return []


async def heard(reader: TopicReader, enough: Callable[[list[AlertRaised]], bool]) -> list[AlertRaised]:
    """Alerts so far, once there are enough."""
    said: list[AlertRaised] = []
    deadline = time.monotonic() + 60
    while not enough(said):
        assert time.monotonic() < deadline, said
        said += [one for one in await asyncio.to_thread(events, reader) if isinstance(one, AlertRaised)]
    return said


def events(reader: TopicReader) -> list[object]:
    return list(reader.events(0.3))


@pytest.mark.timeout(180)
async def test_an_agent_that_stands_still_raises_the_alarm_and_catching_up_ends_it(
    kafka_settings: KafkaSettings,
) -> None:
    kafka = kafka_settings.model_copy(update={"max_lag_seconds": 0.5})
    admin.create_topics(kafka)
    agent = Waiting()
    with Publisher(kafka) as publisher, TopicReader(kafka, [topics.ALERTS]) as reader:
        for number in range(3):
            publisher.publish_event(
                DriftDetected(
                    id=f"d{number}",
                    at=1,
                    model="m",
                    version="1",
                    kind=DriftKind.CONCEPT,
                    columns=[],
                    severity=1.0,
                    changed_at=1,
                    sentence="it drifted",
                )
            )
        running = asyncio.create_task(run_all([build_app(agent, kafka, PublisherSettings())]))
        try:
            [raised] = await heard(reader, bool)
            assert "agent waiting is" in raised.sentence
            assert "behind on drift-events: at least 3 records wait in partition" in raised.sentence
            agent.back = True
            [over] = await heard(reader, bool)
            assert (over.severity, over.caused_by) == ("info", raised.id)
            assert "agent waiting has caught up on drift-events" in over.sentence
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def children() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(180)
def test_a_process_of_agents_answers_prometheus(
    embedded_broker: Broker, tmp_path: Path, children: ExitStack
) -> None:
    kafka = KafkaSettings(
        bootstrap=embedded_broker.bootstrap, prefix=f"scrape{os.getpid()}-", data_partitions=1
    )
    admin.create_topics(kafka)
    written = tmp_path / "settings.json"
    written.write_text(Settings(kafka=kafka, metrics=MetricsSettings(port=0)).model_dump_json())
    command = python_command(
        "driftloop.infra.cli.app", "--settings", str(written), "agents", "run", "joining"
    )
    log = tmp_path / "log"
    child = Child.start("joining", command, log, env={"PYTHONPATH": os.pathsep.join(sys.path)})
    children.callback(child.stop)
    child.wait_until(lambda: b"Metrics at" in log.read_bytes(), seconds=60)
    ids, at = [f"id-{row}" for row in range(100)], list(range(100))
    found = re.search(r"Metrics at (\S+)", log.read_text())
    assert found is not None
    with Publisher(kafka) as publisher:
        publisher.publish_batch(
            PredictionBatch(model="m", version="1", ids=ids, at=at, scores=[0.5] * 100, features={"x": at})
        )
        publisher.publish_batch(
            LabelBatch(model="m", ids=ids[:80], at=[one + 5_000 for one in at[:80]], labels=[1.0] * 80)
        )
    wanted = (
        'driftloop_label_coverage_ratio{model="m"} 0.8',
        'driftloop_label_join_rows_total{model="m",what="joined"} 80.0',
        'driftloop_label_delay_seconds_bucket{le="10.0",model="m"} 80.0',
        'driftloop_label_delay_seconds_bucket{le="1.0",model="m"} 0.0',
        'driftloop_consumer_lag_records{agent="joining",partition="0",topic="labels"} 0.0',
        'driftloop_consumer_lag_seconds{agent="joining",partition="0",topic="labels"} 0.0',
    )

    def exported() -> bool:
        said = httpx.get(found[1]).text.splitlines()
        return all(line in said for line in wanted)

    child.wait_until(exported, seconds=90)

"""Real workers on a real broker: `driftloop agents run` as a child, and what its CPU and memory came to."""

import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from benchmarks.speed.traffic import Traffic
from driftloop.infra.processes.child import Child, python_command
from driftloop.schemas import topics
from driftloop.schemas.events import DriftMeasured
from driftloop.schemas.records import Prediction
from driftloop.schemas.settings import KafkaSettings, PublisherSettings, RegistrySettings, Settings
from driftloop.streams import admin
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.topic_reader import TopicReader

STAGES = ("summarising", "drift")
MICRO_BATCH, WINDOW = 32, 1024
PATIENCE = 180.0
_TICKS = os.sysconf("SC_CLK_TCK")


class TooSlow(RuntimeError):
    """A process that was measured didn't finish; says which and where it was."""


def system(bootstrap: str, registry_uri: str, partitions: int = 4) -> Settings:
    """Settings of a system of its own on the broker; its topics are there."""
    kafka = KafkaSettings(
        bootstrap=bootstrap,
        prefix=f"b{uuid.uuid4().hex[:6]}-",
        data_partitions=partitions,
        session_timeout=60,  # longer than a worker sleeps
    )
    admin.create_topics(kafka)
    return Settings(kafka=kafka, registry=RegistrySettings(tracking_uri=registry_uri))


@contextmanager
def running(settings: Settings, folder: Path, *command: str) -> Iterator[Child]:
    """`driftloop <command>` with these settings, until the block ends."""
    written = folder / f"{settings.kafka.prefix}settings.json"
    written.write_text(settings.model_dump_json())
    whole = python_command("driftloop.infra.cli.app", "--settings", str(written), *command)
    child = Child.start(command[0], whole, log=folder / f"{settings.kafka.prefix}{command[0]}.log")
    try:
        yield child
    finally:
        child.stop()


def spent(settings: Settings, folder: Path, warm: Traffic, backlog: Traffic, count: int = 1) -> list[float]:
    """CPU seconds of each of `count` workers with both stages of drift, working off what is there.

    They have seen rows before, so that imports aren't counted, and sleep while the others are published.
    """
    with ExitStack() as stack:
        commands = [("agents", "run", *STAGES)] * count
        workers = [stack.enter_context(running(settings, folder, *command)) for command in commands]
        progress = stack.enter_context(Progress(settings.kafka))
        _wait_for_assignment(settings.kafka, count)
        publish(settings.kafka, warm)
        progress.reach(warm.rows - left_over(settings.kafka, warm.models))
        with asleep(workers):
            publish(settings.kafka, backlog)
            before = [cpu_seconds(worker.pid) for worker in workers]
        progress.reach(warm.rows + backlog.rows - left_over(settings.kafka, backlog.models))
        return [cpu_seconds(worker.pid) - then for worker, then in zip(workers, before, strict=True)]


def _wait_for_assignment(kafka: KafkaSettings, count: int) -> None:
    """Wait until each agent's group has so many workers, and all of them know their partitions."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    groups = [f"{kafka.prefix}driftloop-{stage}" for stage in STAGES]
    deadline = time.monotonic() + PATIENCE
    while not all(_is_settled(admin, group, count) for group in groups):
        if time.monotonic() > deadline:
            raise TooSlow(f"{count} workers: not settled after {PATIENCE:g} s")
        time.sleep(0.2)


def _is_settled(admin: AdminClient, group: str, count: int) -> bool:
    found = admin.describe_consumer_groups([group])[group].result(PATIENCE)
    owning = [member for member in found.members if member.assignment and member.assignment.topic_partitions]
    return found.state is ConsumerGroupState.STABLE and len(owning) == count


def publish(kafka: KafkaSettings, traffic: Traffic) -> None:
    """Publish records as JSON events of their own, batches as columnar messages."""
    with Publisher(kafka, PublisherSettings(batch_rows=1)) as publisher:
        for record in traffic.records:
            if isinstance(record, Prediction):
                publisher.publish(record)
            else:
                publisher.publish_batch(record)


class Progress:
    """Over how many rows drift was measured, window by window; close it, or use `with`."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._reader = TopicReader(kafka, [topics.METRICS])
        self.rows = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def reach(self, wanted: int) -> None:
        """Wait until it is at least so many. Raises TooSlow."""
        deadline = time.monotonic() + PATIENCE
        while self.rows < wanted:
            if time.monotonic() > deadline:
                raise TooSlow(f"drift: {self.rows:,} of {wanted:,} rows after {PATIENCE:g} s")
            events = self._reader.events(0.05)
            self.rows += sum(
                event.rows for event in events if isinstance(event, DriftMeasured) and not event.partial
            )


def left_over(kafka: KafkaSettings, models: int = 1) -> int:
    """Rows that fill no micro-batch and no window yet, at most."""
    return models * (kafka.data_partitions * MICRO_BATCH + WINDOW)


@contextmanager
def asleep(workers: Sequence[Child]) -> Iterator[None]:
    """Nobody works meanwhile."""
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            os.kill(worker.pid, signal.SIGCONT)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all of its threads (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""The drift path through Apache Kafka and Faust: both stages in one worker, everything in it counted."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.bench import registry, traffic
from infra.bench.table import Row
from infra.brokers.kafka import KafkaBroker
from infra.processes import Child
from schemas.events import DriftMeasured
from schemas.settings import KafkaSettings, PublisherSettings, RegistrySettings, Settings
from streams import admin, topics
from streams.publisher import Publisher
from streams.reading import Reader

SINGLE_ROWS, PLAIN_ROWS, COLUMNAR_ROWS = 100_000, 15_000, 500_000
STAGES = ("summarising", "drift")
WARM_ROWS = 10_000
MICRO_BATCH, WINDOW = 32, 1024
PATIENCE = 180.0
_TICKS = os.sysconf("SC_CLK_TCK")


class TooSlow(RuntimeError):
    """A process that was measured didn't finish; says which and where it was."""


def measure() -> list[Row]:
    """Single events and columnar messages, the agent against the others on the same topic."""
    with tempfile.TemporaryDirectory() as folder, KafkaBroker.start(Path(folder) / "kafka") as broker:
        uri = registry.written(Path(folder) / "models")
        singles = _settings(broker.bootstrap, uri)
        ours = _stages(singles, SINGLE_ROWS, 1, Path(folder))
        bare, raw = (_other(kind, singles.kafka, SINGLE_ROWS // 2) for kind in ("bare", "aiokafka"))
        plain = _other("faust", singles.kafka, PLAIN_ROWS)
        columnar = _settings(broker.bootstrap, uri)
        batches = _stages(columnar, COLUMNAR_ROWS, 500, Path(folder))
        bare_batches = _other("bare", columnar.kafka, COLUMNAR_ROWS // 2, at_once=10)
    return [
        Row("single JSON events, both stages of drift", 1e6 / ours, "rows per CPU second"),
        Row("— bare confluent-kafka `consume(1000)`, orjson, numpy, no detection", 1e6 / bare, "rows"),
        Row("— aiokafka `getmany`, orjson, numpy, no detection", 1e6 / raw, "rows"),
        Row("— plain Faust agent, one river ADWIN a number and event", 1e6 / plain, "rows"),
        Row("single events: ours / bare loop", bare / ours, "x", ">= 0.5", bare / ours >= 0.5),
        Row("single events: ours / plain Faust", plain / ours, "x", ">= 15", plain / ours >= 15),
        Row(
            "columnar messages of 500 rows, both stages of drift",
            1e6 / batches,
            "rows per CPU second",
            ">= 400,000",
            1e6 / batches >= 400_000,
        ),
        Row("— bare confluent-kafka, orjson, numpy, no detection", 1e6 / bare_batches, "rows"),
        Row("columnar: ours / plain Faust", plain / batches, "x", ">= 40", plain / batches >= 40),
    ]


def _settings(bootstrap: str, registry_uri: str) -> Settings:
    # longer than the worker sleeps
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"b{uuid.uuid4().hex[:6]}-", session_timeout=60)
    admin.create_topics(kafka)
    return Settings(kafka=kafka, registry=RegistrySettings(tracking_uri=registry_uri))


def _stages(settings: Settings, rows: int, size: int, folder: Path) -> float:
    """CPU microseconds a row of `driftloop agents run summarising drift`, working off what is there.

    It has seen rows before, so that its imports aren't counted, and sleeps while the others are published.
    """
    left_over = settings.kafka.data_partitions * MICRO_BATCH + WINDOW  # rows that fill no window yet
    with _running(settings, folder) as worker, Reader(settings.kafka, [topics.METRICS]) as reader:
        _publish(settings.kafka, WARM_ROWS, size)
        done = _measured(reader, 0, WARM_ROWS - left_over)
        os.kill(worker.pid, signal.SIGSTOP)
        _publish(settings.kafka, rows, size)
        before = _cpu_seconds(worker.pid)
        os.kill(worker.pid, signal.SIGCONT)
        _measured(reader, done, WARM_ROWS + rows - left_over)
        return (_cpu_seconds(worker.pid) - before) / rows * 1e6


@contextmanager
def _running(settings: Settings, folder: Path) -> Iterator[Child]:
    written = folder / f"{settings.kafka.prefix}settings.json"
    written.write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "infra.cli", "--settings", str(written), "agents", "run", *STAGES]
    child = Child.start("drift", command, log=folder / "drift.log")
    try:
        yield child
    finally:
        child.stop()


def _publish(kafka: KafkaSettings, rows: int, size: int) -> None:
    with Publisher(kafka, PublisherSettings(batch_rows=1 if size == 1 else 500)) as publisher:
        if size == 1:
            for single in traffic.singles(rows):
                publisher.publish(single)
        else:
            for batch in traffic.batches(rows, size * kafka.data_partitions):
                publisher.publish_batch(batch)


def _measured(reader: Reader, done: int, wanted: int) -> int:
    """Wait until drift was measured over so many rows; returns over how many."""
    deadline = time.monotonic() + PATIENCE
    while done < wanted:
        if time.monotonic() > deadline:
            raise TooSlow(f"drift: {done:,} of {wanted:,} rows after {PATIENCE:g} s")
        done += sum(event.rows for event in reader.events(0.05) if isinstance(event, DriftMeasured))
    return done


def _other(kind: str, kafka: KafkaSettings, rows: int, at_once: int = 1000) -> float:
    arguments = [kind, kafka.bootstrap, kafka.prefix, str(rows), str(at_once)]
    command = [sys.executable, "-m", "infra.bench.consumers", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if answer.returncode:
        raise TooSlow(f"{kind}: {answer.stderr[-500:]}")
    return float(answer.stdout.split()[-1])


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and all of its threads (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS

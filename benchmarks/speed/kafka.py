"""The drift path through Apache Kafka and Faust: both stages in one worker, everything in it counted."""

import subprocess
import tempfile
from pathlib import Path

from benchmarks.speed import registry, traffic, workers
from benchmarks.speed.table import Row
from benchmarks.speed.workers import PATIENCE, TooSlow
from driftloop.infra.brokers.kafka import KafkaBroker
from driftloop.infra.processes.child import python_command
from driftloop.schemas.settings import KafkaSettings

SINGLE_ROWS, PLAIN_ROWS, COLUMNAR_ROWS = 100_000, 15_000, 500_000
WARM_ROWS = 10_000


def measure() -> list[Row]:
    """Single events and columnar messages, the agent against the others on the same topic."""
    with tempfile.TemporaryDirectory() as folder, KafkaBroker.start(Path(folder) / "kafka") as broker:
        uri = registry.write_models(Path(folder) / "models")
        singles, columnar = (workers.system(broker.bootstrap, uri) for _ in range(2))
        warm, rows = traffic.single_events(WARM_ROWS), traffic.single_events(SINGLE_ROWS)
        [ours] = workers.spent(singles, Path(folder), warm, rows)
        bare, raw = (_other(kind, singles.kafka, SINGLE_ROWS // 2) for kind in ("bare", "aiokafka"))
        plain = _other("faust", singles.kafka, PLAIN_ROWS)
        warm, rows = traffic.columnar(WARM_ROWS), traffic.columnar(COLUMNAR_ROWS)
        [batches] = workers.spent(columnar, Path(folder), warm, rows)
        bare_batches = _other("bare", columnar.kafka, COLUMNAR_ROWS // 2, at_once=10)
    ours, batches = ours / SINGLE_ROWS * 1e6, batches / COLUMNAR_ROWS * 1e6
    return [
        Row("single JSON events, both stages of drift", 1e6 / ours, "rows per CPU second"),
        Row("— bare confluent-kafka `consume(1000)`, orjson, numpy, no detection", 1e6 / bare, "rows"),
        Row("— aiokafka `getmany`, orjson, numpy, no detection", 1e6 / raw, "rows"),
        Row("— plain Faust agent, one river ADWIN a number and event", 1e6 / plain, "rows"),
        Row.at_least("single events: ours / bare loop", bare / ours, "x", 0.5),
        Row.at_least("single events: ours / plain Faust", plain / ours, "x", 15),
        Row.at_least(
            "columnar messages of 500 rows, both stages of drift",
            1e6 / batches,
            "rows per CPU second",
            400_000,
        ),
        Row(
            "— bare confluent-kafka, the same messages taken apart, no detection", 1e6 / bare_batches, "rows"
        ),
        Row.at_least("columnar: ours / plain Faust", plain / batches, "x", 40),
    ]


def _other(kind: str, kafka: KafkaSettings, rows: int, at_once: int = 1000) -> float:
    arguments = [kind, kafka.bootstrap, kafka.prefix, str(rows), str(at_once)]
    command = python_command("benchmarks.speed.consumers", *arguments)
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if answer.returncode:
        raise TooSlow(f"{kind}: {answer.stderr[-500:]}")
    return float(answer.stdout.split()[-1])

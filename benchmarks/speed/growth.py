"""What grows with partitions, workers, features and time, and what must not."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

from benchmarks.speed import registry, traffic, workers
from benchmarks.speed.memory import Memory
from benchmarks.speed.table import Row
from driftloop.infra.brokers.kafka import KafkaBroker
from driftloop.infra.processes.child import python_command

ROWS, WIDE_ROWS, WARM_ROWS = 200_000, 40_000, 10_000
MODELS = tuple("abcdefgh")
"""Stage two has a model on one worker, so two workers need two models at least."""
SHORT, LONG = 1_000_000, 10_000_000
"""Rows through one worker, by default and with `--long`."""
JOIN_SHORT, JOIN_LONG = 1_000_000, 5_000_000
"""Predictions and labels through one join, together."""
PATIENCE = 1200.0


def measure(long: bool = False) -> list[Row]:
    """Partitions, features and workers, then memory over many rows: as many as the goals name if `long`."""
    with tempfile.TemporaryDirectory() as name, KafkaBroker.start(Path(name) / "kafka") as broker:
        folder = Path(name)
        narrow = registry.write_models(folder / "narrow", models=(traffic.MODEL, *MODELS))
        wide = registry.write_models(folder / "wide", features=200)
        one, four, eight = (_a_row(broker.bootstrap, narrow, folder, count) for count in (1, 4, 8))
        [many] = _spent(broker.bootstrap, wide, folder, traffic.columnar(WIDE_ROWS, features=200))
        alone, both = (_throughput_of_workers(broker.bootstrap, narrow, folder, count) for count in (1, 2))
        held = _memory_of_a_worker(broker.bootstrap, narrow, folder, LONG if long else SHORT)
    return [
        *partition_rows(one, four, eight),
        Row("200 features", many / WIDE_ROWS * 1e6, "us/row"),
        Row.at_most("200 features / 20, CPU a row", many / WIDE_ROWS * 1e6 / four, "x", 11),
        *worker_rows(alone, both),
        *memory_rows("a drift worker", LONG if long else SHORT, held),
        *label_join_rows(JOIN_LONG if long else JOIN_SHORT),
    ]


def partition_rows(one: float, four: float, eight: float) -> list[Row]:
    """From CPU microseconds a row with so many partitions."""
    return [
        Row("1 partition, columnar, both stages of drift in one worker", 1e6 / one, "rows per CPU second"),
        Row("— 4 partitions", 1e6 / four, "rows per CPU second"),
        Row("— 8 partitions", 1e6 / eight, "rows per CPU second"),
        Row.at_least("8 partitions / 1, rows per CPU second", one / eight, "x", 0.9),
    ]


def worker_rows(alone: Sequence[float], both: Sequence[float]) -> list[Row]:
    """From CPU seconds of one worker and of two over the same rows.

    The busier of two decides when all is done, on cores of their own; what they share (the broker, a machine
    with too few cores) isn't theirs.
    """
    cores = os.cpu_count()
    return [
        Row.at_least(
            f"2 workers / 1, {len(MODELS)} models, by CPU (were each on a core of its own; here are {cores})",
            sum(alone) / max(both),
            "x",
            1.8,
        ),
        Row("— CPU of both together against one alone", sum(both) / sum(alone), "x"),
    ]


def memory_rows(whose: str, rows: int, held: Memory, early: str = "second tenth") -> list[Row]:
    """Memory once it has warmed up, and at the end."""
    return [
        Row(f"memory of {whose}, most of it in {rows:,} rows", held.most / 1e6, "MB"),
        Row.at_most(f"memory of {whose}, second half of {rows:,} rows / {early}", held.growth, "x", 1.1),
    ]


def label_join_rows(events: int) -> list[Row]:
    """The label join alone, in a process of its own."""
    command = python_command("benchmarks.speed.joining", str(events // 2))
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if answer.returncode:
        raise workers.TooSlow(f"label join: {answer.stderr[-500:]}")
    result = json.loads(answer.stdout)
    held = Memory(**result["memory"])
    return [
        Row.at_least(
            f"label join over {events:,} events", result["labels"], "labels per CPU second", 100_000
        ),
        Row.at_most("— rows that it keeps", result["kept"], "rows", result["bound"]),
        *memory_rows("the label join", events, held, early="the tenth after its horizon was full"),
    ]


def _spent(
    bootstrap: str,
    uri: str,
    folder: Path,
    backlog: traffic.Traffic,
    partitions: int = 4,
    count: int = 1,
) -> list[float]:
    settings = workers.system(bootstrap, uri, partitions)
    features = 200 if uri.endswith("wide") else 20
    models = MODELS if backlog.models > 1 else (traffic.MODEL,)
    warm = traffic.columnar(WARM_ROWS * len(models), partitions, features, models)
    return workers.spent(settings, folder, warm, backlog, count)


def _a_row(bootstrap: str, uri: str, folder: Path, partitions: int) -> float:
    """CPU microseconds of one worker."""
    backlog = traffic.columnar(ROWS, partitions)
    return sum(_spent(bootstrap, uri, folder, backlog, partitions)) / ROWS * 1e6


def _throughput_of_workers(bootstrap: str, uri: str, folder: Path, count: int) -> list[float]:
    return _spent(bootstrap, uri, folder, traffic.columnar(ROWS, models=MODELS), count=count)


def _memory_of_a_worker(bootstrap: str, uri: str, folder: Path, rows: int) -> Memory:
    """Rows are published while they are worked off, so that all of the memory is in use."""
    settings = workers.system(bootstrap, uri)
    lasting = traffic.lasting(rows, settings.kafka.data_partitions)
    samples: list[tuple[int, int]] = []
    with ExitStack() as stack:
        child = stack.enter_context(workers.running(settings, folder, "agents", "run", *workers.STAGES))
        progress = stack.enter_context(workers.Progress(settings.kafka))
        publishing = Thread(target=workers.publish, args=(settings.kafka, lasting), daemon=True)
        publishing.start()
        for step in range(1, 101):
            progress.reach(rows * step // 100 - workers.left_over(settings.kafka))
            samples.append((progress.rows, workers.resident_bytes(child.pid)))
        publishing.join()
    return Memory.of(samples)

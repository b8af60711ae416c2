"""What single requests cost the whole loop: router, replica, broker, agents; each label 500 rows later.

    python -m benchmarks.speed.load [--rows 12000] [--rate 0] [--folder DIR]

The stack runs as `driftloop up --broker kafka` starts it. The client is another process and isn't counted.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed import load_client, workers
from benchmarks.speed.table import Row
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.infra.facade import MLOpsPipeline
from driftloop.infra.processes.child import python_command
from driftloop.infra.processes.stack import Stack
from driftloop.infra.wiring.agents import AGENTS
from driftloop.mlops_core.data.examples import backfill
from driftloop.schemas.configs import DataConfig, DeploymentConfig, ModelConfig
from driftloop.streams.backlog import BacklogMonitor

MODEL = "elec"
FIRST_ROWS = 5_000
"""Rows of the first model."""
WARM_ROWS, ROWS = 1_500, 10_000
LOOK_SECONDS = 0.5
PATIENCE = 120.0
SETTINGS = {"retraining": {"cooldown_hours": 10_000_000.0, "doubling": False}}
"""No training, which would be measured with the rows and is not paid a row."""
PROCESSES = {
    "router": ("driftloop.infra.cli.app", "serve"),
    "replica": ("driftloop.infra.serving.replica",),
    "agents": ("driftloop.infra.cli.app", "agents"),
    "page": ("driftloop.infra.cli.app", "dashboard"),
    "broker": ("kafka.Kafka",),
}
"""Words of each process's command line."""


@dataclass(frozen=True)
class Loaded:
    """What a load came to."""

    asked: int
    answered: int
    seconds: float
    """From the first request to the last answer."""
    cpu: Mapping[str, float]
    """CPU seconds of each process, until all agents were done."""
    backlog: float
    """Seconds from the last answer until all agents were done."""
    records: int
    """Records that waited for agents at the last answer."""
    load: float
    """The machine's load average, one minute."""


def measure() -> list[Row]:
    """As fast as eight connections go, which is what two cores bear."""
    with tempfile.TemporaryDirectory() as folder:
        return rows_of(run(Path(folder), ROWS, 0.0))


def rows_of(found: Loaded) -> list[Row]:
    """The rows of the page."""
    total = sum(found.cpu.values())
    return [
        Row.at_least("single requests, answered", found.answered / found.seconds, "a second", 400),
        Row("— asked and not answered", found.asked - found.answered, f"of {found.asked}"),
        Row.at_most("— until the agents had done all of them", found.backlog, "s", 10),
        Row("— CPU of all processes but the client", total / found.answered * 1e6, "us/row"),
        *(
            Row(f"— of which {name}", spent / found.answered * 1e6, "us/row")
            for name, spent in found.cpu.items()
        ),
    ]


def run(folder: Path, rows: int, rate: float, hook: Sequence[str] = ()) -> Loaded:
    """Start everything, load it, and wait for the agents.

    `hook`: a command that is started with the agents' process id as its last argument while rows are asked.
    """
    with Stack.start(folder, "kafka", groups=SETTINGS, say=_say) as stack:
        asyncio.run(_first_model(stack))
        watch = BacklogMonitor(stack.settings.kafka, AGENTS)
        _ask(stack, FIRST_ROWS, WARM_ROWS, 0.0)
        _wait_for_agents(watch)
        found = processes()
        before = {name: workers.cpu_seconds(pid) for name, pid in found.items()}
        beside = subprocess.Popen([*hook, str(found["agents"])]) if hook else None
        result = _ask(stack, FIRST_ROWS + WARM_ROWS, rows, rate)
        waiting = _waiting(watch)
        backlog = _wait_for_agents(watch)
        cpu = {name: workers.cpu_seconds(pid) - before[name] for name, pid in found.items()}
        if beside is not None:
            beside.wait()
        watch.close()
    asked, answered = int(result["asked"]), int(result["answered"])
    return Loaded(asked, answered, result["seconds"], cpu, backlog, waiting, os.getloadavg()[0])


def processes() -> Mapping[str, int]:
    """The process ids of the stack's processes, by name: descendants of this one (Linux)."""
    commands = {pid: (parent, command) for pid, parent, command in _all_processes()}

    def ours(pid: int) -> bool:
        while pid in commands:
            pid = commands[pid][0]
            if pid == os.getpid():
                return True
        return False

    return {
        name: pid
        for pid, (_, command) in sorted(commands.items())
        for name, words in PROCESSES.items()
        if ours(pid) and all(word in command for word in words)
    }


def _all_processes() -> Sequence[tuple[int, int, Sequence[str]]]:
    """Process id, parent and command line of each."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().split("\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append((int(folder.name), parent, command))
    return found


async def _first_model(stack: Stack) -> None:
    values, labels = load_client.rows(0, FIRST_ROWS)
    ids = [f"first-{row}" for row in range(FIRST_ROWS)]
    at = [load_client.at(row) for row in range(FIRST_ROWS)]
    columns = dict(zip(load_client.FEATURES, values.T, strict=True))
    history = backfill(ids, at, labels.tolist(), columns)
    ParquetStore(stack.settings.store.folder).append(MODEL, "first", history)
    mlops = MLOpsPipeline(stack.settings)
    trained = await mlops.train_model(ModelConfig(name=MODEL), DataConfig())
    if trained.model_id is None:
        raise workers.TooSlow("the gate refused the first model")
    await mlops.deploy_model(trained.model_id, DeploymentConfig())


def _ask(stack: Stack, first: int, rows: int, rate: float) -> Mapping[str, float]:
    settings = stack.settings
    arguments = [
        settings.serving.url,
        settings.kafka.model_dump_json(),
        MODEL,
        str(first),
        str(rows),
        str(rate),
    ]
    command = python_command("benchmarks.speed.load_client", *arguments)
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if answer.returncode:
        raise workers.TooSlow(f"client: {answer.stderr[-500:]}")
    result: Mapping[str, float] = json.loads(answer.stdout)
    return result


def _waiting(watch: BacklogMonitor) -> int:
    """Records that wait for agents now."""
    done, ends = watch.offsets()
    return sum(max(0, ends[place] - at) for offsets in done.values() for place, at in offsets.items())


def _wait_for_agents(watch: BacklogMonitor) -> float:
    """Wait until every agent has done what there is; the seconds that it took."""
    began = time.monotonic()
    while _waiting(watch):
        if time.monotonic() > began + PATIENCE:
            raise workers.TooSlow(f"{_waiting(watch):,} records wait for agents after {PATIENCE:g} s")
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - began


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)  # noqa: T201


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what a load came to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.load")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument(
        "--rate", type=float, default=0.0, help="requests a second; 0: as fast as answers come"
    )
    parser.add_argument("--folder", type=Path, help="keep the stack's folder here")
    parser.add_argument("--hook", default="", help="a command to run with the agents' process id")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        found = run(asked.folder or Path(temporary), asked.rows, asked.rate, asked.hook.split())
    for row in rows_of(found):
        print(f"{row.what:60} {row.figure:10,.1f} {row.unit}")  # noqa: T201
    print(f"{found.records:,} records waited at the last answer; load average {found.load:.1f}")  # noqa: T201


if __name__ == "__main__":
    main()

"""How long a person waits for the command line."""

import subprocess
import time

from benchmarks.speed.table import Row
from driftloop.infra.processes.child import python_command

TRIES = 5


def measure() -> list[Row]:
    """The quickest of a few: what the machine did beside it isn't ours."""
    took = min(_once() for _ in range(TRIES))
    return [Row.at_most("`driftloop --help`", took, "s", 0.3)]


def _once() -> float:
    began = time.perf_counter()
    subprocess.run(python_command("driftloop.infra.cli.app", "--help"), capture_output=True, check=True)
    return time.perf_counter() - began

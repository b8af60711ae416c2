"""Agents multiply small matrices in one thread: many would spend the CPU waiting for each other."""

import os
import subprocess
import sys

import pytest

ASKED = """
import sys
from driftloop.infra.cli import app, console
from driftloop.schemas.settings import Settings
Settings.load(None)
assert "numpy" not in sys.modules, "too late: numpy has its threads already"
console.limit_blas_threads()
import numpy, threadpoolctl
print(max(one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"))
"""


@pytest.mark.parametrize(("environment", "threads"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)])
def test_one_unless_the_environment_says_otherwise(environment: dict[str, str], threads: int) -> None:
    known = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    answer = subprocess.run(
        [sys.executable, "-c", ASKED],
        env=known | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) == min(threads, os.cpu_count() or 1)

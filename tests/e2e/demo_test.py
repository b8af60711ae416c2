"""The whole loop, as `make demo ARGS=--fast` runs it: on real data, with real parts."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driftloop.infra.processes.child import python_command

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def mark() -> str:
    """Marks the processes of one demo, by its folder's name."""
    return f"demo-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def left(mark: str, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / mark
    deadline = time.monotonic() + 15
    while (alive := _processes_of(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive, f"processes left behind: {alive}"


def _processes_of(mark: str) -> list[str]:
    """Command lines, working folders included, of living processes that belong to the demo called `mark`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            told += f" in {(process / 'cwd').readlink()}"
        except OSError:
            continue  # ended meanwhile
        if mark in told:
            found.append(told)
    return found


def demo(folder: Path) -> "subprocess.Popen[str]":
    command = python_command("driftloop.infra.cli.app", "demo", "--fast", "--folder", str(folder))
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="what is left behind is looked up in /proc")
def test_the_loop_closes_by_itself_and_a_bad_challenger_is_rolled_back(left: Path) -> None:
    running = demo(left)
    said, _ = running.communicate()
    print(said)  # noqa: T201 - the story, for whoever reads a failed run
    assert running.returncode == 0
    assert "The loop closed." in said
    assert re.search(r"events lost +0\n", said)
    promoted, rolled_back = (
        said.rindex(f"{kind}  flights") for kind in ("RolloutPromoted", "RolloutRolledBack")
    )
    for chain in (said[promoted:rolled_back], said[rolled_back:]):
        kinds = re.findall(r"└─ \S+ \S+  (\w+)", chain)
        assert kinds[-1] in ("DriftMeasured", "PerformanceMeasured")
        assert {"DriftDetected", "RetrainRequested", "TrainingCompleted", "ModelRegistered"} <= set(kinds)


@pytest.mark.skipif(sys.platform != "linux", reason="what is left behind is looked up in /proc")
def test_ctrl_c_leaves_no_process_behind(left: Path) -> None:
    running = demo(left)
    assert running.stdout is not None
    for line in running.stdout:
        if "deployed:" in line:
            break
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert "interrupted; everything is stopped" in said
    assert running.returncode == 130

"""`driftloop up`: what a newcomer meets first, and at the second start."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

COMMAND = [sys.executable, "-P", "-m", "driftloop.infra.cli.app"]
READY_SECONDS = 180


@contextmanager
def up(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A stack that runs in the folder, and what it printed."""
    log = folder / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*COMMAND, "up"], cwd=folder, stdout=output, stderr=output, text=True, env=_environment()
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while "In another terminal" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process, log.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command, named = [*COMMAND, *words], _environment()
    return subprocess.run(
        command, cwd=folder, env=named, capture_output=True, text=True, timeout=120, check=False
    )


def _environment() -> dict[str, str]:
    """Without settings of the person who runs the tests; unbuffered, so that a log is as new as can be."""
    foreign = ("DRIFTLOOP_", "KAFKA_BOOTSTRAP")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def settings(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((folder / ".driftloop/up/settings.json").read_text())
    return found


def test_a_stack_is_alone_in_its_folder_is_found_by_commands_and_keeps_its_ports(tmp_path: Path) -> None:
    with up(tmp_path) as (process, printed):
        first = settings(tmp_path)
        page = f"http://127.0.0.1:{first['dashboard']['port']}"
        assert f"Live page at {page}" in printed
        assert "driftloop publish" in printed
        second = run(tmp_path, "up")
        assert second.returncode == 1
        assert f"(process {process.pid} since " in second.stderr
        assert f"its page is {page}" in second.stderr
        assert settings(tmp_path) == first, "the settings of the running stack are untouched"
        label = '{"type": "label", "model": "m", "id": "a", "at": 1767225600000, "label": 1}'
        (tmp_path / "labels.jsonl").write_text(label)
        assert run(tmp_path, "publish", "labels.jsonl").stdout == "published 1 records\n"
        assert "registered: none so far" in run(tmp_path, "retrain", "nosuch").stderr
        assert httpx.get(f"{page}/healthz").is_success
        _kill_child(process.pid, "agents", "run")
        deadline = time.monotonic() + 20
        while "agents ended with code -9" not in (tmp_path / "up.log").read_text():
            assert time.monotonic() < deadline, (tmp_path / "up.log").read_text()
            time.sleep(0.1)
    with up(tmp_path):
        again = settings(tmp_path)
    for group in ("serving", "dashboard"):
        assert again[group]["port"] == first[group]["port"]


def _kill_child(parent: int, *words: str) -> None:
    """Kill the child of the process whose command line has these words."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (entry / "stat").read_text(), (entry / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if int(status.rpartition(")")[2].split()[1]) == parent and set(words) <= set(command):
            os.kill(int(entry.name), signal.SIGKILL)
            return
    raise AssertionError(f"no child of {parent} runs {words}")


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "driftloop.yaml").write_text(f"serving:\n  port: {port}\n")
        ended = run(tmp_path, "--settings", "driftloop.yaml", "up")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: serving.port {port}: another process listens there")
    assert not (tmp_path / ".driftloop/up/mlflow").exists()


@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_a_broker_that_the_settings_name_is_never_ignored(tmp_path: Path, broker: str) -> None:
    (tmp_path / "driftloop.yaml").write_text("kafka:\n  bootstrap: 127.0.0.1:9\n")
    ended = run(tmp_path, "--settings", "driftloop.yaml", "up", "--broker", broker)
    assert ended.returncode == 1
    assert "kafka.bootstrap names 127.0.0.1:9; leave one of both out" in ended.stderr

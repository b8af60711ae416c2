"""Commands answer within seconds, in one line, when what they talk to isn't there or isn't known."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from driftloop.infra.adapters import folder_reader
from driftloop.infra.facade import MLOpsPipeline
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.errors import NotFound, Unavailable
from driftloop.schemas.configs import DataConfig, ModelConfig
from driftloop.schemas.settings import Settings
from tests.support.serving_processes import fitted

NOWHERE = "127.0.0.1:9"
CLIENTS = {
    "topics": ["topics"],
    "lineage": ["lineage"],
    "dead-letters": ["dead-letters"],
    "retrain": ["retrain", "flights"],
    "deploy": ["deploy", "flights", "1"],
    **{
        f"rollout {name}": ["rollout", name, "flights"]
        for name in ("pause", "resume", "abort", "pin", "unpin")
    },
}
"""Commands that are clients of a running system; the others start a part of one, or read files."""
SECONDS = 20
"""Twice what an answer may take on a busy machine; the wait for a broker is 5 s."""


@pytest.fixture
def registry(tmp_path: Path) -> str:
    """A folder of models that has one, `flights`."""
    profile = Profile.of({"miles": np.arange(99.0)}, np.linspace(0, 1, 99))
    folder_reader.save(tmp_path / "models", "flights", "1", fitted(), profile)
    return (tmp_path / "models").as_uri()


def run(*arguments: str, registry: str, bootstrap: str = NOWHERE) -> tuple[int, str, float]:
    """Exit code, stderr and seconds of a command."""
    named = {"DRIFTLOOP_REGISTRY__TRACKING_URI": registry, "DRIFTLOOP_KAFKA__BOOTSTRAP": bootstrap}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "driftloop.infra.cli.app", *arguments],
        env={**os.environ, **named},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.returncode, ended.stderr, time.monotonic() - began


def test_every_command_is_a_client_or_starts_something() -> None:
    from driftloop.infra.cli import inspect, requests

    commands = [*inspect.app.registered_commands, *requests.app.registered_commands]
    known = {
        *(one.name or one.callback.__name__ for one in commands if one.callback),
        *(f"rollout {one.name}" for one in requests.rollout.registered_commands),
    }
    assert known == set(CLIENTS)


@pytest.mark.parametrize("command", CLIENTS)
def test_without_a_broker_a_command_says_so_in_one_line_within_seconds(command: str, registry: str) -> None:
    code, said, seconds = run(*CLIENTS[command], registry=registry)
    assert code == 1
    assert said.startswith(f"error: no Kafka broker answers at {NOWHERE} within 5 s")
    assert len(said.splitlines()) == 1
    assert seconds < SECONDS


@pytest.mark.parametrize(
    "command", [name for name in CLIENTS if name.startswith("rollout") or name == "retrain"]
)
def test_a_model_that_nobody_registered_is_refused_with_those_that_there_are(
    command: str, registry: str
) -> None:
    words = [word if word != "flights" else "nosuch" for word in CLIENTS[command]]
    code, said, _ = run(*words, registry=registry)
    assert (code, said) == (
        1,
        f"error: no model 'nosuch' is registered at {registry}; registered: flights\n",
    )


def test_an_abort_does_not_wait_for_a_registry_that_is_away() -> None:
    code, said, _ = run("rollout", "abort", "flights", registry="http://127.0.0.1:9")
    assert code == 1
    assert "the name flights is not checked: MLflow at http://127.0.0.1:9" in said
    assert "error: no Kafka broker answers" in said, "so the request was on its way"


def pipeline(registry: str) -> MLOpsPipeline:
    return MLOpsPipeline(Settings.load(kafka={"bootstrap": NOWHERE}, registry={"tracking_uri": registry}))


def test_figures_of_a_version_that_is_not_there_are_refused(registry: str) -> None:
    with pytest.raises(NotFound, match="flights:99"):
        asyncio.run(pipeline(registry).monitor_model("flights:99"))


def test_a_call_of_the_facade_with_a_wrong_port_ends_within_seconds(registry: str, tmp_path: Path) -> None:
    data = tmp_path / "history.csv"
    rows = [f"{n},{n % 2},{1_700_000_000_000 + n}" for n in range(600)]
    data.write_text("x,label,at\n" + "\n".join(rows))
    began = time.monotonic()
    with pytest.raises(Unavailable, match=f"no Kafka broker answers at {NOWHERE}"):
        asyncio.run(pipeline(registry).train_model(ModelConfig(name="flights"), DataConfig(path=data)))
    assert time.monotonic() - began < SECONDS

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
from driftloop.schemas import topics
from driftloop.schemas.configs import DataConfig, ModelConfig
from driftloop.schemas.records import Batch
from driftloop.schemas.settings import KafkaSettings, Settings
from driftloop.streams import admin
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec
from tests.support import serving_processes as rig
from tests.support.serving_processes import MODEL, HostProcess, fitted

NOWHERE = "127.0.0.1:9"
CLIENTS = {
    "topics": ["topics"],
    "lineage": ["lineage"],
    "dead-letters": ["dead-letters"],
    "publish": ["publish"],
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
        input="",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.returncode, ended.stderr, time.monotonic() - began


def test_every_command_is_a_client_or_starts_something() -> None:
    from driftloop.infra.cli import inspect, requests, send

    groups = (inspect, requests, send)
    commands = [one for group in groups for one in group.app.registered_commands]
    known = {
        *(one.name or one.callback.__name__ for one in commands if one.callback),
        *(f"rollout {one.name}" for one in requests.rollout.registered_commands),
    }
    assert known == {*CLIENTS, "predict"}, "predict talks to the serving host, see below"


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


def test_published_lines_arrive_and_each_that_cannot_be_read_is_named(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    admin.create_topics(kafka_settings)
    good = [f'{{"type": "label", "model": "m", "id": "id-{n}", "at": {n}, "label": 1}}' for n in range(50)]
    lines = [*good[:20], "{not JSON", '{"type": "label", "model": "m"}', "", *good[20:]]
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(lines))
    ended = subprocess.run(
        [sys.executable, "-m", "driftloop.infra.cli.app", "publish", str(file)],
        env={
            **os.environ,
            "DRIFTLOOP_KAFKA__BOOTSTRAP": kafka_settings.bootstrap,
            "DRIFTLOOP_KAFKA__PREFIX": kafka_settings.prefix,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "published 50 records, refused 2 lines\n")
    assert [line.partition(":")[0] for line in ended.stderr.splitlines()] == ["line 21", "line 22"]
    found: set[str] = set()
    deadline = time.monotonic() + 20
    with TopicReader(kafka_settings, [topics.LABELS]) as reader:
        while len(found) < 50 and time.monotonic() < deadline:
            for _, message in reader.poll(0.2):
                record = codec.decode_record(message.value())
                found |= set(record.ids) if isinstance(record, Batch) else {record.id}
    assert found == {f"id-{n}" for n in range(50)}


def test_a_prediction_is_asked_for_and_printed_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    uri = rig.models(tmp_path / "models", "1")
    host = HostProcess(tmp_path, uri, KafkaSettings(bootstrap=NOWHERE))
    try:
        host.up("1")
        host.weigh(v1=100)
        served = {**os.environ, "DRIFTLOOP_SERVING__PORT": host.url.rpartition(":")[2]}

        def predict(*words: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "driftloop.infra.cli.app", "predict", *words]
            return subprocess.run(
                command, env=served, capture_output=True, text=True, timeout=60, check=False
            )

        answered = predict(MODEL, '{"miles": 900, "origin": "JFK"}', "--id", "tx-1")
        assert (answered.returncode, answered.stderr) == (0, "")
        assert answered.stdout.endswith("  id tx-1  version 1\n")
        assert predict(MODEL, "{miles").stderr.startswith("error: features are no JSON")
        assert "nosuch" in predict("nosuch", "{}").stderr
    finally:
        host.stop()
    assert predict(MODEL, "{}").stderr.startswith("error: no serving host answers at http://127.0.0.1:")

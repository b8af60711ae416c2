"""Real replicas and hosts for the serving tests, on models that lie in a folder."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from driftloop.infra.adapters import folder_reader
from driftloop.infra.processes.child import Child, free_port, listening, python_command
from driftloop.mlops_core.data.features import FeatureSpec
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.schemas.settings import KafkaSettings
from tests.support.paths import ROOT

MODEL = "flights"
ENV = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
NOBODY = "127.0.0.1:9"
"""A Kafka that isn't there."""


@cache
def fitted() -> Fitted:
    """A small model of late flights: far is late, and JFK is later."""
    import xgboost

    rng = np.random.default_rng(0)
    miles, origin = rng.uniform(0, 1000, 400), rng.choice(["JFK", "LGA"], 400)
    columns = {"miles": miles, "origin": origin.astype(object)}
    spec = FeatureSpec.infer(columns)
    data = xgboost.DMatrix(
        spec.encode(columns, 400),
        label=(miles + 300 * (origin == "JFK") > 600).astype(float),
        feature_types=spec.types,
        enable_categorical=True,
    )
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5)
    return Fitted(Task.BINARY, "xgboost", bytes(booster.save_raw("ubj")), spec)


def models(folder: Path, versions: str = "123") -> str:
    """A folder with these versions of the model, and version 9, whose bytes are no model; its address."""
    for version in versions:
        folder_reader.save(folder, MODEL, version, fitted())
    folder_reader.save(folder, MODEL, "9", Fitted(Task.BINARY, "xgboost", b"no model", fitted().features))
    return folder.as_uri()


def body(count: int = 1, first: int = 0, **changes: object) -> dict[str, Any]:
    """A request for `/predict`: rows of entities `e0`, `e1`, ..., their ids `id-0`, `id-1`, ..."""
    rows = [
        {
            "id": f"id-{number}",
            "entity": f"e{number}",
            "at": 1_000 + number,
            "features": {"miles": float(number % 1000), "origin": "JFK"} | changes,
        }
        for number in range(first, first + count)
    ]
    return {"model": MODEL, "rows": rows}


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition; it has to come true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.02)


def status(url: str) -> int:
    """Status of a GET; 0 where nobody answers."""
    try:
        return httpx.get(url, timeout=2.0).status_code
    except httpx.TransportError:
        return 0


@contextmanager
def replica(folder: Path, uri: str, kafka: KafkaSettings, version: str = "1") -> Iterator[tuple[Child, str]]:
    """A replica process and its address; not necessarily ready."""
    port = free_port()
    command = python_command("driftloop.infra.serving.replica", "--model", MODEL, "--version", version)
    command += ["--port", str(port), "--tracking-uri", uri, "--kafka", kafka.model_dump_json()]
    child = Child.start("replica", command, folder / "replica.log", env=ENV)
    try:
        yield child, f"http://127.0.0.1:{port}"
    finally:
        child.stop()


class HostProcess:
    """A serving host in a process of its own, with a client for it."""

    def __init__(self, folder: Path, uri: str, kafka: KafkaSettings) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=30.0)
        settings = {
            "kafka": kafka.model_dump(),
            "registry": {"tracking_uri": uri},
            "serving": {"port": self.port, "folder": str(folder / "serving")},
        }
        self._settings = folder / "settings.json"
        self._settings.write_text(json.dumps(settings))
        self.start()

    def start(self) -> None:
        """Start it (again) and wait until it listens."""
        command = python_command("driftloop.infra.serving.host", "--settings", str(self._settings))
        self.child = Child.start("host", command, self._folder / "host.log", env=ENV)
        self.child.wait_until(
            lambda: listening(self.port) and status(f"{self.url}/v2/health/live") == 200, 30
        )

    def up(self, version: str, replicas: int = 1) -> None:
        """Have a version ready."""
        page = f"/admin/models/{MODEL}/versions/{version}"
        until(lambda: self.client.put(page, json={"replicas": replicas}).status_code == 200)

    def weigh(self, **weights: int) -> httpx.Response:
        """Set weights: `weigh(v1=90, v2=10)`."""
        shares = {version.removeprefix("v"): weight for version, weight in weights.items()}
        return self.client.put(f"/admin/models/{MODEL}/weights", json=shares)

    def down(self, version: str) -> httpx.Response:
        """Retire a version."""
        return self.client.delete(f"/admin/models/{MODEL}/versions/{version}")

    def told(self) -> dict[str, Any]:
        """What the host says about the model."""
        answer: dict[str, Any] = self.client.get(f"/admin/models/{MODEL}").json()
        return answer

    def predict(self, count: int = 1) -> httpx.Response:
        """Ask for rows."""
        return self.client.post("/predict", json=body(count))

    def answered_by(self, count: int = 200) -> dict[str, str]:
        """Which version answers which id."""
        predictions = self.predict(count).json()["predictions"]
        return {one["id"]: one["version"] for one in predictions}

    def pids(self, version: str) -> list[int]:
        """Its replicas' processes."""
        return [one["pid"] for one in self.told()["versions"][version]["replicas"] if one["pid"]]

    def crash(self, version: str) -> None:
        """Kill its replicas, as the kernel does when memory is short."""
        for pid in self.pids(version):
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self.client.close()
        self.child.stop(30)


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True

"""What a replica costs beside its model, and how soon traffic is back on the old version."""

import asyncio
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson

from benchmarks.speed import traffic, workers
from benchmarks.speed.table import Row
from driftloop.infra.adapters import folder_reader
from driftloop.infra.brokers.kafka import KafkaBroker
from driftloop.infra.processes.child import Child, free_port, listening, python_command
from driftloop.infra.serving.target import LocalTarget
from driftloop.mlops_core.data.features import FeatureSpec
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.schemas.settings import ServingSettings, Settings

TREES = 200
REQUESTS, WARM_REQUESTS = 3_000, 300
BODIES = 200
VERSIONS = ("1", "2")
ROLLBACKS = 10
CALM = 0.3
"""Seconds of traffic on both versions before each rollback, and on the old one after it."""
READY_SECONDS = 60.0


def measure() -> list[Row]:
    """One row over HTTP, by CPU of the answering process; then rollbacks under traffic."""
    with tempfile.TemporaryDirectory() as name, KafkaBroker.start(Path(name) / "kafka") as broker:
        folder = Path(name)
        models = folder / "models"
        for version in VERSIONS:
            folder_reader.save(models, traffic.MODEL, version, measured_model())
        settings = workers.system(broker.bootstrap, models.as_uri())
        with _bare(models, folder) as (child, port):
            bare = _a_request(child, port)
        with _replica(settings, folder) as (child, port):
            ours = _a_request(child, port)
        took = _rollbacks(settings, folder)
    return serving_rows(bare, ours, took)


def serving_rows(bare: float, ours: float, rollbacks: Sequence[float]) -> list[Row]:
    """From CPU microseconds a request, and seconds of each rollback."""
    return [
        Row(f"raw ASGI app, `inplace_predict` of {TREES} trees, one row a request", bare, "us"),
        Row("replica, the same, checked, counted and on its way to Kafka", ours, "us"),
        Row.at_most("replica / raw ASGI app", ours / bare, "x", 1.1),
        Row.at_most(
            f"rollback: host told -> last answer of the version rolled back, worst of {len(rollbacks)}",
            max(rollbacks),
            "s",
            2,
        ),
    ]


def measured_model() -> Fitted:
    """A model of the rows that are measured everywhere here."""
    import xgboost

    rows = 5_000
    columns = traffic.columns(rows)
    spec = FeatureSpec.infer(columns)
    truth = (np.asarray(columns["n0"]) + np.random.default_rng(3).normal(size=rows) > 0).astype(float)
    data = xgboost.DMatrix(
        spec.encode(columns, rows), label=truth, feature_types=spec.types, enable_categorical=True
    )
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, TREES)
    return Fitted(Task.BINARY, "xgboost", bytes(booster.save_raw("ubj")), spec)


def bodies() -> list[bytes]:
    """Requests for one row each."""
    return [
        orjson.dumps(
            {"model": traffic.MODEL, "rows": [{"id": row.id, "entity": row.id, "features": row.features}]}
        )
        for row in traffic.singles(BODIES)
    ]


@contextmanager
def _bare(models: Path, folder: Path) -> Iterator[tuple[Child, int]]:
    port = free_port()
    command = python_command(
        "benchmarks.speed.bare_replica",
        str(models),
        traffic.MODEL,
        VERSIONS[0],
        str(port),
    )
    with _answering(Child.start("raw ASGI app", command, folder / "bare.log"), port) as child:
        yield child, port


@contextmanager
def _replica(settings: Settings, folder: Path) -> Iterator[tuple[Child, int]]:
    port = free_port()
    command = python_command(
        "driftloop.infra.serving.replica",
        "--model",
        traffic.MODEL,
        "--version",
        VERSIONS[0],
    )
    command += ["--port", str(port), "--tracking-uri", settings.registry.tracking_uri]
    command += ["--kafka", settings.kafka.model_dump_json()]
    with _answering(Child.start("replica", command, folder / "replica.log"), port) as child:
        yield child, port


@contextmanager
def _answering(child: Child, port: int) -> Iterator[Child]:
    """The child once it answers a row, until the block ends."""
    try:
        child.wait_until(
            lambda: listening(port) and _version_that_answers(port, bodies()[0]) is not None, READY_SECONDS
        )
        yield child
    finally:
        child.stop()


def _version_that_answers(port: int, body: bytes) -> str | None:
    """Which version answered; None if none did."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        return _ask(connection, body)
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, body: bytes) -> str | None:
    connection.request("POST", "/predict", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    return str(json.loads(body)["predictions"][0]["version"]) if answer.status == http.HTTPStatus.OK else None


def _a_request(child: Child, port: int) -> float:
    """CPU microseconds of the child."""
    connection, turns = http.client.HTTPConnection("127.0.0.1", port, timeout=10), bodies()
    for number in range(WARM_REQUESTS):
        _ask(connection, turns[number % BODIES])
    began = workers.cpu_seconds(child.pid)
    for number in range(REQUESTS):
        if _ask(connection, turns[number % BODIES]) is None:
            raise workers.TooSlow(f"{child.name}: request {number} was not answered\n{child.tail()}")
    took = workers.cpu_seconds(child.pid) - began
    connection.close()
    return took / REQUESTS * 1e6


def _rollbacks(settings: Settings, folder: Path) -> list[float]:
    serving = ServingSettings(port=free_port(), folder=folder / "serving")
    with workers.running(settings.model_copy(update={"serving": serving}), folder, "serve") as host:
        host.wait_until(lambda: listening(serving.port), READY_SECONDS)
        return asyncio.run(_rolled_back(LocalTarget(serving.url), serving.port))


async def _rolled_back(target: LocalTarget, port: int) -> list[float]:
    """Seconds of each rollback from half of the traffic."""
    old, new = VERSIONS
    for version in VERSIONS:
        await target.ensure(traffic.MODEL, version, 1)
    took = []
    for _ in range(ROLLBACKS):
        await target.shift(traffic.MODEL, {old: 50, new: 50})
        answers = Answers(port)
        await asyncio.sleep(CALM)
        began = time.monotonic()
        await target.shift(traffic.MODEL, {old: 100})
        done = time.monotonic()
        await asyncio.sleep(CALM)
        took.append(max(done, answers.stop()[new]) - began)
    return took


class Answers:
    """Asks all the time, row after row; knows when each version answered last."""

    def __init__(self, port: int) -> None:
        self._last: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on, args=(port,))
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """Stop asking; seconds by `time.monotonic`, by version."""
        self._stopping.set()
        self._thread.join()
        return self._last

    def _go_on(self, port: int) -> None:
        connection, turns = http.client.HTTPConnection("127.0.0.1", port, timeout=10), bodies()
        number = 0
        while not self._stopping.is_set():
            version = _ask(connection, turns[number % BODIES])
            if version is not None:
                self._last[version] = time.monotonic()
            number += 1
        connection.close()

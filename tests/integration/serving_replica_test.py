"""A replica: real process, real model, real Kafka."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from driftloop.infra.adapters.mlflow.registry import MLflowRegistry
from driftloop.infra.adapters.mlflow.server import MLflowServer
from driftloop.infra.brokers.embedded import EmbeddedBroker
from driftloop.infra.processes.child import Child
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.ports import Candidate
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer
from driftloop.schemas import topics
from driftloop.schemas.events import GateEvidence
from driftloop.schemas.records import Batch, Prediction
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import admin
from driftloop.streams.producer import serializer
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec
from driftloop.streams.wire.batches import Single
from tests.support import serving_processes as rig
from tests.support.serving_processes import MODEL, NOBODY


@pytest.fixture
def serving(tmp_path: Path, kafka_settings: KafkaSettings) -> Iterator[tuple[Child, httpx.Client]]:
    admin.create_topics(kafka_settings)
    with (
        rig.replica(tmp_path, rig.models(tmp_path / "models"), kafka_settings) as (child, url),
        httpx.Client(base_url=url, timeout=10.0) as client,
    ):
        child.wait_until(lambda: rig.status(f"{url}/v2/health/ready") == 200, 30)
        yield child, client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A replica whose Kafka is away."""
    folder = tmp_path_factory.mktemp("replica")
    uri = rig.models(folder / "models")
    with (
        rig.replica(folder, uri, KafkaSettings(bootstrap=NOBODY)) as (child, url),
        httpx.Client(base_url=url, timeout=10.0) as client,
    ):
        child.wait_until(lambda: rig.status(f"{url}/v2/health/ready") == 200, 30)
        yield client


def published(kafka: KafkaSettings) -> list[Single]:
    rows: list[Single] = []
    with TopicReader(kafka, [topics.PREDICTIONS]) as reader:
        while not reader.caught_up:
            for _, message in reader.poll(0.1):
                read = codec.decode_record(message.value())
                rows += serializer.single_records(read) if isinstance(read, Batch) else [read]
    return rows


def test_every_answer_is_published(
    serving: tuple[Child, httpx.Client], kafka_settings: KafkaSettings
) -> None:
    child, client = serving
    answer = client.post("/predict", json=rig.body(50)).json()
    one = {"model": MODEL, "rows": [{"features": {"miles": 10}}]}
    generated = client.post("/predict", json=one).json()["predictions"][0]
    child.stop()
    rows = {
        row.id: (row.score, row.version, row.features["miles"])
        for row in published(kafka_settings)
        if isinstance(row, Prediction)
    }
    assert rows == {
        one["id"]: (one["score"], "1", float(number)) for number, one in enumerate(answer["predictions"])
    } | {generated["id"]: (generated["score"], "1", 10)}


def test_sigterm_ends_a_replica_with_code_0(serving: tuple[Child, httpx.Client]) -> None:
    child, client = serving
    client.post("/predict", json=rig.body())
    child.stop()
    assert child.exit_code == 0


def test_an_answer_does_not_wait_for_an_absent_broker(client: httpx.Client) -> None:
    answer = client.post("/predict", json=rig.body(), timeout=2.0)
    assert answer.status_code == 200


def test_a_broker_that_hangs_does_not_slow_the_answers(tmp_path: Path) -> None:
    with EmbeddedBroker.start(tmp_path / "broker") as broker:
        kafka = KafkaSettings(bootstrap=broker.bootstrap)
        admin.create_topics(kafka)
        uri = rig.models(tmp_path / "models")
        with rig.replica(tmp_path, uri, kafka) as (child, url), httpx.Client(base_url=url) as client:
            child.wait_until(lambda: rig.status(f"{url}/v2/health/ready") == 200, 30)
            before = median_seconds(client, 300)
            os.kill(broker.pid, signal.SIGSTOP)
            during = median_seconds(client, 300)
            os.kill(broker.pid, signal.SIGCONT)
    print(f"an answer: {before * 1e3:.2f} ms; Kafka hangs: {during * 1e3:.2f} ms")  # noqa: T201
    assert during < 3 * before + 0.01


def median_seconds(client: httpx.Client, requests: int) -> float:
    took = []
    for _ in range(requests):
        began = time.perf_counter()
        assert client.post("/predict", json=rig.body()).status_code == 200
        took.append(time.perf_counter() - began)
    return float(np.median(took))


def test_both_protocols_give_the_same_scores(client: httpx.Client) -> None:
    rows = rig.body(3)["rows"]
    plain = client.post("/predict", json={"model": MODEL, "rows": rows}).json()["predictions"]
    inputs = [
        {"name": "miles", "datatype": "FP32", "shape": [3], "data": [0.0, 1.0, 2.0]},
        {"name": "origin", "datatype": "BYTES", "shape": [3, 1], "data": [["JFK"], ["JFK"], ["JFK"]]},
    ]
    answer = client.post(f"/v2/models/{MODEL}/infer", json={"id": "r-1", "inputs": inputs}).json()
    assert answer["id"] == "r-1"
    assert (answer["model_name"], answer["model_version"]) == (MODEL, "1")
    assert answer["outputs"][0]["data"] == [one["score"] for one in plain]


def test_a_categorys_unknown_value_and_a_missing_feature_are_answered(client: httpx.Client) -> None:
    answer = client.post("/predict", json=rig.body(miles=None, origin="XXX"))
    assert 0 < answer.json()["predictions"][0]["score"] < 1


@pytest.mark.parametrize(
    ("page", "sent", "code", "said"),
    [
        ("/predict", b"{", 400, "JSON"),
        ("/predict", b'{"model": "churn", "rows": [{"features": {"miles": 1}}]}', 404, "'flights' is"),
        (
            "/predict",
            b'{"model": "flights", "rows": [{"features": {"m": 1}}]}',
            422,
            "they are miles, origin",
        ),
        (
            "/predict",
            b'{"model": "flights", "rows": [{"features": {"miles": "far"}}]}',
            422,
            "'miles', row 0",
        ),
        ("/v2/models/flights/infer", b'{"inputs": []}', 422, "inputs"),
        ("/v2/models/flights/versions/2/infer", b'{"inputs": []}', 404, "no page"),
    ],
)
def test_bad_input_is_refused_with_a_reason(
    client: httpx.Client, page: str, sent: bytes, code: int, said: str
) -> None:
    answer = client.post(page, content=sent)
    assert answer.status_code == code
    assert said in answer.json()["error"]


def test_metadata_names_the_inputs(client: httpx.Client) -> None:
    told = client.get(f"/v2/models/{MODEL}").json()
    assert [(one["name"], one["datatype"]) for one in told["inputs"]] == [
        ("miles", "FP64"),
        ("origin", "BYTES"),
    ]


def test_metrics_count_requests_and_latency(client: httpx.Client) -> None:
    client.post("/predict", json=rig.body())
    text = client.get("/metrics").text
    assert re.search(r'driftloop_replica_requests_total\{status="200"\} [1-9]', text)
    assert "driftloop_replica_seconds_bucket" in text
    assert "driftloop_publish_failures" in text


@pytest.mark.timeout(300)  # MLflow imports for long
def test_a_replica_serves_what_mlflow_has(tmp_path: Path, mlflow_server: MLflowServer) -> None:
    columns = {"miles": np.linspace(0, 1000, 200), "origin": np.array(["JFK", "LGA"] * 100, dtype=object)}
    scores = XGBoostScorer(rig.fitted())(columns, 200)
    registered = MLflowRegistry(mlflow_server.uri).register(
        Candidate(
            model=MODEL,
            fitted=rig.fitted(),
            profile=Profile.of(columns, scores),
            gate=GateEvidence(passed=True, sentence="the first", rows=200, challenger_loss=0.1),
            metrics={},
            tags={"task": "binary"},
            request="serving",
            sample=rig.fitted().features.encode(columns, 200)[:5],
        )
    )
    kafka = KafkaSettings(bootstrap=NOBODY)
    with rig.replica(tmp_path, mlflow_server.uri, kafka, registered.version) as (child, url):
        child.wait_until(lambda: rig.status(f"{url}/v2/health/ready") == 200, 60)
        answer = httpx.post(f"{url}/predict", json=rig.body(miles=1000.0)).json()
    assert (
        answer["predictions"][0]["score"]
        == XGBoostScorer(rig.fitted())({"miles": [1000.0], "origin": ["JFK"]}, 1)[0]
    )


def test_a_replica_waits_for_a_registry_that_is_away(tmp_path: Path) -> None:
    uri = (tmp_path / "models").as_uri()
    with rig.replica(tmp_path, uri, KafkaSettings(bootstrap=NOBODY)) as (child, url):
        child.wait_until(lambda: rig.status(f"{url}/v2/health/live") == 200, 30)
        assert rig.status(f"{url}/v2/health/ready") == 503
        rig.models(tmp_path / "models")
        child.wait_until(lambda: rig.status(f"{url}/v2/health/ready") == 200, 30)


def test_sigterm_ends_a_replica_that_is_still_loading(tmp_path: Path) -> None:
    uri = (tmp_path / "models").as_uri()
    with rig.replica(tmp_path, uri, KafkaSettings(bootstrap=NOBODY)) as (child, url):
        child.wait_until(lambda: rig.status(f"{url}/v2/health/live") == 200, 30)
        child.stop()
        assert child.exit_code == 0


def test_a_bug_while_loading_ends_the_replica_with_its_traceback(tmp_path: Path) -> None:
    uri = rig.models(tmp_path / "models")
    (tmp_path / "models" / MODEL / "1" / "about.json").write_text("[]")
    with rig.replica(tmp_path, uri, KafkaSettings(bootstrap=NOBODY)) as (child, _):
        rig.until(lambda: not child.alive)
        assert child.exit_code == 1
        assert "Error" in child.tail()


@pytest.mark.parametrize(
    ("version", "said"), [("7", "versions of flights: 1, 2, 3, 9"), ("9", "can't be loaded")]
)
def test_a_version_that_cannot_be_served_ends_with_code_3_and_the_reason(
    tmp_path: Path, version: str, said: str
) -> None:
    uri = rig.models(tmp_path / "models")
    with rig.replica(tmp_path, uri, KafkaSettings(bootstrap=NOBODY), version) as (child, _):
        rig.until(lambda: not child.alive)
        assert child.exit_code == 3
        assert said in child.tail()

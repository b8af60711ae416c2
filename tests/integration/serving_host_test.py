"""The host: whatever happens to versions and weights, a client gets its answer."""

import concurrent.futures
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from driftloop.infra.brokers import Broker
from driftloop.infra.serving.target import LocalTarget
from driftloop.mlops_core.errors import Conflict, Unavailable, Unservable
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import admin
from tests.support import serving_processes as rig
from tests.support.serving_processes import MODEL, HostProcess


@contextmanager
def started(folder: Path, broker: Broker) -> Iterator[HostProcess]:
    kafka = KafkaSettings(bootstrap=broker.bootstrap)
    admin.create_topics(kafka)
    serving = HostProcess(folder, rig.models(folder / "models"), kafka)
    try:
        yield serving
    finally:
        serving.stop()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, embedded_broker: Broker) -> Iterator[HostProcess]:
    """Shared by promises that leave versions 1 and 2 up."""
    with started(tmp_path_factory.mktemp("host"), embedded_broker) as serving:
        serving.up("1")
        serving.up("2")
        yield serving


@pytest.fixture
def fresh(tmp_path: Path, embedded_broker: Broker) -> Iterator[HostProcess]:
    """A host of one's own, without versions."""
    with started(tmp_path, embedded_broker) as serving:
        yield serving


@dataclass
class Load:
    """What clients saw."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)


@contextmanager
def load(url: str, clients: int = 3) -> Iterator[Load]:
    """Clients that ask all the time; at the end each has had its last answer."""
    seen, over = Load(), threading.Event()

    def ask(first: int) -> None:
        with httpx.Client(base_url=url, timeout=30.0) as client:
            while not over.is_set():
                answer = client.post("/predict", json=rig.body(5, first=first * 1000 + seen.answered % 1000))
                seen.answered += 1
                if answer.status_code == 200:
                    seen.versions |= {one["version"] for one in answer.json()["predictions"]}
                else:
                    seen.failures.append(answer.text)

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask, number) for number in range(clients)]
        try:
            yield seen
        finally:
            over.set()
    for one in asking:
        one.result()


def test_weight_changes_and_a_retirement_drop_no_request(fresh: HostProcess) -> None:
    fresh.up("1")
    assert fresh.weigh(v1=100).status_code == 200
    with load(fresh.url) as seen:
        fresh.up("2")
        for canary in (1, 10, 50, 90, 100):
            assert fresh.weigh(v1=100 - canary, v2=canary).status_code == 200
            goal = seen.answered + 30
            rig.until(lambda goal=goal: seen.answered >= goal)  # type: ignore[misc]
        pids = fresh.pids("1")
        assert fresh.down("1").status_code == 200
        assert all(map(rig.gone, pids))
        goal = seen.answered + 30
        rig.until(lambda: seen.answered >= goal)
    assert seen.failures == []
    assert seen.versions == {"1", "2"}


def test_a_canary_that_crashes_fails_no_request(host: HostProcess) -> None:
    host.weigh(v1=50, v2=50)
    with load(host.url) as seen:
        for _ in range(2):
            rig.until(lambda: bool(host.pids("2")))
            host.crash("2")
            goal = seen.answered + 50
            rig.until(lambda goal=goal: seen.answered >= goal)  # type: ignore[misc]
        rig.until(lambda: host.told()["versions"]["2"]["state"] == "ready")
    assert seen.failures == []
    metrics = host.client.get("/metrics").text
    assert 'driftloop_router_fallbacks_total{model="flights",version="2"}' in metrics


def test_a_canary_that_hangs_fails_no_request_and_is_replaced(fresh: HostProcess) -> None:
    fresh.up("1")
    fresh.up("2")
    fresh.weigh(v1=50, v2=50)
    [hung] = fresh.pids("2")
    os.kill(hung, signal.SIGSTOP)
    assert set(fresh.answered_by(50).values()) == {"1"}
    rig.until(lambda: fresh.pids("2") not in ([], [hung]), 60)
    rig.until(lambda: fresh.told()["versions"]["2"]["state"] == "ready")
    assert set(fresh.answered_by(50).values()) == {"1", "2"}


def test_one_of_two_replicas_that_crashes_fails_no_request(fresh: HostProcess) -> None:
    fresh.up("1", replicas=2)
    fresh.weigh(v1=100)
    with load(fresh.url) as seen:
        os.kill(fresh.pids("1")[0], signal.SIGKILL)
        rig.until(lambda: len(fresh.pids("1")) == 1)
        goal = seen.answered + 50
        rig.until(lambda: seen.answered >= goal)
        rig.until(lambda: fresh.told()["versions"]["1"]["state"] == "ready")
    assert seen.failures == []


def test_both_protocols_split_rows_alike_and_keep_their_order(host: HostProcess) -> None:
    host.weigh(v1=70, v2=30)
    plain = host.predict(100).json()["predictions"]
    assert [one["id"] for one in plain] == [f"id-{number}" for number in range(100)]
    rows = rig.body(100)["rows"]
    inputs = [
        {"name": name, "datatype": kind, "shape": [100], "data": data}
        for name, kind, data in (
            ("entity", "BYTES", [row["entity"] for row in rows]),
            ("miles", "FP64", [row["features"]["miles"] for row in rows]),
            ("origin", "BYTES", [row["features"]["origin"] for row in rows]),
        )
    ]
    outputs = host.client.post(f"/v2/models/{MODEL}/infer", json={"inputs": inputs}).json()["outputs"]
    assert outputs[0]["data"] == [one["score"] for one in plain]
    assert outputs[2]["data"] == [one["version"] for one in plain]
    assert {one["version"] for one in plain} == {"1", "2"}


def test_an_entity_stays_with_the_canary_while_its_weight_rises(host: HostProcess) -> None:
    canary: set[str] = set()
    for weight in (5, 25, 60):
        host.weigh(v1=100 - weight, v2=weight)
        now = {one for one, version in host.answered_by().items() if version == "2"}
        assert canary < now
        canary = now


def test_a_restart_restores_versions_and_weights(fresh: HostProcess) -> None:
    fresh.up("1")
    fresh.up("2", replicas=2)
    fresh.weigh(v1=40, v2=60)
    before, pids = fresh.answered_by(), fresh.pids("1") + fresh.pids("2")
    fresh.child.kill()
    rig.until(lambda: all(map(rig.gone, pids)))
    fresh.start()
    rig.until(lambda: rig.status(f"{fresh.url}/v2/health/ready") == 200)
    assert fresh.answered_by() == before
    assert fresh.told()["weights"] == {"1": 40, "2": 60}


def test_the_hosts_end_is_the_replicas_end(fresh: HostProcess) -> None:
    fresh.up("1")
    pids = fresh.pids("1")
    fresh.child.stop(30)
    assert fresh.child.exit_code == 0
    assert all(map(rig.gone, pids))


def test_weights_are_only_for_versions_that_are_ready(host: HostProcess) -> None:
    host.weigh(v1=100)
    answer = host.weigh(v1=90, v3=10)
    assert answer.status_code == 409
    assert "3 is not served" in answer.json()["error"]
    assert host.weigh(v1=90).status_code == 409
    assert host.told()["weights"] == {"1": 100}


def test_a_version_with_traffic_is_not_retired(host: HostProcess) -> None:
    host.weigh(v1=100)
    assert host.down("1").status_code == 409
    assert host.predict().status_code == 200


def test_a_version_that_cannot_start_is_told_with_its_reason(fresh: HostProcess) -> None:
    page = f"/admin/models/{MODEL}/versions/9"
    assert fresh.client.put(page, json={"replicas": 1}).status_code == 202
    rig.until(lambda: (answer := fresh.client.put(page, json={})).status_code == 422 and "9" in answer.text)
    assert MODEL not in fresh.client.get("/admin/models").json()


def test_a_refusal_names_the_row_as_the_client_counts_it(host: HostProcess) -> None:
    host.weigh(v1=50, v2=50)
    sent = rig.body(40)
    sent["rows"][33]["features"]["miles"] = "far"
    answer = host.client.post("/predict", json=sent)
    assert answer.status_code == 422
    assert "'miles', row 33" in answer.json()["error"]


def test_a_version_without_traffic_can_be_tried_by_name(host: HostProcess) -> None:
    host.weigh(v1=100)
    inputs = [{"name": "miles", "datatype": "FP64", "shape": [1], "data": [900.0]}]
    page = f"/v2/models/{MODEL}/versions/2/infer"
    assert host.client.post(page, json={"inputs": inputs}).json()["model_version"] == "2"
    assert host.client.get(f"/v2/models/{MODEL}").json()["versions"] == ["1", "2"]


@pytest.mark.parametrize(
    "headers", [{"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}, {"host": "evil.example"}]
)
def test_admin_does_not_answer_on_behalf_of_others(host: HostProcess, headers: dict[str, str]) -> None:
    assert host.client.get("/admin/models", headers=headers).status_code == 403


def test_a_model_that_is_not_served_is_refused_naming_those_that_are(host: HostProcess) -> None:
    host.weigh(v1=100)
    answer = host.client.post("/predict", content=json.dumps({"rows": [{"features": {}}], "model": "churn"}))
    assert answer.status_code == 404
    assert "there is flights" in answer.json()["error"]


async def test_a_target_brings_a_version_up_shifts_and_retires(fresh: HostProcess) -> None:
    target = LocalTarget(fresh.url)
    await target.ensure(MODEL, "1", 1)
    await target.shift(MODEL, {"1": 100})
    await target.ensure(MODEL, "2", 1)
    await target.shift(MODEL, {"1": 0, "2": 100})
    await target.retire(MODEL, "1")
    await target.retire(MODEL, "1")
    assert set(fresh.answered_by(5).values()) == {"2"}
    assert f"{fresh.url}/predict" in await target.endpoints(MODEL)


async def test_a_target_tells_what_cannot_be(fresh: HostProcess) -> None:
    target = LocalTarget(fresh.url)
    with pytest.raises(Unservable, match="versions of flights: 1, 2, 3, 9"):
        await target.ensure(MODEL, "7", 1)
    with pytest.raises(Unavailable, match="not served"):
        await target.shift(MODEL, {"1": 100})
    with pytest.raises(Conflict, match="add up to 100"):
        await target.shift(MODEL, {"1": 99})

"""A blend: the version that serves answers with the weighted average of several versions' scores."""

import asyncio
import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from driftloop.infra.adapters import folder_reader
from driftloop.infra.brokers import Broker
from driftloop.infra.serving import blend
from driftloop.infra.serving.loading import Columns, Loaded
from driftloop.infra.serving.scorers import Scorers
from driftloop.infra.serving.target import LocalTarget
from driftloop.mlops_core.data.features import FeatureSpec, Floats
from driftloop.mlops_core.errors import Conflict, NotFound, Unavailable
from driftloop.mlops_core.ports import Fitted
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer
from driftloop.schemas import topics
from driftloop.schemas.records import Batch, Prediction
from driftloop.schemas.settings import KafkaSettings
from driftloop.schemas.summaries import CanaryScores
from driftloop.streams import admin
from driftloop.streams.producer import serializer
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec
from tests.support import serving_processes as rig
from tests.support.serving_processes import MODEL, HostProcess

ROWS = 40


@cache
def opposite() -> Fitted:
    """A model that finds short flights late."""
    import xgboost

    rng = np.random.default_rng(1)
    columns = {"miles": rng.uniform(0, 1000, 400), "origin": rng.choice(["JFK", "LGA"], 400).astype(object)}
    spec = rig.fitted().features
    late = (columns["miles"] < 300).astype(float)
    data = xgboost.DMatrix(
        spec.encode(columns, 400), label=late, feature_types=spec.types, enable_categorical=True
    )
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5)
    return replace(rig.fitted(), payload=bytes(booster.save_raw("ubj")))


def scores_of(fitted: Fitted) -> Floats:
    """What the model says of the rig's rows."""
    rows = rig.body(ROWS)["rows"]
    return XGBoostScorer(fitted)(
        {name: [row["features"][name] for row in rows] for name in ("miles", "origin")}, ROWS
    )


@pytest.fixture
def kafka(embedded_broker: Broker) -> KafkaSettings:
    return KafkaSettings(bootstrap=embedded_broker.bootstrap, prefix=f"t{uuid.uuid4().hex[:8]}-")


@pytest.fixture
def host(tmp_path: Path, kafka: KafkaSettings) -> Iterator[HostProcess]:
    """Version 1 serves; 2 is another model, and 9 is none."""
    admin.create_topics(kafka)
    uri = rig.models(tmp_path / "models", "1")
    folder_reader.save(tmp_path / "models", MODEL, "2", opposite())
    serving = HostProcess(tmp_path, uri, kafka)
    try:
        serving.up("1")
        serving.weigh(v1=100)
        yield serving
    finally:
        serving.stop()


def served(host: HostProcess) -> list[float]:
    return [one["score"] for one in host.predict(ROWS).json()["predictions"]]


def near(host: HostProcess, expected: Floats) -> bool:
    return bool(np.allclose(served(host), expected, atol=1e-9))


def set_blend(host: HostProcess, weights: dict[str, float], of: str = "") -> httpx.Response:
    return host.client.put(f"/admin/models/{MODEL}{of}/blend", content=json.dumps(weights))


def published(kafka: KafkaSettings) -> list[Prediction]:
    found: list[Prediction] = []
    with TopicReader(kafka, [topics.PREDICTIONS]) as reader:
        while not reader.caught_up:
            for _, message in reader.poll(0.1):
                read = codec.decode_record(message.value())
                rows = serializer.single_records(read) if isinstance(read, Batch) else [read]
                found += [row for row in rows if isinstance(row, Prediction)]
    return found


def test_the_average_is_answered_and_published_as_the_version_that_serves_also_after_a_restart(
    host: HostProcess, kafka: KafkaSettings
) -> None:
    alone, mixed = scores_of(rig.fitted()), scores_of(rig.fitted()) / 4 + scores_of(opposite()) * 3 / 4
    assert np.abs(alone - mixed).max() > 0.1
    assert near(host, alone)
    answer = set_blend(host, {"1": 1, "2": 3}).json()
    assert answer["blend"] == answer["versions"]["1"]["blend"] == {"1": 0.25, "2": 0.75}
    assert near(host, mixed), "the very first answer: versions are loaded before the blend takes effect"
    host.child.kill()
    host.start()
    rig.until(lambda: rig.status(f"{host.url}/v2/health/ready") == 200)
    assert near(host, mixed), "a replica that starts is ready once the versions of its blend are loaded"
    assert host.told()["blend"] == {"1": 0.25, "2": 0.75}
    assert set(host.answered_by(ROWS).values()) == {"1"}
    assert set_blend(host, {}).json()["blend"] == {}
    assert near(host, alone)
    host.child.stop(30)
    rows = published(kafka)
    assert {row.version for row in rows} == {"1"}
    of_the_first = {round(row.score, 9) for row in rows if row.id == "id-0"}
    assert of_the_first == {round(float(alone[0]), 9), round(float(mixed[0]), 9)}


def test_versions_that_cannot_be_loaded_are_left_out_and_counted(host: HostProcess) -> None:
    set_blend(host, {"1": 1, "2": 1, "9": 5, "77": 3})
    assert near(host, (scores_of(rig.fitted()) + scores_of(opposite())) / 2)
    url = host.told()["versions"]["1"]["replicas"][0]["url"]
    text = httpx.get(f"{url}/metrics").text
    assert 'driftloop_blend_missing_total{version="9"}' in text
    assert 'driftloop_blend_missing_total{version="77"}' in text
    assert set_blend(host, {"9": 1}).status_code == 200
    assert near(host, scores_of(rig.fitted())), "its own version alone, where no other is there"


def test_a_canary_has_a_blend_of_its_own_and_entities_stay_where_they_are(host: HostProcess) -> None:
    host.up("2")
    host.weigh(v1=50, v2=50)
    before = host.answered_by(ROWS)
    set_blend(host, {"1": 1, "2": 1})
    assert set_blend(host, {"2": 1}, "/versions/2").status_code == 200
    average = (scores_of(rig.fitted()) + scores_of(opposite())) / 2
    expected = np.where([before[f"id-{row}"] == "2" for row in range(ROWS)], scores_of(opposite()), average)
    assert near(host, expected)
    assert host.answered_by(ROWS) == before
    assert set(before.values()) == {"1", "2"}
    inputs = [{"name": "miles", "datatype": "FP64", "shape": [1], "data": [900.0]}]
    pinned = host.client.post(f"/v2/models/{MODEL}/versions/1/infer", json={"inputs": inputs}).json()
    assert pinned["outputs"][0]["data"] == XGBoostScorer(rig.fitted())({"miles": [900.0]}, 1).tolist()
    host.weigh(v1=100)
    host.down("2")
    host.up("2")
    assert host.told()["versions"]["2"]["blend"] == {"1": 0.5, "2": 0.5}, "its own went with it"


def test_a_canary_that_answers_with_the_blend_answers_as_the_stable_version(
    host: HostProcess, kafka: KafkaSettings
) -> None:
    host.up("2")
    set_blend(host, {"1": 1, "2": 1})
    host.weigh(v1=20, v2=80)
    average = (scores_of(rig.fitted()) + scores_of(opposite())) / 2
    assert near(host, average), "the canary's replicas loaded the blend before they got traffic"
    assert set(host.answered_by(ROWS).values()) == {"1"}, "the blend is the stable version's answer"
    host.weigh(v2=100)
    assert set(host.answered_by(ROWS).values()) == {"2"}, "it is stable now"
    host.child.stop(30)
    assert {row.version for row in published(kafka)} == {"1", "2"}


def test_a_canary_publishes_what_its_own_model_scores_beside_what_it_answers(
    host: HostProcess, kafka: KafkaSettings
) -> None:
    host.up("2")
    set_blend(host, {"1": 1, "2": 1})
    host.weigh(v1=20, v2=80)
    average = (scores_of(rig.fitted()) + scores_of(opposite())) / 2
    assert near(host, average)
    host.weigh(v2=100)
    assert near(host, average)
    host.child.stop(30)
    found: list[CanaryScores] = []
    with TopicReader(kafka, [topics.CANARY_SCORES]) as reader:
        while not reader.caught_up:
            found += [CanaryScores.model_validate_json(message.value()) for _, message in reader.poll(0.1)]
    assert {one.version for one in found} == {"2"}, "stable, and what has all traffic, publish none"
    again = [XGBoostScorer(opposite())(one.features, len(one.at)) for one in found]
    assert np.allclose(np.concatenate([one.scores for one in found]), np.concatenate(again))
    assert 0 < sum(len(one.at) for one in found) < ROWS


async def test_a_target_sets_blends_and_says_what_cannot_be(host: HostProcess) -> None:
    target = LocalTarget(host.url)
    await target.blend(MODEL, {"1": 2.0, "2": 2.0})
    assert host.told()["blend"] == {"1": 0.5, "2": 0.5}
    await target.blend(MODEL, {"1": 1.0}, version="1")
    assert host.told()["versions"]["1"]["blend"] == {"1": 1.0}
    with pytest.raises(Conflict, match="sum to more than 0"):
        await target.blend(MODEL, {"1": 0.0})
    with pytest.raises(Conflict, match="at most 8 versions"):
        await target.blend(MODEL, {str(version): 1.0 for version in range(9)})
    with pytest.raises(Unavailable, match="flights:7 is not served"):
        await target.blend(MODEL, {"1": 1.0}, version="7")
    with pytest.raises(Unavailable, match="churn is not served"):
        await target.blend("churn", {"1": 1.0})


weights = st.dictionaries(st.text(min_size=1, max_size=20), st.floats(1e-6, 1e6), min_size=1, max_size=8)


@given(weights)
def test_a_blend_survives_the_way_through_a_header(given_weights: dict[str, float]) -> None:
    normal = blend.normalise(given_weights)
    assert math.isclose(math.fsum(normal.values()), 1)
    again = blend.from_header(blend.to_header(normal).encode())
    assert again == pytest.approx(normal)


@given(st.binary(max_size=60))
def test_no_header_at_all_is_an_error(header: bytes) -> None:
    assert math.isclose(math.fsum(blend.from_header(header).values()) or 1, 1)


class Registry:
    """Versions whose scores are their number; counts how often each was loaded."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.away = False

    def load(self, version: str) -> Loaded:
        self.loads.append(version)
        if self.away:
            raise Unavailable("away")
        if version == "bug":
            raise ZeroDivisionError
        if not version.isdecimal():
            raise NotFound(version)

        def score(columns: Columns, rows: int) -> Floats:
            return np.full(rows, np.nan if version == "666" else float(version))

        return Loaded("toy", FeatureSpec(features=()), score)


async def settled(scorers: Scorers, weights: dict[str, float]) -> float:
    """The score once nothing is loading any more."""
    for _ in range(20):
        scorers.blend(weights, np.ones(1), {})
        await asyncio.sleep(0.01)
    return float(scorers.blend(weights, np.ones(1), {})[0])


async def test_the_average_is_over_what_is_loaded_and_finite() -> None:
    registry = Registry()
    scorers = Scorers("1", registry.load, CollectorRegistry())
    assert scorers.blend({"1": 0.5, "3": 0.5}, np.ones(1), {})[0] == 1.0
    assert await settled(scorers, {"1": 0.5, "3": 0.5}) == 2.0
    assert await settled(scorers, {"3": 0.5, "5": 0.5}) == 4.0
    assert await settled(scorers, {"1": 0.1, "3": 0.1, "666": 0.2, "none": 0.3, "bug": 0.3}) == 2.0
    assert sorted(registry.loads) == ["3", "5", "666", "bug", "none"]


async def test_at_most_eight_other_versions_are_kept_and_the_least_recently_used_goes() -> None:
    registry = Registry()
    scorers = Scorers("1", registry.load, CollectorRegistry())
    for version in range(2, 11):
        await settled(scorers, {"2": 0.5, str(version): 0.5})
    loaded = len(registry.loads)
    await settled(scorers, {"2": 0.5, "10": 0.5})
    assert len(registry.loads) == loaded
    await settled(scorers, {"2": 0.5, "3": 0.5})
    assert registry.loads[loaded:] == ["3"]


async def test_a_registry_that_was_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftloop.infra.serving.scorers.AWAY_SECONDS", 0.01)
    registry = Registry()
    registry.away = True
    scorers = Scorers("1", registry.load, CollectorRegistry())
    assert await settled(scorers, {"3": 1.0}) == 1.0
    registry.away = False
    assert await settled(scorers, {"3": 1.0}) == 3.0


async def test_a_blend_of_its_own_version_alone_loads_nothing() -> None:
    registry = Registry()
    scorers = Scorers("1", registry.load, CollectorRegistry())
    assert await settled(scorers, {"1": 1.0}) == 1.0
    assert registry.loads == []

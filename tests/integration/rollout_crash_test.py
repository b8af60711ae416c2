"""The mission's usage example, then kill -9 of the deployment agent in mid-canary: the next one finishes."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.infra.facade import MLOpsPipeline
from driftloop.infra.processes.child import Child
from driftloop.infra.processes.stack import Stack
from driftloop.mlops_core.data.examples import backfill
from driftloop.mlops_core.lineage import Lineage
from driftloop.schemas.configs import DataConfig, DeploymentConfig, ModelConfig, MonitoringResult
from driftloop.schemas.events import (
    DeployRequested,
    RolloutAdvanced,
    RolloutEvent,
    RolloutPromoted,
    RolloutRolledBack,
)
from driftloop.schemas.records import LabelBatch
from driftloop.streams import topic_reader
from driftloop.streams.producer.publisher import Publisher

MODEL = "toy"
ROWS = 4_000
SETTINGS: dict[str, dict[str, Any]] = {
    "rollout": {"steps": (20, 50), "min_labels": 40, "min_requests": 40},
    "performance": {"window_labels": 50, "horizon_hours": 1},
    "retraining": {"cooldown_hours": 1e6},
    "training": {"rounds": 20, "margin": 1.0},  # the gate lets everything sound through
}
OTHER_AGENTS = ("joining", "storing", "performance", "training")


@dataclass
class World:
    """A stack with a champion and a challenger, a client that asks and labels, and one agent to kill."""

    stack: Stack
    mlops: MLOpsPipeline
    publisher: Publisher
    deployment: Child
    asked: int = 0
    failed: int = 0

    def traffic(self, rows: int) -> None:
        """Ask for predictions and publish what is true, half an hour later in the data."""
        random = np.random.default_rng(self.asked)
        x = random.normal(size=rows)
        ids = [f"row-{self.asked + row}" for row in range(rows)]
        at = [10_000_000_000 + 1000 * (self.asked + row) for row in range(rows)]
        body = {
            "model": MODEL,
            "rows": [
                {"id": id_, "entity": id_, "at": when, "features": {"x": float(value)}}
                for id_, when, value in zip(ids, at, x, strict=True)
            ],
        }
        answer = httpx.post(f"{self.stack.settings.serving.url}/predict", json=body, timeout=30)
        self.failed += 0 if answer.is_success else rows
        labels = (random.random(rows) < 1 / (1 + np.exp(-3 * x))).astype(float).tolist()
        later = [when + 1_800_000 for when in at]
        self.publisher.publish_batch(LabelBatch(model=MODEL, ids=ids, at=later, labels=labels))
        self.asked += rows

    def wait_for(self, kind: type[RolloutEvent], version: str, seconds: float = 90.0) -> RolloutEvent:
        """The first event of a kind about a version, while traffic goes on."""
        deadline = time.monotonic() + seconds
        with topic_reader.TopicReader(self.stack.settings.kafka) as reader:
            while time.monotonic() < deadline:
                self.traffic(50)
                for event in reader.events(0.1):
                    if isinstance(event, kind) and event.version == version:
                        return event
        raise AssertionError(f"no {kind.__name__} of version {version} in {seconds} s")

    async def until_measured(self, deployment: str) -> MonitoringResult:
        """What `monitor_model` says once labels were joined."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            seen = await self.mlops.monitor_model(deployment)
            if seen.performance is not None:
                return seen
            await asyncio.sleep(0.2)
        raise AssertionError("nothing was measured in a minute")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with Stack.start(tmp_path, "embedded", with_agents=False, groups=SETTINGS) as stack:
        stack.run("agents", "agents", "run", *OTHER_AGENTS)
        deployment = stack.run("deployment", "agents", "run", "deployment")
        random = np.random.default_rng(1)
        x = random.normal(size=ROWS)
        labels = (random.random(ROWS) < 1 / (1 + np.exp(-3 * x))).astype(float)
        history = backfill([f"old-{n}" for n in range(ROWS)], list(range(ROWS)), list(labels), {"x": x})
        ParquetStore(stack.settings.store.folder).append(MODEL, "history", history)
        mlops = MLOpsPipeline(stack.settings)
        with Publisher(stack.settings.kafka) as publisher:
            yield World(stack, mlops, publisher, deployment)


@pytest.mark.timeout(300)
async def test_a_rollout_whose_agent_is_killed_in_mid_canary_is_finished_by_the_next(world: World) -> None:
    config, data = ModelConfig(name=MODEL), DataConfig()
    first = await world.mlops.train_model(config, data)
    assert first.model_id == f"{MODEL}:1"
    deployed = await world.mlops.deploy_model(first.model_id, DeploymentConfig())
    assert deployed.status == "success", deployed.errors
    world.traffic(500)
    seen = await world.until_measured(deployed.deployment_id or "")
    assert 0.0 < seen.metrics["error_rate"] < 0.4
    # The same data again, asked for otherwise: an equal challenger.
    second = await world.mlops.train_model(
        config.model_copy(update={"hyperparameters": {"max_depth": 2}}), data
    )
    assert second.model_id == f"{MODEL}:2"
    version = "2"
    request = DeployRequested(id="go", at=10_000_000_000, model=MODEL, version=version)
    world.publisher.publish_event(request)
    world.wait_for(RolloutAdvanced, version)
    world.deployment.kill()
    world.traffic(200)
    world.stack.run("deployment-2", "agents", "run", "deployment")
    ended = world.wait_for(RolloutPromoted, version)
    assert world.failed == 0
    known = Lineage(topic_reader.read_all(world.stack.settings.kafka))
    assert known.back(ended)[-1].id == "go"
    assert len(known.of_kind(RolloutPromoted, MODEL)) == 2
    assert not known.of_kind(RolloutRolledBack, MODEL)
    serving = httpx.get(f"{world.stack.settings.serving.url}/admin/models/{MODEL}").json()
    assert {v: w for v, w in serving["weights"].items() if w} == {version: 100}

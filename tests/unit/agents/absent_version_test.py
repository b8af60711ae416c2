"""Labels of a version that the registry doesn't have, or can't say anything of, are counted all the same."""

from pathlib import Path

import numpy as np
import pytest

from driftloop.agents.performance import PerformanceAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas.events import Span
from driftloop.schemas.settings import PerformanceSettings
from driftloop.schemas.summaries import Outcomes
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from tests.support.handling import handle
from tests.support.serving_processes import fitted
from tests.unit.agents.agents_test import MODEL


class Counting(FolderReader):
    """Counts what it is asked, and may be away."""

    asked, away = 0, False

    def profile(self, model: str, version: str) -> Profile:
        self.asked += 1
        if self.away:
            raise Unavailable("MLflow is away")
        return super().profile(model, version)


@pytest.fixture
def registry(tmp_path: Path) -> Counting:
    folder_reader.save(tmp_path, "another", "1", fitted())
    return Counting(tmp_path)


def labels(offset: int) -> Chunk:
    window = Outcomes(
        model=MODEL,
        span=Span(topic="labels", partition=0, first=0, last=0),
        ids=[f"a-{offset}"],
        versions=["7"],
        scores=[0.5],
        labels=[1.0],
        at=[1],
        labelled_at=[2],
    )
    return Chunk("outcomes", 0, [ConsumerRecord(offset, 1, None, codec.encode(window), {})])


def test_once_it_is_registered_it_is_estimated(registry: Counting, tmp_path: Path) -> None:
    agent = PerformanceAgent(registry, PerformanceSettings())
    state = agent.initial_state()
    handle(agent, state, labels(0))
    assert (state[MODEL].rows, list(state[MODEL].estimators)) == (1, [])
    profile = Profile.of({"x": np.arange(99.0)}, np.linspace(0, 1, 99))
    folder_reader.save(tmp_path, MODEL, "7", fitted(), profile)
    handle(agent, state, labels(1))
    assert (state[MODEL].rows, list(state[MODEL].estimators)) == (2, ["7"])


def test_a_registry_that_is_away_holds_up_no_label_and_is_not_asked_with_each(registry: Counting) -> None:
    registry.away = True
    agent = PerformanceAgent(registry, PerformanceSettings())
    state = agent.initial_state()
    for offset in range(5):
        handle(agent, state, labels(offset))
    assert (state[MODEL].rows, registry.asked) == (5, 1)

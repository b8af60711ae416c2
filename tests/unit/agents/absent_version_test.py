"""A version that the registry doesn't have is not asked for in each window of labels."""

from pathlib import Path

import numpy as np
import pytest

from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.errors import Unavailable
from driftloop.mlops_core.performance.estimates import ABSENT, ASK_AGAIN, Estimates, Estimators
from driftloop.schemas.events import Span
from driftloop.schemas.settings import PerformanceSettings
from driftloop.schemas.summaries import Outcomes
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


def window(version: str = "7") -> Outcomes:
    return Outcomes(
        model=MODEL,
        span=Span(topic="labels", partition=0, first=0, last=0),
        ids=["a"],
        versions=[version],
        scores=[0.5],
        labels=[1.0],
        at=[1],
        labelled_at=[2],
    )


def test_it_is_asked_for_once_in_a_while(registry: Counting) -> None:
    estimates, known = Estimates(registry, PerformanceSettings()), Estimators()
    for _ in range(10 * (ASK_AGAIN + 1)):
        estimates.on_labels(known, window())
    assert registry.asked == 10


def test_once_it_is_registered_it_is_found_within_that_while(registry: Counting, tmp_path: Path) -> None:
    estimates, known = Estimates(registry, PerformanceSettings()), Estimators()
    estimates.on_labels(known, window())
    profile = Profile.of({"x": np.arange(99.0)}, np.linspace(0, 1, 99))
    folder_reader.save(tmp_path, MODEL, "7", fitted(), profile)
    for _ in range(ASK_AGAIN):
        estimates.on_labels(known, window())
        assert not known
    estimates.on_labels(known, window())
    assert list(known) == ["7"]


def test_a_registry_that_is_away_is_asked_in_each_window(registry: Counting) -> None:
    registry.away = True
    estimates = Estimates(registry, PerformanceSettings())
    for _ in range(5):
        estimates.on_labels({}, window())
    assert registry.asked == 5


def test_made_up_versions_fill_no_memory(registry: Counting) -> None:
    estimates = Estimates(registry, PerformanceSettings())
    for number in range(ABSENT + 50):
        estimates.on_labels({}, window(f"made-up-{number}"))
    assert len(estimates._absent) == ABSENT

"""A registry that was emptied counts from 1 again: version 1 may be another model, with other columns."""

from pathlib import Path

import numpy as np
import pytest

from agents.drift import DriftAgent
from agents.performance import PerformanceAgent
from agents.summarising import SummarisingAgent
from infra.adapters import folder_reader
from infra.adapters.folder_reader import FolderReader
from mlops_core.data.profile import Profile
from schemas.dead_letters import DeadLetter
from schemas.events import DriftMeasured
from schemas.records import PredictionBatch
from schemas.settings import DriftSettings, PerformanceSettings
from schemas.stages import DriftSummary
from streams import codec
from streams.chunks import Arrived, Chunk
from tests.serving_rig import fitted


@pytest.fixture
def former(tmp_path: Path) -> FolderReader:
    return registry(tmp_path / "former", "x")


@pytest.fixture
def now(tmp_path: Path) -> FolderReader:
    return registry(tmp_path / "now", "x", "y", "z")


def registry(folder: Path, *names: str) -> FolderReader:
    rng = np.random.default_rng()
    profile = Profile.of({name: rng.normal(size=5000) for name in names}, rng.random(5000))
    folder_reader.save(folder, "m", "1", fitted(), profile)
    return FolderReader(folder)


def predictions(rows: int, *names: str) -> Chunk:
    rng = np.random.default_rng()
    batch = PredictionBatch(
        model="m",
        version="1",
        ids=[f"id-{row}" for row in range(rows)],
        at=list(range(rows)),
        scores=rng.random(rows).tolist(),
        features={name: rng.normal(size=rows).tolist() for name in names},
    )
    return Chunk("predictions", 0, [Arrived(0, 1, None, codec.encode(batch), {})])


def summaries(registry: FolderReader, *names: str) -> Chunk:
    agent = SummarisingAgent(registry)
    [said] = agent.handle(agent.fresh(), predictions(2048, *names))
    assert isinstance(said, DriftSummary)
    return Chunk("drift-summaries", 0, [Arrived(0, 1, None, codec.encode(said), {})])


def test_rows_that_waited_for_others_of_the_former_are_left_behind(
    former: FolderReader, now: FolderReader
) -> None:
    before, after = SummarisingAgent(former), SummarisingAgent(now)
    state = before.fresh()
    before.handle(state, predictions(40, "x"))
    [summary] = after.handle(after.load(before.dump(state)), predictions(70, "x", "y", "z"))
    assert isinstance(summary, DriftSummary)
    assert (summary.batches, summary.columns) == (2, 4)


def test_a_detector_of_the_former_gives_way_to_a_fresh_one(former: FolderReader, now: FolderReader) -> None:
    before, after = DriftAgent(former, DriftSettings()), DriftAgent(now, DriftSettings())
    state = before.fresh()
    before.handle(state, summaries(former, "x"))
    said = after.handle(after.load(before.dump(state)), summaries(now, "x", "y", "z"))
    windows = [one for one in said if isinstance(one, DriftMeasured)]
    assert [set(one.columns) for one in windows] == [{"x", "y", "z", "score"}] * 2


def test_summaries_of_the_former_are_parked_and_change_nothing(
    former: FolderReader, now: FolderReader
) -> None:
    agent = DriftAgent(now, DriftSettings())
    state, untouched = agent.fresh(), agent.fresh()
    own = summaries(now, "x", "y", "z")
    agent.handle(state, own)
    agent.handle(untouched, own)
    [letter] = agent.handle(state, summaries(former, "x"))
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "another profile"
    assert agent.dump(state) == agent.dump(untouched)


def test_nothing_is_estimated_from_summaries_of_the_former(former: FolderReader, now: FolderReader) -> None:
    agent = PerformanceAgent(now, PerformanceSettings())
    assert agent.handle(agent.fresh(), summaries(former, "x")) == []

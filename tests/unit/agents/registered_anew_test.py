"""A registry that was emptied counts from 1 again: version 1 may be another model, with other columns."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from driftloop.agents.drift import DriftAgent
from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.agents.performance import PerformanceAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.trackers import KEPT, State
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import DriftDetected, DriftMeasured, DriftResolved
from driftloop.schemas.messages import Output
from driftloop.schemas.records import PredictionBatch
from driftloop.schemas.settings import DriftSettings, PerformanceSettings
from driftloop.schemas.summaries import DriftSummary
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from tests.support import seeds
from tests.support.handling import handle
from tests.support.serving_processes import fitted


@pytest.fixture
def former(tmp_path: Path) -> FolderReader:
    return registry(tmp_path / "former", "x")


@pytest.fixture
def now(tmp_path: Path) -> FolderReader:
    return registry(tmp_path / "now", "x", "y", "z")


def registry(folder: Path, *names: str, version: str = "1") -> FolderReader:
    rng = seeds.generator()
    profile = Profile.of({name: rng.normal(size=5000) for name in names}, rng.random(5000))
    folder_reader.save(folder, "m", version, fitted(), profile)
    return FolderReader(folder)


def predictions(rows: int, *names: str, version: str = "1", moved: float = 0.0) -> Chunk:
    rng = seeds.generator()
    batch = PredictionBatch(
        model="m",
        version=version,
        ids=[f"id-{row}" for row in range(rows)],
        at=list(range(rows)),
        scores=rng.random(rows).tolist(),
        features={name: rng.normal(moved, size=rows).tolist() for name in names},
    )
    return Chunk("predictions", 0, [ConsumerRecord(0, 1, None, codec.encode(batch), {})])


def summaries(registry: FolderReader, *names: str, version: str = "1", moved: float = 0.0) -> Chunk:
    agent = DriftAggregationAgent(registry)
    [said] = handle(agent, agent.initial_state(), predictions(2048, *names, version=version, moved=moved))
    assert isinstance(said, DriftSummary)
    return Chunk("drift-summaries", 0, [ConsumerRecord(0, 1, None, codec.encode(said), {})])


def test_rows_that_waited_for_others_of_the_former_are_left_behind(
    former: FolderReader, now: FolderReader
) -> None:
    before, after = DriftAggregationAgent(former), DriftAggregationAgent(now)
    state = before.initial_state()
    handle(before, state, predictions(40, "x"))
    [summary] = handle(after, after.load(before.dump(state)), predictions(70, "x", "y", "z"))
    assert isinstance(summary, DriftSummary)
    assert (summary.batches, summary.columns) == (2, 4)


def test_a_detector_of_the_former_gives_way_to_a_fresh_one(former: FolderReader, now: FolderReader) -> None:
    before, after = DriftAgent(former, DriftSettings()), DriftAgent(now, DriftSettings())
    state = before.initial_state()
    handle(before, state, summaries(former, "x"))
    said = handle(after, after.load(before.dump(state)), summaries(now, "x", "y", "z"))
    windows = [one for one in said if isinstance(one, DriftMeasured)]
    assert [set(one.columns) for one in windows] == [{"x", "y", "z", "score"}] * 2


def test_summaries_of_the_former_are_parked_and_change_nothing(
    former: FolderReader, now: FolderReader
) -> None:
    agent = DriftAgent(now, DriftSettings())
    state, untouched = agent.initial_state(), agent.initial_state()
    own = summaries(now, "x", "y", "z")
    handle(agent, state, own)
    handle(agent, untouched, own)
    [letter] = handle(agent, state, summaries(former, "x"))
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "another profile"
    assert agent.dump(state) == agent.dump(untouched)


def test_nothing_is_estimated_from_summaries_of_the_former(former: FolderReader, now: FolderReader) -> None:
    agent = PerformanceAgent(now, PerformanceSettings())
    assert handle(agent, agent.initial_state(), summaries(former, "x")) == []


def drifting(agent: DriftAgent, state: State, registry: FolderReader) -> DriftDetected:
    """Version 1 of the former, whose `x` is far from its training data."""
    said = handle(agent, state, summaries(registry, "x", moved=2.0))
    [found] = [one for one in said if isinstance(one, DriftDetected)]
    return found


def ends(said: Sequence[Output]) -> list[tuple[str | None, Sequence[str], str]]:
    resolved = [one for one in said if isinstance(one, DriftResolved)]
    return [(one.caused_by, one.columns, one.sentence) for one in resolved]


def test_drift_of_the_former_is_told_to_be_over_after_a_restart(
    former: FolderReader, now: FolderReader
) -> None:
    before, after = DriftAgent(former, DriftSettings()), DriftAgent(now, DriftSettings())
    state = before.initial_state()
    found = drifting(before, state, former)
    waiting = after.load(before.dump(state))
    said = handle(after, after.load(after.dump(waiting)), summaries(now, "x", "y", "z"))
    assert ends(said) == [(found.id, ["x"], "version 1 was registered anew, with other columns")]
    again = handle(after, waiting, summaries(now, "x", "y", "z"))
    assert ends(again) == ends(said)
    assert ends(handle(after, waiting, summaries(now, "x", "y", "z"))) == []


def test_a_version_that_is_registered_anew_under_way_is_watched_anew(tmp_path: Path) -> None:
    reader = registry(tmp_path, "x")
    agent = DriftAgent(reader, DriftSettings())
    state = agent.initial_state()
    found = drifting(agent, state, reader)
    registry(tmp_path, "x", "y", "z")
    said = handle(agent, state, summaries(reader, "x", "y", "z"))
    assert ends(said) == [(found.id, ["x"], "version 1 was registered anew, with other columns")]
    windows = [one for one in said if isinstance(one, DriftMeasured)]
    assert [set(one.columns) for one in windows] == [{"x", "y", "z", "score"}] * 2


def test_drift_of_a_version_that_is_no_longer_registered_is_told_to_be_over(
    former: FolderReader, tmp_path: Path
) -> None:
    other = registry(tmp_path / "other", "x", version="2")
    before, after = DriftAgent(former, DriftSettings()), DriftAgent(other, DriftSettings())
    state = before.initial_state()
    found = drifting(before, state, former)
    said = handle(after, after.load(before.dump(state)), summaries(other, "x", version="2"))
    assert ends(said) == [(found.id, ["x"], "version 1 is no longer registered")]


def test_drift_of_a_version_that_others_have_long_replaced_is_told_to_be_over(tmp_path: Path) -> None:
    reader = registry(tmp_path, "x")
    agent = DriftAgent(reader, DriftSettings())
    state = agent.initial_state()
    found = drifting(agent, state, reader)
    said: list[Output] = []
    for version in map(str, range(2, KEPT + 2)):
        registry(tmp_path, "x", version=version)
        assert ends(said) == []
        said = handle(agent, state, summaries(reader, "x", version=version))
    assert ends(said) == [(found.id, ["x"], "version 1 answers no more")]

"""Columns that go missing, change their type or are new: told once, when it holds, and when it is over."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftloop.agents.drift import DriftAgent
from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.data.rows import RowKind, Rows
from driftloop.mlops_core.drift.schema_changes import (
    LEAST_ROWS,
    MOST,
    OVER_ROWS,
    ColumnWatch,
    Deviation,
    deviations,
)
from driftloop.schemas.events import ColumnsChanged
from driftloop.schemas.records import PredictionBatch
from driftloop.schemas.settings import DriftSettings
from driftloop.schemas.summaries import DriftSummary
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from tests.support import seeds
from tests.support.handling import handle
from tests.support.serving_processes import fitted

ROWS = 64
MISSING = {"x": Deviation.MISSING}


class Loop:
    """Both stages, restored from their memories before each chunk."""

    def __init__(self, folder: Path) -> None:
        rng = seeds.generator()
        features: dict[str, Any] = {"x": rng.normal(size=10_000), "carrier": ["UA", "AA"] * 5000}
        folder_reader.save(folder, "flights", "1", fitted(), Profile.of(features, rng.random(10_000)))
        registry = FolderReader(folder)
        self._stages = DriftAggregationAgent(registry), DriftAgent(registry, DriftSettings())
        self._memories = [agent.dump(agent.initial_state()) for agent in self._stages]  # type: ignore[arg-type]
        self._offset = 0

    def told(self, chunks: int, features: Mapping[str, list[Any]]) -> list[ColumnsChanged]:
        """What is said of the columns while so many chunks of 64 rows come."""
        said: list[ColumnsChanged] = []
        for _ in range(chunks):
            batch = PredictionBatch(
                model="flights",
                version="1",
                ids=[f"{self._offset}-{row}" for row in range(ROWS)],
                at=[self._offset * ROWS + row for row in range(ROWS)],
                scores=seeds.generator().random(ROWS).tolist(),
                features=features,
            )
            follows = self._handled(0, "predictions", batch)
            summaries = [one for one in follows if isinstance(one, DriftSummary)]
            follows = self._handled(1, "drift-summaries", *summaries)
            said += [one for one in follows if isinstance(one, ColumnsChanged)]
            self._offset += 1
        return said

    def _handled(self, stage: int, topic: str, *messages: Any) -> list[Any]:
        agent: Any = self._stages[stage]
        records = [ConsumerRecord(self._offset, 1, None, codec.encode(one), {}) for one in messages]
        state = agent.load(self._memories[stage])
        follows: list[Any] = handle(agent, state, Chunk(topic, 0, records))
        self._memories[stage] = agent.dump(state)
        return follows


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


GOOD: dict[str, list[Any]] = {"x": [0.5] * ROWS, "carrier": ["UA", "AA"] * 32}
"""In range, so that nothing else is told."""


def test_columns_as_in_training_are_no_news(loop: Loop) -> None:
    assert loop.told(12, GOOD) == []


def test_a_column_that_stays_away_is_told_once_as_a_warning(loop: Loop) -> None:
    (told,) = loop.told(12, {"carrier": GOOD["carrier"]})
    assert (told.missing, told.retyped, told.extra, told.severity) == (["x"], [], [], "warning")
    assert "x is missing" in told.sentence


def test_text_where_numbers_were_is_another_type(loop: Loop) -> None:
    (told,) = loop.told(12, {**GOOD, "x": ["much"] * ROWS})
    assert (told.retyped, told.severity) == (["x"], "warning")


def test_numbers_where_text_was_are_another_type(loop: Loop) -> None:
    (told,) = loop.told(12, {**GOOD, "carrier": [1.5] * ROWS})
    assert told.retyped == ["carrier"]


def test_a_new_column_is_only_an_information(loop: Loop) -> None:
    (told,) = loop.told(12, {**GOOD, "gate": [1.0] * ROWS})
    assert (told.extra, told.severity) == (["gate"], "info")


def test_when_it_is_over_that_is_told_too(loop: Loop) -> None:
    loop.told(8, {"carrier": GOOD["carrier"]})
    (told,) = loop.told(OVER_ROWS // ROWS + 1, GOOD)
    assert (told.missing, told.severity) == ([], "info")


def test_predictions_whose_features_come_apart_say_nothing_of_columns(loop: Loop) -> None:
    assert loop.told(12, {}) == []


def test_text_that_was_cut_out_of_other_rows_is_still_text() -> None:
    numbers, words = np.array([0.5, 1.5]), np.array(["UA", "AA"], dtype=object)
    profile = Profile.of({"x": numbers, "carrier": words}, np.ones(2))

    def found(x: Any, carrier: Any) -> Mapping[str, Deviation]:
        columns = {"x": x, "carrier": carrier}
        at, scores = np.arange(2), np.ones(2)
        return deviations([Rows(RowKind.PREDICTIONS, "m", "1", ["a", "b"], at, scores, columns)], profile)

    assert found(numbers, words) == {}
    assert found(words, words) == {"x": Deviation.RETYPED}
    assert found(numbers, numbers) == {"carrier": Deviation.RETYPED}


def test_a_few_rows_without_it_prove_nothing() -> None:
    watch = ColumnWatch()
    assert watch.update(MISSING, LEAST_ROWS - 1) is None
    assert watch.update({}, 1) is None
    assert watch.update(MISSING, LEAST_ROWS - 1) is None
    assert watch.update(MISSING, 1) == MISSING


def test_names_without_end_fill_no_memory_and_are_no_endless_news() -> None:
    watch = ColumnWatch()
    found = [{f"id-{n}-{i}": Deviation.EXTRA for i in range(100)} for n in range(1000)]
    news = [one for one in (watch.update(names, LEAST_ROWS) for names in found) if one is not None]
    assert len(watch.reported) + len(watch.held) <= 4 * MOST
    assert len(news) <= 2 * 1000 * LEAST_ROWS // OVER_ROWS


def test_a_client_that_takes_turns_with_others_is_told_once() -> None:
    watch = ColumnWatch()
    told = [watch.update(found, 500) for _ in range(100) for found in (MISSING, {})]
    assert [one for one in told if one is not None] == [MISSING]


def test_a_column_that_few_rows_have_is_not_new() -> None:
    profile, at = Profile.of({"x": np.arange(8.0)}, np.ones(8)), np.arange(8)

    def rows(count: int, **features: Any) -> Rows:
        ids = [str(n) for n in range(count)]
        return Rows(RowKind.PREDICTIONS, "m", "1", ids, at[:count], np.ones(count), features)

    many, few = rows(8, x=np.ones(8)), rows(3, x=np.ones(3), debug=np.ones(3))
    assert deviations([many, few], profile) == {}
    assert deviations([many[:2], few], profile) == {"debug": Deviation.EXTRA}

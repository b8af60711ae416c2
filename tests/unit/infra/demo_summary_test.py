"""The demo's table: what it compares, and what it leaves out."""

import numpy as np
import pytest

from driftloop.demo import summary
from driftloop.demo.client import Replay
from driftloop.demo.flights import Flights
from driftloop.demo.summary import Facts

ROWS = 100
LATE = (np.arange(ROWS) % 2).astype(np.float64)


@pytest.fixture
def replay() -> Replay:
    ids = np.array([str(row) for row in range(ROWS)], dtype=object)
    at = np.arange(ROWS, dtype=np.int64)
    flights = Flights(ids=ids, entities=ids, at=at, landed_at=at, late=LATE, features={})
    replay = Replay("flights", flights, "", None)  # type: ignore[arg-type]  # nothing is published here
    replay.asked = ROWS
    replay.scores = np.where(LATE == 1, 0.9, 0.1)
    replay.versions = np.full(ROWS, "1", dtype=object)
    return replay


def facts(sabotaged: str | None) -> Facts:
    return Facts(1, 1, 0, 2, 0, 0, promoted=1, rolled_back=1, closed_after=1.0, sabotaged=sabotaged)


def table(replay: Replay, sabotaged: str | None, lost: int = 0) -> summary.Summary:
    joined = set(replay.flights.ids[lost:])
    return summary.of(replay, np.full(ROWS, 0.5), facts(sabotaged), joined, (1.0, 2.0), sabotaged is not None)


def test_the_sabotaged_versions_answers_are_counted_and_compared_in_neither_column(replay: Replay) -> None:
    replay.versions[:20], replay.scores[:20] = "2", 1 - replay.scores[:20]
    told = table(replay, "2")
    assert (told.left_out, told.live["auc"], told.exit_code) == (20, 1.0, 0)
    assert "without 20 answers of the sabotaged version 2" in list(told.lines())


def test_a_lost_label_fails_the_demo_also_where_the_sabotaged_version_answered(replay: Replay) -> None:
    replay.versions[:20] = "2"
    told = table(replay, "2", lost=3)
    assert (told.lost, told.exit_code) == (3, 1)


def test_without_sabotage_nothing_is_left_out(replay: Replay) -> None:
    assert table(replay, None).left_out == 0

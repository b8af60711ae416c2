"""Promise: what the drift agents really say of a segment and of a pair is on the board, and leaves it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from driftloop.infra.dashboard.board import Board
from driftloop.infra.dashboard.model_board import ModelBoard
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.data.segment_profiles import with_segments
from driftloop.schemas.events import Event
from tests.unit.agents.segments_test import MODEL, Agents, Columns, fed, visits

ROWS = 20_000
PAIR = ("left", "right")


def coupled(rng: np.random.Generator, rows: int, *, apart: bool = False, **shift: float) -> Columns:
    """Prices by country, and two columns of correlation 0.7 that may go their own ways."""
    left = rng.normal(size=rows)
    right = rng.normal(size=rows) if apart else left + rng.normal(size=rows)
    return {**visits(rng, rows, **shift), "left": left, "right": right * (2**0.5 if apart else 1)}


class Watching:
    """The agents, and the board that reads what they say."""

    def __init__(self, agents: Agents, rng: np.random.Generator) -> None:
        self.agents, self.rng, self.board = agents, rng, Board()
        self.written = 0

    def see(self, columns: Columns) -> ModelBoard:
        """What the board has of the model after these rows."""
        said: Iterable[Event] = fed(self.agents, self.rng, columns)
        for event in said:
            self.written += 1
            self.board.apply(event, self.written)
        return self.board.models[MODEL]


def test_what_the_agents_say_of_a_segment_and_a_pair_comes_and_goes(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    columns, scores = coupled(rng, ROWS), rng.random(ROWS)
    profile = with_segments(Profile.of(columns, scores), ["country"], columns, scores)
    watching = Watching(Agents(tmp_path, profile), rng)

    before = watching.see(coupled(rng, ROWS))
    assert (before.pairs.rows, before.segments.rows, before.drifting) == ([], [], [])

    during = watching.see(coupled(rng, ROWS, apart=True, IT=0.6))
    [pair] = during.pairs.rows
    assert pair.columns == PAIR
    assert pair.reference == pytest.approx(0.7, abs=0.05)
    assert abs(pair.current) < 0.15
    [segment] = during.segments.rows
    assert (segment.name, segment.state, segment.until) == ("country=IT", "drifted", None)
    [column] = segment.columns
    assert (column.name, column.state) == ("price", "drifted")
    assert column.current is not None

    after = watching.see(coupled(rng, ROWS))
    assert (after.pairs.rows, after.drifting) == ([], [])
    assert [(one.name, one.state) for one in after.segments.rows] == [("country=IT", "resolved")]

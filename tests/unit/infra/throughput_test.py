"""Throughput on the page is that of the data, however the partitions are read."""

import heapq
import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from driftloop.infra.dashboard.headline_figures import LATELY, rows_per_second
from driftloop.infra.dashboard.model_board import ModelBoard
from driftloop.infra.dashboard.views import Window
from driftloop.schemas.events import DriftMeasured

HALF_HOUR = 1_800_000
TWO_AN_HOUR = 2 / 3600
WINDOW_ROWS = 1024


def read(ahead: Sequence[float], seed: int = 1) -> Iterator[int]:
    """Times of half-hourly rows over partitions of which each is read so many rows ahead, and unsteadily."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    left = [(row + dice.uniform(-400, 400) - ahead[row % len(ahead)], row) for row in range(80_000)]
    heapq.heapify(left)
    while left:
        yield HALF_HOUR * heapq.heappop(left)[1]


def windows(times: Iterator[int], version: str = "1") -> Sequence[Window]:
    """Windows of `WINDOW_ROWS` rows in the order in which they were read."""
    found: list[Window] = []
    while len(found) < LATELY:
        own = list(itertools.islice(times, WINDOW_ROWS))
        found.append(Window(min(own), max(own), version, len(own), [], []))
    return found


@pytest.mark.parametrize(
    "ahead", [(0, 0, 0, 0), (0, 5_000), (0, 1_000, 2_000, 9_000), (0, 20_000, 20_000, 20_000)]
)
def test_two_rows_an_hour_are_two_however_far_one_partition_is_ahead(ahead: Sequence[float]) -> None:
    assert rows_per_second(windows(read(ahead))) == pytest.approx(TWO_AN_HOUR, rel=0.1)


def test_the_page_shows_two_rows_an_hour_as_two() -> None:
    board = ModelBoard()
    for number, window in enumerate(windows(read((0, 1_000, 2_000, 9_000))), 1):
        event = DriftMeasured(
            id=str(number),
            at=window.until,
            model="m",
            version="1",
            rows=window.rows,
            since=window.since,
            until=window.until,
            spans=[],
            columns={},
        )
        board.apply(event, number, number)
    parts = board.news(0, LATELY)["parts"]
    assert isinstance(parts, dict)
    assert parts["figures"].rows_per_second == pytest.approx(TWO_AN_HOUR, rel=0.1)


def test_versions_that_share_the_traffic_add_up() -> None:
    own = [windows(read((0, 3_000)), version) for version in ("1", "2")]
    together = sorted(itertools.chain(*own), key=lambda window: window.until)
    assert rows_per_second(together) == pytest.approx(2 * TWO_AN_HOUR, rel=0.1)


def test_one_window_is_its_rows_over_its_time() -> None:
    assert rows_per_second([Window(0, 10_000, "1", 20, [], [])]) == 2.0
    assert rows_per_second([]) is None

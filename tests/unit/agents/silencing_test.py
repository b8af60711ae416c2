"""A segment is silenced where the whole tells, row by row: not for as long as a chunk happens to last."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.drift import suppression
from driftloop.mlops_core.drift.aggregation import _after
from driftloop.mlops_core.drift.microbatches import ROWS
from driftloop.mlops_core.drift.suppression import ReportedColumns
from driftloop.mlops_core.drift.verdicts import Closed, Opened, Verdict
from driftloop.schemas.events import ColumnDrift, DriftKind, Span
from driftloop.schemas.summaries import DriftSummary

NAMES = ("price", "size")
CHUNK = Span(topic="predictions", partition=1, first=5, last=9)
DRIFT = ColumnDrift(severity=1.0, channel="location", drifted=True, reference=(), current=())


def opened(column: str, index: int) -> Opened:
    kind = DriftKind.FEATURE
    return Opened(column=column, kind=kind, drift=DRIFT, changed_at=0, rows=128, index=index, at=0)


def closed(column: str, index: int) -> Closed:
    return Closed(column=column, kind=DriftKind.FEATURE, index=index, at=0)


def summary(*after: int, span: Span = CHUNK, batches: int | None = None) -> DriftSummary:
    rows = len(after) if batches is None else batches
    counts, times = np.zeros((rows, 2, 33), dtype=np.uint8), np.zeros((rows, 2), dtype=np.int64)
    packed = DriftSummary.of("shop", "1", span, counts, times)
    return packed.model_copy(update={"segment": "country=FR", "after": after})


def told() -> suppression.Tellings:
    """`size` is open since before the 100 micro-batches that came; of this chunk `price` opens after 3."""
    tellings: suppression.Tellings = {}
    verdicts: list[Verdict] = [opened("price", 103), closed("size", 105), closed("price", 107)]
    suppression.remember(tellings, ReportedColumns.of(CHUNK, ("size",), 100, verdicts))
    return suppression.load(suppression.dump(tellings))


def test_each_micro_batch_is_silenced_by_what_the_whole_told_when_its_last_row_came() -> None:
    quiet = suppression.suppression_mask(told(), NAMES, ("size",), summary(0, 2, 3, 4, 5, 6, 7, 9))
    assert quiet[:, 0].tolist() == [False, False, True, True, True, True, False, False]
    assert quiet[:, 1].tolist() == [True, True, True, True, False, False, False, False]


def test_a_chunk_too_small_for_the_whole_meets_what_is_open_since_the_last_one() -> None:
    later = CHUNK.model_copy(update={"first": 10, "last": 11})
    assert suppression.suppression_mask(told(), NAMES, ("size",), summary(0, span=later)).tolist() == [
        [False, True]
    ]


def test_a_summary_from_before_this_was_said_meets_what_is_open_now() -> None:
    quiet = suppression.suppression_mask(told(), NAMES, ("price",), summary(batches=3))
    assert quiet.tolist() == [[True, False]] * 3


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 31), st.integers(0, 31))
def test_the_place_of_a_segments_micro_batch_is_that_of_the_row_that_completes_it(
    rows: list[bool], waiting: int, waited: int
) -> None:
    expected, own = [], waiting
    for place, chosen in enumerate(rows):
        own += chosen
        if chosen and own % ROWS == 0:
            expected.append((waited + place + 1) // ROWS)
    assert _after(np.array(rows, dtype=np.bool_), waiting, waited) == expected

"""Stage one: however rows arrive, the same micro-batches leave."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core.drift.microbatches import ROWS, Summariser
from mlops_core.errors import BadData

SIZES = st.lists(st.integers(0, 100), max_size=20)


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    return rng.integers(0, 33, (count, 3)).astype(np.uint8), rng.integers(0, 10**12, count)


@given(SIZES)
def test_chunking_changes_nothing(sizes: list[int]) -> None:
    bins, at = rows(sum(sizes))
    whole, parts = Summariser(3), Summariser(3)
    counts, times = whole.add(bins, at)
    ends = np.cumsum([0, *sizes])
    pieces = [parts.add(bins[a:b], at[a:b]) for a, b in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate([np.empty((0, 3, 33)), *(c for c, _ in pieces)]), counts)
    assert np.array_equal(np.concatenate([np.empty((0, 2)), *(t for _, t in pieces)]), times)
    assert parts.state() == whole.state()


@given(SIZES)
def test_a_restart_through_json_changes_nothing(sizes: list[int]) -> None:
    bins, at = rows(sum(sizes) + 50)
    cut = sum(sizes)
    kept = Summariser(3)
    kept.add(bins[:cut], at[:cut])
    restored = Summariser.restore(json.loads(json.dumps(kept.state())))
    assert np.array_equal(restored.add(bins[cut:], at[cut:])[0], kept.add(bins[cut:], at[cut:])[0])


def test_every_row_is_counted_once_in_every_column() -> None:
    bins, at = rows(10 * ROWS)
    counts, times = Summariser(3).add(bins, at)
    assert (counts.sum(axis=2) == ROWS).all()
    assert counts[4, 1].tolist() == np.bincount(bins[4 * ROWS : 5 * ROWS, 1], minlength=33).tolist()
    assert times[4].tolist() == [at[4 * ROWS : 5 * ROWS].min(), at[4 * ROWS : 5 * ROWS].max()]


def test_a_bin_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadData, match="bin 33 of at most 32"):
        Summariser(1).add(np.array([[33]], dtype=np.uint8), np.array([0]))


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(BadData, match=r"expected bins \(rows, 2\)"):
        Summariser(2).add(np.zeros((4, 3), dtype=np.uint8), np.zeros(4, dtype=np.int64))

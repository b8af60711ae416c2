"""Stage one: however rows arrive, the same micro-batches leave."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.data.correlations import Pairs
from driftloop.mlops_core.drift.microbatches import ROWS, Summariser
from driftloop.mlops_core.errors import InvalidData

SIZES = st.lists(st.integers(0, 100), max_size=20)
PAIRS = Pairs(
    columns=(0, 1, 2),
    scores=tuple(tuple(range(shift - 16, shift + 17)) for shift in (0, 3, 9)),
    pairs=((0, 1), (1, 2)),
    rows=1,
)


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    return rng.integers(0, 33, (count, 3)).astype(np.uint8), rng.integers(0, 10**12, count)


@given(SIZES)
def test_chunking_changes_nothing(sizes: list[int]) -> None:
    bins, at = rows(sum(sizes))
    whole, parts = Summariser(3), Summariser(3)
    counts, times, groups = whole.add(bins, at, PAIRS)
    ends = np.cumsum([0, *sizes])
    pieces = [parts.add(bins[a:b], at[a:b], PAIRS) for a, b in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate([np.empty((0, 3, 33)), *(c for c, _, _ in pieces)]), counts)
    assert np.array_equal(np.concatenate([np.empty((0, 2)), *(t for _, t, _ in pieces)]), times)
    assert np.concatenate([g.sums for _, _, g in pieces] or [groups.sums]).tolist() == groups.sums.tolist()
    before = np.cumsum([0, *(len(c) for c, _, _ in pieces)])
    found = [(first + g.ends).tolist() for first, (_, _, g) in zip(before, pieces, strict=False)]
    assert list(itertools.chain(*found)) == groups.ends.tolist() == list(range(8, len(counts) + 1, 8))
    assert list(itertools.chain(*(g.since.tolist() for _, _, g in pieces))) == groups.since.tolist()
    assert parts.state() == whole.state()


@given(SIZES)
def test_a_restart_through_json_changes_nothing(sizes: list[int]) -> None:
    bins, at = rows(sum(sizes) + 50)
    cut = sum(sizes)
    kept = Summariser(3)
    kept.add(bins[:cut], at[:cut], PAIRS)
    restored = Summariser.restore(json.loads(json.dumps(kept.state())))
    again, uninterrupted = (one.add(bins[cut:], at[cut:], PAIRS) for one in (restored, kept))
    assert np.array_equal(again[0], uninterrupted[0])
    assert np.array_equal(again[2].sums, uninterrupted[2].sums)
    assert np.array_equal(again[2].since, uninterrupted[2].since)


def test_a_state_from_before_there_were_sums_begins_a_group_of_its_own() -> None:
    bins, at = rows(700)
    kept = Summariser(3)
    kept.add(bins[:100], at[:100])
    old = {name: value for name, value in kept.state().items() if name in ("columns", "bins", "at")}
    _, _, groups = Summariser.restore(old).add(bins[100:], at[100:], PAIRS)
    assert groups.ends.tolist() == [8, 16]
    assert groups.sums.tolist() == PAIRS.sums(bins[96 : 96 + 512], 256).tolist()


def test_sums_are_those_of_whole_numbers() -> None:
    bins, _ = rows(512)
    scores = np.stack([np.array(table)[bins[:, place]] for place, table in enumerate(PAIRS.scores)], axis=1)
    for group, found in zip(scores.reshape(2, 256, 3), PAIRS.sums(bins, 256), strict=True):
        first, second = np.array(PAIRS.pairs).T
        products = (group[:, first] * group[:, second]).sum(axis=0)
        assert found.tolist() == [*group.sum(axis=0), *(group**2).sum(axis=0), *products]


def test_every_row_is_counted_once_in_every_column() -> None:
    bins, at = rows(10 * ROWS)
    counts, times, _ = Summariser(3).add(bins, at)
    assert (counts.sum(axis=2) == ROWS).all()
    assert counts[4, 1].tolist() == np.bincount(bins[4 * ROWS : 5 * ROWS, 1], minlength=33).tolist()
    assert times[4].tolist() == [at[4 * ROWS : 5 * ROWS].min(), at[4 * ROWS : 5 * ROWS].max()]


def test_a_bin_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidData, match="bin 33 of at most 32"):
        Summariser(1).add(np.array([[33]], dtype=np.uint8), np.array([0]))


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(InvalidData, match=r"expected bins \(rows, 2\)"):
        Summariser(2).add(np.zeros((4, 3), dtype=np.uint8), np.zeros(4, dtype=np.int64))


MINUTE, HOUR = 60_000, 3_600_000
NOW = 1_767_225_600_000


YEARS = 30 * 365 * 24 * HOUR


@pytest.mark.parametrize("strays", [[-6 * HOUR], [-6 * HOUR, -HOUR], [YEARS], [-NOW, 5 * HOUR]])
def test_a_few_rows_far_from_the_others_do_not_stretch_their_micro_batch(
    strays: list[int], rng: np.random.Generator
) -> None:
    at = NOW + 1000 * np.arange(32)
    places = rng.permutation(32)[: len(strays)]
    at[places] = NOW + np.array(strays)
    kept = np.delete(at, places)
    bins = np.zeros((32, 1), dtype=np.uint8)
    counts, times, _ = Summariser(1).add(bins, at)
    assert times.tolist() == [[kept.min(), kept.max()]]
    assert counts.sum() == 32  # they are counted all the same


@pytest.mark.parametrize(
    "at",
    {
        "an hour apart": HOUR * np.arange(32),
        "with a night between": np.concatenate([MINUTE * np.arange(16), 10 * HOUR + MINUTE * np.arange(16)]),
        "all of them late": NOW - 6 * HOUR + 1000 * np.arange(32),
        "within three minutes": np.array([0] * 31 + [3 * MINUTE]),
    }.values(),
)
def test_times_that_belong_together_are_kept_to_the_last(at: np.ndarray) -> None:
    _, times, _ = Summariser(1).add(np.zeros((32, 1), dtype=np.uint8), at)
    assert times.tolist() == [[at.min(), at.max()]]

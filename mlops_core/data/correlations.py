"""How the numeric columns of training data moved together, pair by pair: part of a version's reference.

A pair's correlation is that of normal scores of its bins (van der Waerden's): no tail shouts, and any
monotone relation counts. Scores are told in whole sixteenths, so that sums of their products are whole
numbers under 2^24, which float32 adds without loss in whatever order.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import combinations
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.normal_scores import mid_ranks, normal_scores

GROUP = 256
"""Rows of one reading: a correlation of so few has a standard error of 0.06."""
MOST = 276
"""Pairs that are watched, at most: all of 24 columns."""
LIVELY = 0.9
"""A column with more of its rows in one bin takes no part: a few rows would make its correlations."""
CLOSEST = 0.95
"""Correlations count as at most this: whether 0.98 or 0.99 is a matter of noise."""
_FINE = 16
"""Parts of a standard deviation that scores are told in; those of neighbouring quantiles are 1 to 4 apart."""
_EXACT = 13_000
"""Rows whose sums of products float32 holds without loss."""

Bins = NDArray[np.uint8]
Sums = NDArray[np.int64]
"""Of scores, of their squares, and of products of pairs: whole numbers, shape (groups, sums)."""


class Pairs(BaseModel):
    """The pairs that are watched, and how each moved together."""

    model_config = ConfigDict(frozen=True)

    columns: tuple[int, ...]
    """Places, in the profile, of the columns that take part."""
    scores: tuple[tuple[int, ...], ...]
    """Per such column the score of each of its bins; 0 for null, as if it were in the middle."""
    pairs: tuple[tuple[int, int], ...]
    """Places in `columns`."""
    rows: int
    fisher: tuple[float, ...] = ()
    """Fisher's z of each pair over all rows: the inverse hyperbolic tangent of its correlation."""
    apart: tuple[tuple[float, float], ...] = ()
    """Per pair, how far from that it was over 256 and over 1,024 rows, at most."""

    @classmethod
    def of(
        cls, bins: Bins, shares: Sequence[Sequence[float]], starts: Sequence[int], stretch: int
    ) -> Self | None:
        """The pairs among columns; None if there aren't two that can be paired.

        Args:
            bins: of rows in the order of time, shape (rows, columns).
            shares: of each column, the share of each of its bins, null last; empty if it takes no part.
            starts: where stretches begin, to learn how much a pair varies by itself.
            stretch: rows of a stretch, a multiple of 256.
        """
        lively = [place for place, share in enumerate(shares) if len(share) and max(share) <= LIVELY]
        if len(lively) < 2:
            return None
        every = tuple(combinations(range(len(lively)), 2))
        scores = tuple(_scores(np.array(shares[place])) for place in lively)
        bare = cls(columns=tuple(lively), scores=scores, pairs=every, rows=len(bins))
        kept = _strongest(every, np.abs(bare.fishers(bare.sums(bins, len(bins)), len(bins))[0]))
        # Not a copy: a copy takes along what was computed for all pairs.
        chosen = cls(columns=bare.columns, scores=scores, pairs=kept, rows=bare.rows)
        return chosen._pair_sums(bins, starts, stretch)

    @property
    def width(self) -> int:
        """Sums of one group."""
        return 2 * len(self.columns) + len(self.pairs)

    def sums(self, bins: Bins, group: int) -> Sums:
        """Sums over every `group` rows of `bins`, shape (rows, columns of the profile); exact."""
        columns = len(self.columns)
        scores = np.empty((columns, len(bins)), dtype=np.float32)
        for place, (column, table) in enumerate(zip(self.columns, self._tables, strict=True)):
            np.take(table, bins[:, column], out=scores[place], mode="clip")
        kind = np.float32 if group <= _EXACT else np.float64
        groups = scores.reshape(columns, -1, group).transpose(1, 0, 2).astype(kind, copy=False)
        products = np.matmul(groups, groups.transpose(0, 2, 1)).reshape(len(groups), -1)
        found = np.concatenate([groups.sum(axis=2), products.take(self._places, axis=1)], axis=1)
        return found.astype(np.int64)

    def fishers(self, sums: Sums, rows: int) -> Floats:
        """Fisher's z of each pair in groups of `rows`, shape (groups, pairs); NaN where one stood still."""
        columns = len(self.columns)
        means = sums[:, :columns]
        variances = rows * sums[:, columns : 2 * columns] - means**2
        first, second = self._both
        together = rows * sums[:, 2 * columns :] - means[:, first] * means[:, second]
        with np.errstate(divide="ignore", invalid="ignore"):
            correlations = together / np.sqrt(variances[:, first].astype(np.float64) * variances[:, second])
        return np.arctanh(np.clip(correlations, -CLOSEST, CLOSEST))

    @cached_property
    def _tables(self) -> Sequence[NDArray[np.float32]]:
        return [np.array(one, dtype=np.float32) for one in self.scores]

    @cached_property
    def _both(self) -> NDArray[np.int64]:
        """Places in `columns` of each pair's first and of its second, shape (2, pairs)."""
        return np.array(self.pairs, dtype=np.int64).reshape(-1, 2).T

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Where squares, then pairs, are among all products."""
        columns = len(self.columns)
        squares = np.arange(columns) * (columns + 1)
        first, second = self._both
        return np.concatenate([squares, first * columns + second])

    def _pair_sums(self, bins: Bins, starts: Sequence[int], stretch: int) -> Self:
        fisher = self.fishers(self.sums(bins, len(bins)), len(bins))[0]
        fisher = np.where(np.isnan(fisher), 0.0, fisher)
        apart = np.zeros((len(fisher), 2))
        for start in starts:
            quarters = self.sums(bins[start : start + stretch], GROUP)
            readings = self.fishers(quarters, GROUP), self.fishers(quarters.sum(axis=0)[None], stretch)
            for place, found in enumerate(readings):
                away = np.abs(np.where(np.isnan(found), fisher, found) - fisher).max(axis=0)
                apart[:, place] = np.maximum(apart[:, place], away)
        told = {"fisher": tuple(fisher.tolist()), "apart": tuple(map(tuple, apart.tolist()))}
        return self.model_copy(update=told)


def _scores(shares: Floats) -> tuple[int, ...]:
    """Scores of a column's bins in sixteenths of a standard deviation."""
    present = shares[:-1] / shares[:-1].sum()
    told = np.round(_FINE * normal_scores(mid_ranks(present)))
    return (*(int(score) for score in told), 0)


def _strongest(pairs: Sequence[tuple[int, int]], strength: Floats) -> tuple[tuple[int, int], ...]:
    """As many pairs as are watched, in their order: each column's strongest, then the strongest of all."""
    order = np.argsort(-np.nan_to_num(strength), kind="stable").tolist()
    best = set(_partners([pairs[place] for place in order]))
    chosen = sorted(order, key=lambda place: pairs[place] not in best)[:MOST]
    return tuple(pairs[place] for place in sorted(chosen))


def _partners(ranked: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Of pairs from the strongest to the weakest, those that are the strongest of a column."""
    seen: set[int] = set()
    for pair in ranked:
        if not seen.issuperset(pair):
            yield pair
        seen.update(pair)

"""From counts to standardised channels, the input of detectors.

A numeric column speaks on *location* (the normal score of its rank in the reference, so that heavy tails
don't shout), *scale* (how far from the median that rank is) and *null*; a categorical one on the share of
each kept category, of other, unseen and null. Under the reference each has mean 0 and standard deviation 1
per row. A numeric column's *shape* is what location and scale leave: rounding, two humps, a gap.

Weights lie on a grid of 2^-20, so that every sum of counts times weights is exact in float64: neither
chunking nor the BLAS at hand can change an alarm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats, Kind
from driftloop.mlops_core.data.normal_scores import mid_ranks, normal_scores
from driftloop.mlops_core.data.profile import BINS_MAX, STRETCH, ColumnProfile, Profile
from driftloop.mlops_core.data.seasons import Seasons
from driftloop.mlops_core.drift.microbatches import ROWS, Counts, Times
from driftloop.mlops_core.drift.season_adjustment import Due, Seasonal

SHAPE_BATCHES = 8
"""Micro-batches of one reading of the shape: 256 rows fill 32 bins with 8 rows each."""
SURE = 4.0
"""Standard errors beyond chance: the best of 100 channels reaches 3 by itself."""
_BEYOND = 1.5
"""The largest of 32 stretches lies 2 deviations out, that of a million rows 3: so much more is usual."""
_RARE = 0.01
"""A share is treated as at least this and at most its complement: else one rare event is an alarm."""
_FLOOR = float(np.sqrt(_RARE * (1 - _RARE)))
"""Least standard deviation of a channel, per unit of its largest weight; for an indicator, that of 1 %."""
_GRID = 2.0**20
_FULL = 6 / (SHAPE_BATCHES * ROWS)
"""Bins are merged until 6 of 256 rows are expected in each: under 5, chi-square is none."""
_LEAST_GROUPS = 4
"""Fewest groups of a shape: with fewer, location and scale cover every change."""
_LEAST_ROWS = 128
"""Fewest present values, of 256, for a shape."""


@dataclass(frozen=True)
class Channels:
    """The weights of one profile's channels, padded to equal sizes."""

    names: tuple[tuple[str, ...], ...]
    """Per column, the names of its channels; without shape."""
    weights: Floats
    """Shape (columns, BINS_MAX, channels); 0 where a column has fewer."""
    used: NDArray[np.bool_]
    """Which channels exist, shape (columns, channels)."""
    rows: NDArray[np.int64]
    """Rows of each column's reference, shape (columns,)."""
    shaped: NDArray[np.int64]
    """The columns that have a shape."""
    merge: Floats
    """Which bins are merged into which group: 0 or 1, shape (shaped, BINS_MAX, groups)."""
    expected: Floats
    """Reference shares of the groups among values present, shape (shaped, groups); 0 where fewer."""
    usual: Floats
    """Largest severity that stretches of the reference reach by themselves: over 256 and over 1,024 rows,
    shape (2, columns, channels + 1); 0 where rows are as good as independent."""
    seasonal: Seasonal | None = None
    """Expected means and shares by time; None without a season."""

    @classmethod
    def of(cls, profile: Profile, season: Seasons | None = None) -> Self:
        """The channels of `profile`, by its `season` if one is given."""
        made = [_channels(column) for column in profile.columns]
        width = max(len(names) for names, _ in made)
        weights = np.zeros((len(made), BINS_MAX, width))
        for place, (_, matrix) in enumerate(made):
            weights[place, : matrix.shape[0], : matrix.shape[1]] = matrix
        groups = {place: _groups(column) for place, column in enumerate(profile.columns)}
        shaped = [place for place, group in groups.items() if len(group) and group[-1] >= _LEAST_GROUPS - 1]
        merge = np.zeros((len(shaped), BINS_MAX, BINS_MAX))
        expected = np.zeros((len(shaped), BINS_MAX))
        for row, place in enumerate(shaped):
            merge[row, np.arange(len(groups[place])), groups[place]] = 1.0
            expected[row] = _shares(profile.columns[place]) @ merge[row, : len(groups[place])]
        bare = cls(
            names=tuple(names for names, _ in made),
            weights=weights,
            used=np.array([[i < len(names) for i in range(width)] for names, _ in made]),
            rows=_rows(profile, season),
            shaped=np.array(shaped, dtype=np.int64),
            merge=merge,
            expected=expected,
            usual=np.zeros((2, len(made), width + 1)),
            seasonal=None if season is None else Seasonal(profile, season, weights),
        )
        return replace(bare, usual=bare._usual(profile))

    def sums(self, counts: Counts, at: Times) -> Floats:
        """Sum over rows of each channel, beyond what is due; (micro-batches, columns, channels), exact."""
        by_column = np.ascontiguousarray(counts.transpose(1, 0, 2), dtype=np.float64)
        sums: Floats = np.matmul(by_column, self.weights).transpose(1, 0, 2)
        return sums if self.seasonal is None else sums - ROWS * self.seasonal.means(at)

    def shapes(self, counts: NDArray[np.int64], at: Times) -> Floats:
        """Shape as a z-score, (groups, shaped), from summed counts of 256 rows, (groups, columns, BINS_MAX).

        Chi-square of the merged bins against the reference, brought to a normal by Wilson and Hilferty
        (1931, PNAS 17:684); 0 where too few values are present. `at` are the times of the micro-batches,
        shape (groups, SHAPE_BATCHES, 2).
        """
        seen = self._merge_bins(counts)
        rows = seen.sum(axis=-1, keepdims=True)
        freedom = self._freedom
        chi = self._chi(seen, rows * self.expected) if self.seasonal is None else self._seasonal_chi(seen, at)
        spread = 2 / (9 * freedom)
        z = (np.cbrt(chi / freedom) - (1 - spread)) / np.sqrt(spread)
        return np.where(rows[..., 0] >= _LEAST_ROWS, z, 0.0)

    def due(self, at: Times) -> Due | None:
        """What is due over all micro-batches that came `at` together; None: the reference as a whole."""
        return None if self.seasonal is None else self.seasonal.due(at)

    def severities(self, counts: NDArray[np.int64], due: Due | None = None) -> Floats:
        """Severity on each channel, from summed counts of shape (columns, BINS_MAX) against what was `due`.

        Returns:
            Shape (columns, channels + 1), in standard deviations of the reference; the last is the shape.
            What stretches of the reference reach by themselves is left out: a day's weather is never the
            month's, nor Monday the week.
        """
        rows = np.maximum(counts.sum(axis=1), 1)[:, None]
        short = np.clip((STRETCH / rows - 1) / 3, 0.0, 1.0)  # 1 at 256 rows, 0 at 1,024
        usual = short * self.usual[0] + (1 - short) * self.usual[1]
        severities: Floats = np.maximum(self._bare(counts, due) - usual, 0.0)
        return severities

    def _chi(self, seen: Floats, due: Floats) -> Floats:
        """Pearson's statistic over merged bins."""
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(due > 0, (seen - due) ** 2 / due, 0.0)
        chi: Floats = terms.sum(axis=-1)
        return chi

    def _seasonal_chi(self, seen: Floats, at: Times) -> Floats:
        """The same against what is due at that time.

        A bin in which a phase expects fewer than 6 of 256 rows counts as if 6 were its variance, and what
        chance then adds less than by the reference as a whole is made up for.
        """
        assert self.seasonal is not None
        rows = seen.sum(axis=-1, keepdims=True)
        shares = np.empty((len(at), *self.weights.shape[:2]))
        for group, times in enumerate(at):
            shares[group] = self.seasonal.shares(times)
        expected = self._expected_shares(shares)
        due = rows * expected
        variance = np.where(self.expected > 0, np.maximum(due, _FULL * rows), 1.0)
        by_chance = (due * (1 - expected) / variance).sum(axis=-1)
        chi: Floats = ((seen - due) ** 2 / variance).sum(axis=-1) + self._freedom - by_chance
        return np.maximum(chi, 0.0)

    def _expected_shares(self, shares: Floats) -> Floats:
        """Shares of merged bins among values present, from shares of bins."""
        merged: Floats = np.matmul(shares[..., self.shaped, None, :], self.merge)[..., 0, :]
        total = merged.sum(axis=-1, keepdims=True)
        return np.where(total > 0, merged / np.where(total > 0, total, 1.0), self.expected)

    def _usual(self, profile: Profile) -> Floats:
        """Seen from the profile's own stretches, quarter by quarter and whole.

        A column with fewer rows (scores, of the newest rows only) has fewer: they are gone through again.
        """
        quarters = max(len(column.stretches) for column in profile.columns)
        counts = np.zeros((quarters, len(profile.columns), BINS_MAX), dtype=np.int64)
        for place, column in enumerate(profile.columns):
            own = np.array(column.stretches or [np.round(np.multiply(column.shares, STRETCH // 4))])
            counts[:, place, : column.null + 1] = np.resize(own, (quarters, column.null + 1))
        whole = counts.reshape(-1, 4, *counts.shape[1:]).sum(axis=1)
        dues = self._dues(profile, quarters)
        fours = [_average_due(dues[first : first + 4]) for first in range(0, quarters, 4)]
        usual: Floats = np.stack(
            [self._largest(counts, dues, STRETCH // 4), self._largest(whole, fours, STRETCH)]
        )
        return usual

    def _dues(self, profile: Profile, quarters: int) -> Sequence[Due | None]:
        """What was due in each quarter."""
        if self.seasonal is None:
            return [None] * quarters
        means = np.zeros((quarters, *self.used.shape))
        shares = np.zeros((quarters, *self.weights.shape[:2]))
        for place, column in enumerate(profile.columns):
            shares[:, place, : column.null + 1] = column.shares
            if column.stretches:
                own = self.seasonal.stretches(place)
                means[:, place] = np.resize(own[0], means[:, place].shape)
                shares[:, place] = np.resize(own[1], shares[:, place].shape)
        return [Due(mean, share) for mean, share in zip(means, shares, strict=True)]

    def _largest(self, counts: NDArray[np.int64], dues: Sequence[Due | None], rows: int) -> Floats:
        """Largest severity over all `counts`, where it is more than independent rows would reach."""
        nothing: Floats = self.usual[0]
        seen = [self._bare(quarter, due) for quarter, due in zip(counts, dues, strict=True)]
        largest = np.max([nothing, *seen], axis=0)
        usual: Floats = np.where(largest > SURE / np.sqrt(rows), _BEYOND * largest, 0.0)
        return usual

    def _bare(self, counts: NDArray[np.int64], due: Due | None) -> Floats:
        """Severities with all that is usual, shape (columns, channels + 1)."""
        rows = np.maximum(counts.sum(axis=1), 1)[:, None]
        means = np.matmul(counts[:, None, :].astype(np.float64), self.weights)[:, 0, :] / rows
        means = means if due is None else means - due.means
        severities = np.concatenate([np.abs(means), np.zeros((len(means), 1))], axis=1)
        expected = self.expected if due is None else self._expected_shares(due.shares)
        severities[self.shaped, -1] = self._left_over(counts, means[self.shaped, :2] ** 2, expected)
        return severities

    def _left_over(self, counts: NDArray[np.int64], said: Floats, expected: Floats) -> Floats:
        """Distance of the shapes, without what location and scale have `said` (squared) and chance adds.

        Its square is eight times Hellinger's squared distance: that of a shift by a small d is d squared.
        """
        seen = self._merge_bins(counts)
        rows = np.maximum(seen.sum(axis=1), 1)
        overlap = np.sqrt(seen / rows[:, None] * expected).sum(axis=1)
        chance = self._freedom * (1 / rows + 1 / self.rows[self.shaped])
        left = 8 * (1 - overlap) - chance - said.sum(axis=1)
        return np.where(rows >= _LEAST_ROWS, np.sqrt(np.maximum(left, 0.0)), 0.0)

    def _merge_bins(self, counts: NDArray[np.int64]) -> Floats:
        seen: Floats = np.matmul(counts[..., self.shaped, None, :].astype(np.float64), self.merge)[..., 0, :]
        return seen

    @property
    def _freedom(self) -> Floats:
        freedom: Floats = (self.expected > 0).sum(axis=1) - 1.0
        return freedom


def _rows(profile: Profile, season: Seasons | None) -> NDArray[np.int64]:
    """Reference rows that a severity leans on: of one phase, on average, where there is a season."""
    phases = 1 if season is None else season.phases
    return np.array([max(column.rows // phases, 1) for column in profile.columns], dtype=np.int64)


def _average_due(dues: Sequence[Due | None]) -> Due | None:
    """What is due over several stretches of the same length."""
    known = [due for due in dues if due is not None]
    if not known:
        return None
    return Due(np.mean([due.means for due in known], axis=0), np.mean([due.shares for due in known], axis=0))


def _channels(column: ColumnProfile) -> tuple[tuple[str, ...], Floats]:
    """Names and weights (bins, channels) of a column's channels."""
    shares = np.array(column.shares)
    if column.kind is Kind.CATEGORICAL:
        names = (*(f"share of {name}" for name in column.bin_names), "null")
        return names, _standardise(np.eye(len(shares)), shares, np.ones(len(shares), dtype=np.bool_))
    present = np.arange(len(shares)) != column.null
    ranks = np.zeros(len(shares))
    ranks[present] = mid_ranks(_shares(column))
    raw = np.stack([normal_scores(ranks), np.abs(2 * ranks - 1), ~present], axis=1)
    bare = _standardise(raw[:, :2], shares, present)
    null = _standardise(raw[:, 2:], shares, np.ones(len(shares), dtype=np.bool_))
    return ("location", "scale", "null"), np.concatenate([bare, null], axis=1)


def _standardise(raw: Floats, shares: Floats, present: NDArray[np.bool_]) -> Floats:
    """Weights (bins, channels) with mean 0, deviation 1 over `present` bins; others count as the mean."""
    total = shares[present].sum()
    mean = shares[present] @ raw[present] / total if total else raw[present].mean(axis=0)
    centred = np.where(present[:, None], raw - mean, 0.0)
    deviation = np.sqrt(shares @ centred**2)
    floor = _FLOOR * np.abs(centred).max(axis=0, initial=0.0)
    divisor = np.maximum(deviation, floor)
    weights: Floats = (
        np.round(np.divide(centred, divisor, where=divisor > 0, out=centred * 0) * _GRID) / _GRID
    )
    return weights


def _shares(column: ColumnProfile) -> Floats:
    """Shares of a numeric column's bins among the values present; all 0 if there were none."""
    shares = np.array(column.shares)[: column.null]
    total = shares.sum()
    bare: Floats = shares / total if total else shares
    return bare


def _groups(column: ColumnProfile) -> NDArray[np.int64]:
    """For each bin of values the group it is merged into, neighbours first; empty for categories."""
    if column.kind is Kind.CATEGORICAL:
        return np.empty(0, dtype=np.int64)
    groups, filled, group = [], 0.0, 0
    for share in _shares(column):
        groups.append(group)
        filled += share
        if filled >= _FULL:
            filled, group = 0.0, group + 1
    return np.minimum(np.array(groups, dtype=np.int64), max(group - 1, 0))

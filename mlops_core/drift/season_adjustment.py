"""What is due at a time of the day or of the week, so that Monday is compared with Mondays.

Each phase has its own shares, drawn a little towards those of all phases. Within a phase a channel's mean may
rise or fall on a line whose slope is the lesser of those to its two neighbours, and 0 between neighbours on
opposite sides (the minmod rule of finite volumes: Roe, 1986, Annu. Rev. Fluid Mech. 18:337): a smooth day is
followed closely, and what changes on the hour stays sharp.

All weights lie on grids so coarse that their sums are exact in float64, as those of `channels` are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import BINS_MAX, Profile
from driftloop.mlops_core.data.seasons import ColumnSeason, Seasons
from driftloop.mlops_core.drift.microbatches import Times

_DRAWN = 32
"""Rows of all phases that each phase's own are mixed with: a phase without any is as the whole, and one with
200 keeps 86 % of its own way."""
_FINE = 2.0**20
"""Grid of means, as that of the weights in `channels`."""
_PARTS = 2.0**10
"""Parts that a phase's length is told in."""
_COARSE = 2.0**16
"""Grid of a phase's part in a micro-batch."""


@dataclass(frozen=True)
class Due:
    """What counts are held against."""

    means: Floats
    """Of each channel, shape (columns, channels)."""
    shares: Floats
    """Of each bin, shape (columns, BINS_MAX)."""


class Seasonal:
    """What is due by `season`, on channels whose `weights` have shape (columns, BINS_MAX, channels)."""

    def __init__(self, profile: Profile, season: Seasons, weights: Floats) -> None:
        self._season = season
        counts = np.stack([_pad_bins(column) for column in season.columns], axis=1)
        whole = np.zeros(counts.shape[1:])
        for place, column in enumerate(profile.columns):
            whole[place, : column.null + 1] = column.shares
        rows = counts.sum(axis=2, keepdims=True)
        self._shares = (counts + _DRAWN * whole) / (rows + _DRAWN)
        """Shape (phases, columns, BINS_MAX)."""
        means = np.matmul(self._shares.transpose(1, 0, 2), weights).transpose(1, 0, 2)
        self._means = np.round(means * _FINE) / _FINE
        """Shape (phases, columns, channels)."""
        ahead = np.roll(self._means, -1, axis=0) - self._means
        self._slopes = _minmod(ahead, np.roll(ahead, 1, axis=0))
        """Rise over a phase, same shape."""
        self._rows = rows[:, 0, 0] + 1
        """How much traffic each phase had."""

    def means(self, at: Times) -> Floats:
        """Mean of each channel due in micro-batches that came `at`, shape (k, columns, channels); exact."""
        touched, parts, offsets = self._parts(at)
        flat = (len(touched), int(np.prod(self._means.shape[1:])))
        level = parts @ self._means[touched].reshape(flat)
        tilt = offsets @ self._slopes[touched].reshape(flat)
        means: Floats = (level + tilt).reshape(len(at), *self._means.shape[1:])
        return means

    def shares(self, at: Times) -> Floats:
        """Share of each bin due over all of these micro-batches together, shape (columns, BINS_MAX)."""
        touched, parts, _ = self._parts(at)
        shares: Floats = np.tensordot(parts.mean(axis=0), self._shares[touched], axes=1)
        return shares

    def due(self, at: Times) -> Due:
        """What is due over all of these micro-batches together."""
        return Due(self.means(at).mean(axis=0), self.shares(at))

    def stretches(self, place: int) -> tuple[Floats, Floats]:
        """Means (stretches, channels) and shares (stretches, BINS_MAX) due in a column's own stretches."""
        spans = self._season.columns[place].stretches
        touched, parts, offsets = self._parts(np.array(spans, dtype=np.int64).reshape(-1, 2))
        means = parts @ self._means[touched, place] + offsets @ self._slopes[touched, place]
        return means, parts @ self._shares[touched, place]

    def _parts(self, at: Times) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Which phases spans touch, the part of each by time and traffic, and that times where it lies.

        Phases of shape (touched,), perhaps some twice; the others of shape (k, touched). A part's middle lies
        between -.5 and .5 of its phase.
        """
        phases, period = self._season.phases, self._season.period_ms
        first = at[:, :1] % period / period * phases
        end = first + np.clip(at[:, 1:] - at[:, :1], 1, period) / period * phases
        begins = np.arange(np.floor(first.min(initial=phases)), np.ceil(end.max(initial=0)))
        touched = begins.astype(np.int64) % phases
        left, right = np.maximum(first, begins), np.minimum(end, begins + 1)
        times = np.where(right > left, np.ceil((right - left) * _PARTS), 0.0)
        middles = np.round(((left + right) / 2 - begins - 0.5) * _PARTS) / _PARTS
        amounts = times * self._rows[touched]
        parts = np.round(amounts / amounts.sum(axis=1, keepdims=True) * _COARSE) / _COARSE
        return touched, parts, parts * middles


def _pad_bins(column: ColumnSeason) -> NDArray[np.int64]:
    counts = np.array(column.counts, dtype=np.int64)
    return np.pad(counts, ((0, 0), (0, BINS_MAX - counts.shape[1])))


def _minmod(left: Floats, right: Floats) -> Floats:
    """The smaller of two slopes in absolute value; 0 if their signs differ."""
    smaller: Floats = np.where(np.abs(left) < np.abs(right), left, right)
    return np.where(left * right > 0, smaller, 0.0)

"""Whether a severity is more than chance, channel by channel.

Bennett (1962, JASA 57:33) bounds how far the mean of rows may lie from what is expected, by their variance
and the most that one row can say. Unlike the normal's, that bound holds for rare events, of which 4 in 128
rows may be nothing or everything: it depends on how often the reference had them. For a shape it is how far a
chi-square may lie from its mean, by Wilson and Hilferty (1931, PNAS 17:684).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.channels import SURE, Channels
from driftloop.mlops_core.drift.episodes import Indices

_UNLIKELY = SURE**2 / 2
"""Bennett's exponent: where many small rows add up, that of `SURE` standard errors."""
_SPARSE = 33.0
"""Over the squared rows that are due in the sparsest bin: how much further Hellinger's distance strays than a
chi-square, because an empty bin says four times as much. 1.5 times where 8 are due in each bin, 1.03 times
where 32 are; measured on a million samples in 10 and in 32 bins."""


@dataclass(frozen=True)
class Significance:
    """What chance does to each channel of a profile.

    >>> random = np.random.default_rng(1)
    >>> profile = Profile.of({"x": random.choice(["a", "b"], 10_000)}, scores=random.random(10_000))
    >>> chance = Significance.of(Channels.of(profile), profile)
    >>> severities = np.full((len(profile.columns), chance.largest.shape[1] + 1), 0.3)
    >>> sure = chance.significant(severities, rows=np.full(len(profile.columns), 128))
    >>> sure[0, :5].tolist()  # of 128 rows 65 % for half may be chance, 4 that are new not
    [0.0, 0.0, 0.3, 0.3, 0.3]
    """

    reference: Indices
    """Rows of each column's reference, shape (columns,)."""
    largest: Floats
    """The most that one row says on each channel, shape (columns, channels); 0 where there is none."""
    spread: Floats
    """Variance of a row over `largest`, same shape, 1 where there is none; an event counts as seen at least
    once in the reference."""
    shape: Floats
    """Squared severity of the shape that chance reaches, times rows; shape (columns,)."""
    sparsest: Floats
    """Share of the smallest bin of the shape, shape (columns,); 1 where there is no shape."""

    @classmethod
    def of(cls, channels: Channels, profile: Profile) -> Self:
        """By the shares of `profile`."""
        largest = np.abs(channels.weights).max(axis=1)
        shares = np.zeros(channels.weights.shape[:2])
        for place, column in enumerate(profile.columns):
            shares[place, : len(column.shares)] = column.shares
        variance = np.einsum("cb,cbk->ck", shares, channels.weights**2)
        variance = np.maximum(variance, largest**2 / channels.rows[:, None])
        spread = np.divide(variance, largest, where=largest > 0, out=np.ones_like(largest))
        shape = np.zeros(len(shares))
        sparsest = np.ones(len(shares))
        sparsest[channels.shaped] = np.where(channels.expected > 0, channels.expected, 1).min(axis=1)
        freedom = (channels.expected > 0).sum(axis=1) - 1.0
        width = 2 / (9 * freedom)
        shape[channels.shaped] = freedom * ((1 - width + SURE * np.sqrt(width)) ** 3 - 1)
        return cls(channels.rows, largest, spread, shape, sparsest)

    def significant(self, severities: Floats, rows: Indices) -> Floats:
        """`severities`, shape (columns, channels + 1), over `rows`, shape (columns,); 0 where by chance."""
        either = (1 / (1 / rows + 1 / self.reference))[:, None]  # the reference is a sample, too
        excess = severities[:, :-1] / self.spread
        bits = (1 + excess) * np.log1p(excess) - excess
        some = np.where(self.largest > 0, self.largest, np.inf)
        plain = either * self.spread / some * bits >= _UNLIKELY
        beyond = (self.shape * (1 + _SPARSE / (self.sparsest * rows) ** 2))[:, None]
        shape = severities[:, -1:] ** 2 * either >= beyond
        return np.where(np.concatenate([plain, shape], axis=1), severities, 0.0)

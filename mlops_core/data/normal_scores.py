"""Ranks of bins and their normal scores: a column's values as if they were normal, so that no tail shouts."""

from statistics import NormalDist

import numpy as np

from driftloop.mlops_core.data.features import Floats

_HALF = 0.5 / 32
"""No rank lies nearer to 0 or 1 than the middle of one of 32 bins."""


def mid_ranks(shares: Floats) -> Floats:
    """Mid-rank of each bin in the reference, in [0, 1]."""
    ranks: Floats = np.cumsum(shares) - shares / 2
    return ranks


def normal_scores(ranks: Floats) -> Floats:
    """Normal scores of ranks, so that a shift by d deviations of a normal column has mean d; within 2.2."""
    return np.array([NormalDist().inv_cdf(rank) for rank in np.clip(ranks, _HALF, 1 - _HALF)])

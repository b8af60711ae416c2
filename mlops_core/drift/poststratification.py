"""A table of errors by bin of the score: decayed sums, smoothed over neighbours, and weighted by scores.

One table serves three purposes, because they are one computation, sum(share of a bin x mean loss in it):

- with the bins of *unlabelled* predictions it is the performance to expect: confidence-based performance
  estimation (CBPE, NannyML; Bialek et al. 2024, arXiv 2401.08348), where the table is the calibration; for
  numbers, as NannyML's DLE, the error to expect by the value that was predicted;
- with labelled rows of a sample that isn't a fair one, it is post-stratification (Holt and Smith, "Post
  stratification", JRSS A 142:1, 1979).

Both are right while P(label | score) stays the same, which `estimation` checks with each window of labels.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.performance import metrics
from driftloop.mlops_core.ports import Task

BORROWED = 10.0
"""Rows that a bin borrows from its neighbours: few beside the hundreds that most bins have."""
_NEAR = 0.5
"""Weight of a row of the next bin; its square for the bin after that, and so on."""
_WILD = 10.0
"""Largest error of a regression, in multiples of its usual size, so that outliers don't dominate."""
_TINY = 1e-300


class Sum(IntEnum):
    """Columns of a table."""

    ROWS = 0
    WEIGHTS_2 = 1
    """Of squared weights: decayed rows are worth more than their sum says."""
    ERROR = 2
    """1 for a wrong class; of a regression |label - score|."""
    ERROR_2 = 3
    LOSS = 4
    """(label - score) squared: Brier's score of a probability."""
    LOSS_2 = 5
    RESIDUAL = 6
    """label - score, whose mean is the calibration error of the bin."""


@dataclass(frozen=True)
class Expected:
    """An expected mean over rows, and its variances."""

    value: float
    uncertainty: float
    """Variance of `value`, from the number of rows in each bin of the table."""
    spread: float
    """Variance of one row around the mean of its bin."""

    def deviation(self, rows: int) -> float:
        """Standard error of the mean of `rows` rows around `value`."""
        return float(np.sqrt(self.uncertainty + self.spread / rows))


def empty(bins: int) -> Floats:
    """A table without rows, shape (bins, sums)."""
    return np.zeros((bins, len(Sum)))


def residuals(labels: Floats, scores: Floats, task: Task) -> tuple[Floats, Floats]:
    """Error and residual of each row, shape (rows,)."""
    residuals = np.clip(labels - scores, -metrics.LARGEST, metrics.LARGEST)
    if task is Task.BINARY:
        wrong = (scores >= metrics.CUT) != (labels >= metrics.CUT)
        return wrong.astype(np.float64), residuals
    return np.abs(residuals), residuals


def winsorise(errors: Floats, residuals: Floats, usual: float) -> tuple[Floats, Floats]:
    """The same of numbers, none beyond ten times the `usual` size; 0 if nobody knows it.

    >>> winsorise(np.array([1.0, 1e9]), np.array([-1.0, 1e9]), usual=2.0)
    (array([ 1., 20.]), array([-1., 20.]))
    """
    most = min(_WILD * usual or metrics.LARGEST, metrics.LARGEST)
    return np.minimum(errors, most), np.clip(residuals, -most, most)


def sum_by_bin(places: NDArray[np.uint8], errors: Floats, residuals: Floats, bins: int) -> Floats:
    """The table of rows of shape (rows,), each in bin `places`.

    >>> sum_by_bin(np.array([0, 0], np.uint8), np.array([0.0, 1.0]), np.array([0.2, -0.6]), bins=1).round(3)
    array([[ 2.   ,  2.   ,  1.   ,  1.   ,  0.4  ,  0.131, -0.4  ]])
    """
    losses = np.square(residuals)
    ones = np.ones(len(places))
    columns = (ones, ones, errors, np.square(errors), losses, np.square(losses), residuals)
    return np.stack([np.bincount(places, column, bins) for column in columns], axis=1)


def decay_update(table: Floats, arrived: Floats, memory: int) -> Floats:
    """`table` after `arrived` came: each bin remembers about its last `memory / bins` rows.

    A bin forgets only as rows come to it, so that one that gets no labels keeps what it knew.
    """
    most = max(memory / len(table), 1.0)
    keep = (1 - 1 / most) ** arrived[:, Sum.ROWS] if most > 1 else (arrived[:, Sum.ROWS] == 0) * 1.0
    return _scale(table, keep) + arrived


def limit_weight(table: Floats, memory: int) -> Floats:
    """`table` with no bin heavier than its memory, and worth as much as before."""
    most = max(memory / len(table), 1.0)
    return _scale(table, np.minimum(most / np.maximum(table[:, Sum.ROWS], most), 1.0))


def halve_weight(table: Floats) -> Floats:
    """`table` with half of its weight."""
    return _scale(table, np.full(len(table), 0.5))


def expected_mean(table: Floats, counts: Floats, what: Sum) -> Expected:
    """The expected mean error or loss of rows with `counts`, shape (bins,), in the bins."""
    shares = counts / max(float(counts.sum()), _TINY)
    means = smooth(table)
    spreads = np.maximum(means[:, what + 1] - np.square(means[:, what]), 0.0)
    return Expected(
        value=float(shares @ means[:, what]),
        uncertainty=float(np.square(shares) @ (spreads / _worth(table))),
        spread=float(shares @ spreads),
    )


def smooth(table: Floats) -> Floats:
    """The mean of each sum per row, shape (bins, sums); a bin borrows `BORROWED` rows from its neighbours."""
    bins = np.arange(len(table))
    near = (_NEAR ** np.abs(np.subtract.outer(bins, bins))) @ table
    borrowed = near / np.maximum(near[:, [Sum.ROWS]], _TINY)
    smooth: Floats = (table + BORROWED * borrowed) / (table[:, [Sum.ROWS]] + BORROWED)
    return smooth


def poststratify(sample: Floats, table: Floats, counts: Floats, what: Sum) -> float:
    """The mean of a labelled `sample`, weighted to `counts`; a bin without labels is taken from `table`.

    The difference estimator of Cassel, Sarndal and Wretman (Biometrika 63:3, 1976), with one row of the table
    in each bin, so that a bin's only label doesn't speak for thousands of rows.

    >>> table = empty(2)
    >>> table[:, :3] = [[100, 100, 10], [100, 100, 50]]
    >>> high = empty(2)
    >>> high[1, :3] = [99, 99, 49.5]  # labels came for high scores only, half of them were wrong
    >>> round(poststratify(high, table, np.array([50.0, 50.0]), Sum.ERROR), 2)
    0.31
    """
    rows = sample[:, Sum.ROWS]
    means = (sample[:, what] + smooth(table)[:, what]) / (rows + 1)
    return float(counts @ means) / max(float(counts.sum()), _TINY)


def surprise(table: Floats, sample: Floats, what: Sum) -> float:
    """How many standard errors the mean of a labelled `sample` lies from what `table` expected of its scores.

    One row varies as in the table or as in the sample, whichever is more: one wild label is no surprise.
    """
    rows = float(sample[:, Sum.ROWS].sum())
    told = expected_mean(table, sample[:, Sum.ROWS], what)
    means = smooth(table)[:, what]
    off = float(sample[:, what].sum()) / rows - told.value
    squares = sample[:, what + 1] - 2 * means * sample[:, what] + sample[:, Sum.ROWS] * np.square(means)
    spread = max(told.spread, float(squares.sum()) / rows - off**2)
    return off / max(float(np.sqrt(told.uncertainty + spread / rows)), _TINY)


def calibration_error(table: Floats, counts: Floats) -> float:
    """Root mean square of mean label - mean score over the bins, without what chance adds to it.

    The debiased estimator of Kumar, Liang and Ma, "Verified uncertainty calibration", NeurIPS 2019.
    """
    means = smooth(table)
    squares = np.square(means[:, Sum.RESIDUAL])
    chance = np.maximum(means[:, Sum.LOSS] - squares, 0.0) / _worth(table)
    shares = counts / max(float(counts.sum()), _TINY)
    return float(np.sqrt(max(float(shares @ (squares - chance)), 0.0)))


def _worth(table: Floats) -> Floats:
    """Rows that each bin's mean rests on, decayed ones in full and those that it borrowed included."""
    worth: Floats = np.square(table[:, Sum.ROWS]) / np.maximum(table[:, Sum.WEIGHTS_2], _TINY) + BORROWED
    return worth


def _scale(table: Floats, by: Floats) -> Floats:
    scaled = table * by[:, None]
    scaled[:, Sum.WEIGHTS_2] *= by
    return scaled

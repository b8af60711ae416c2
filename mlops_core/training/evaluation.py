"""Metrics of scores against labels: mae and rmse, or auc, log loss, Brier score and error rate."""

from collections.abc import Mapping

import numpy as np

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.ports import Task

_CERTAIN = 1e-15
"""Least distance of a probability from 0 and 1: the log loss of a wrong 0 or 1 would be infinite."""


def metrics(task: Task, labels: Floats, scores: Floats) -> Mapping[str, float]:
    """Metrics of `scores` against `labels`, both of shape (rows,); an undefined one is left out.

    >>> metrics(Task.REGRESSION, np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    {'mae': 1.0, 'rmse': 1.4142135623730951}
    """
    residual = labels - scores
    if task is Task.REGRESSION:
        return {"mae": float(np.abs(residual).mean()), "rmse": float(np.sqrt((residual**2).mean()))}
    known = {
        "log_loss": log_loss(labels, scores),
        "brier": float((residual**2).mean()),
        "error": float(((scores >= 0.5) != (labels >= 0.5)).mean()),
    }
    # The AUC is undefined where all labels are of one class.
    return known if len(np.unique(labels)) < 2 else {"auc": auc(labels, scores), **known}


def log_loss(labels: Floats, scores: Floats) -> float:
    """Mean negative log-likelihood of labels 0 and 1."""
    sure = np.clip(scores, _CERTAIN, 1 - _CERTAIN)
    return float(-np.where(labels >= 0.5, np.log(sure), np.log1p(-sure)).mean())


def auc(labels: Floats, scores: Floats) -> float:
    """The probability that a positive scores above a negative; a tie counts half.

    Source: the rank sum of Mann and Whitney, 1947; Hanley and McNeil, Radiology 1982.

    >>> auc(np.array([0, 0, 1, 1.0]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index]
    positive = labels >= 0.5
    positives = int(positive.sum())
    rank_sum = float(ranks[positive].sum()) - positives * (positives + 1) / 2
    return rank_sum / (positives * (len(labels) - positives))

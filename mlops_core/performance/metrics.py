"""What labels say about scores, as sums that add up over windows. Prequential: each row is judged once."""

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import HUGE, Floats
from driftloop.schemas.events import Outcome

CLIP = 1e-7
"""A probability of 0 or 1 that was wrong costs 16 nats, not infinitely many."""
CUT = 0.5
LARGEST = 1e70
"""A residual counts as at most this: its fourth power, which `loss_squared` adds up, is still a number."""


def usable(labels: Floats, scores: Floats) -> NDArray[np.bool_]:
    """Which rows are numbers that can be reckoned with, shape (rows,)."""
    usable: NDArray[np.bool_] = (np.abs(labels) <= HUGE) & (np.abs(scores) <= HUGE)
    return usable


def is_classification(labels: Floats, scores: Floats) -> bool:
    """Whether these look like probabilities of a class: labels 0 or 1, scores between; of sane rows."""
    known = usable(labels, scores)
    labels, scores = labels[known], scores[known]
    return bool(np.isin(labels, (0.0, 1.0)).all() and ((scores >= 0) & (scores <= 1)).all())


def outcome(labels: Floats, scores: Floats) -> Outcome:
    """The sums over rows of shape (rows,); rows that are not finite are left out.

    >>> outcome(np.array([1.0, 0.0, np.nan]), np.array([0.8, 0.6, 0.5])).errors
    1
    """
    known = usable(labels, scores)
    labels, scores = labels[known], scores[known]
    residuals = np.clip(labels - scores, -LARGEST, LARGEST)
    losses = np.square(residuals)
    fields = {
        "rows": len(labels),
        "loss": float(losses.sum()),
        "loss_squared": float(np.square(losses).sum()),
        "residual": float(residuals.sum()),
    }
    if is_classification(labels, scores):
        likely = np.clip(np.where(labels == 1, scores, 1 - scores), CLIP, 1)
        fields["log_loss"] = float(-np.log(likely).sum())
        fields["errors"] = int(((scores >= CUT) != (labels == 1)).sum())
    return Outcome.model_validate(fields)


def by_version(labels: Floats, scores: Floats, versions: NDArray[np.object_]) -> dict[str, Outcome]:
    """The sums of each version's rows."""
    chosen = {version: versions == version for version in sorted(set(versions))}
    return {version: outcome(labels[rows], scores[rows]) for version, rows in chosen.items()}

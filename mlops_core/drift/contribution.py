"""Share of each column in a drift: its squared distance, weighted by its importance to the model.

A severity is near to eight times Hellinger's squared distance in its square (see `channels`), and squared
distances of independent columns add up; so shares of squares are shares of the whole. The weight is the
column's share in the model's SHAP values (see `training.importance`): a feature that the model hardly uses
may drift as it likes.
"""

import numpy as np

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import Profile


def weights(profile: Profile) -> Floats:
    """Weight of each column of the profile, shape (columns,): 0 for columns of the predictions.

    A feature without an importance has the mean weight.
    """
    weighted = np.array(
        [np.nan if column.importance is None else column.importance for column in profile.features]
    )
    known = weighted[~np.isnan(weighted)]
    weighted[np.isnan(weighted)] = known.mean() if len(known) else 1.0
    return np.append(weighted, np.zeros(len(profile.predictions)))


def contributions(severities: Floats, weighted: Floats) -> Floats:
    """Share of each column in the drift of all features, shape (columns,); all 0 where nothing drifts.

    >>> contributions(np.array([0.6, 0.3, 0.0, 0.9]), np.array([0.5, 1.0, 1.0, 0.0])).round(2).tolist()
    [0.67, 0.33, 0.0, 0.0]
    """
    parts = np.square(severities) * weighted
    total = parts.sum()
    shares: Floats = parts / total if total > 0 else np.zeros(len(parts))
    return shares

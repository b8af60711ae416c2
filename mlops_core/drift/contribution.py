"""How much of a drift each column makes up: its distance, weighted by what it matters to the model.

A severity is near to eight times Hellinger's squared distance in its square (see `channels`), and squared
distances of independent columns add up; so shares of squares are shares of the whole. The weight is the
column's share in the model's SHAP values (see `training.importance`): a feature that the model hardly uses
may drift as it likes.
"""

import numpy as np

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import Profile


def weights(profile: Profile) -> Floats:
    """Weight of each column of the profile, shape (columns,), 0 for the predictions' own.

    Features of a profile from before importances were known weigh the same.
    """
    features = np.array([np.nan if one.importance is None else one.importance for one in profile.features])
    known = features[~np.isnan(features)]
    features[np.isnan(features)] = known.mean() if len(known) else 1.0
    return np.append(features, np.zeros(len(profile.predictions)))


def contributions(severities: Floats, weighted: Floats) -> Floats:
    """Share of each column in the drift of all features, shape (columns,); all 0 where nothing drifts.

    >>> contributions(np.array([0.6, 0.3, 0.0, 0.9]), np.array([0.5, 1.0, 1.0, 0.0])).round(2).tolist()
    [0.67, 0.33, 0.0, 0.0]
    """
    parts = np.square(severities) * weighted
    total = parts.sum()
    shares: Floats = parts / total if total > 0 else np.zeros(len(parts))
    return shares

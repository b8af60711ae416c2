"""How much each feature matters to a model, as shares, by permuting one column at a time.

Source: Breiman, "Random Forests", Machine Learning 45 (2001), section 10; here the change of the score is
measured instead of the change of the error, so that no labels are needed.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.ports import Scorer

ROWS = 1000
"""Rows of the sample: with 1,000 evenly spread rows, shares are exact to one or two percent."""


def permutation_importance(names: Sequence[str], scorer: Scorer, examples: Examples) -> Mapping[str, float]:
    """Mean absolute change of the score when a feature's values are exchanged between rows, as shares."""
    sample = sample_rows(examples)
    before = scorer(sample.features, len(sample))
    order = np.random.default_rng(0).permutation(len(sample))
    effects = []
    for name in names:
        permuted = {**sample.features, name: np.asarray(sample.features[name])[order]}
        effects.append(np.abs(scorer(permuted, len(sample)) - before).mean())
    return to_shares(names, np.array(effects))


def sample_rows(examples: Examples) -> Examples:
    """At most `ROWS` of the examples, evenly spread."""
    rows = np.linspace(0, len(examples) - 1, min(ROWS, len(examples))).astype(np.int64)
    return examples[np.unique(rows)]


def to_shares(names: Sequence[str], effects: Floats) -> Mapping[str, float]:
    """Effects as shares that add up to 1; equal shares where no feature has an effect.

    >>> to_shares(["a", "b"], np.array([3.0, 1.0]))
    {'a': 0.75, 'b': 0.25}
    """
    total = effects.sum()
    shares = effects / total if total > 0 else np.full(len(names), 1 / max(len(names), 1))
    return dict(zip(names, shares.tolist(), strict=True))

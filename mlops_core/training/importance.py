"""How much each feature matters to a fitted model: mean absolute SHAP values, as shares.

Source: Lundberg et al., "From local explanations to global understanding with explainable AI for trees",
Nature Machine Intelligence 2, 2020; computed exactly by xgboost (`pred_contribs`).
"""

from collections.abc import Mapping

import numpy as np
import xgboost

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.ports import Fitted

ROWS = 1000
"""Rows that are explained, evenly spread: shares within a percent or two, in some tenths of a second."""


def importance(fitted: Fitted, examples: Examples, threads: int = 1) -> Mapping[str, float]:
    """Share of each feature in what moves the model's answers on `examples`; they add up to 1.

    A model that answers the same to everybody has no important feature: all shares are equal.
    """
    names = fitted.features.names
    rows = np.unique(np.linspace(0, len(examples) - 1, min(ROWS, len(examples))).astype(np.int64))
    chosen = examples[rows]
    booster = xgboost.Booster({"nthread": threads})
    booster.load_model(bytearray(fitted.booster))
    data = xgboost.DMatrix(
        fitted.features.encode(chosen.features, len(chosen)),
        feature_types=fitted.features.types,
        enable_categorical=True,
        nthread=threads,
    )
    # The last column is the same for every row: what the model says of nobody in particular.
    explained = np.abs(booster.predict(data, pred_contribs=True)[:, :-1]).mean(axis=0, dtype=np.float64)
    total = explained.sum()
    shares = explained / total if total > 0 else np.full(len(names), 1 / max(len(names), 1))
    return dict(zip(names, shares.tolist(), strict=True))

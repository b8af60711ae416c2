"""A fitted model, loaded once and asked often: the one way to a score, in the gate and in serving."""

from collections.abc import Mapping

import numpy as np
import xgboost

from driftloop.mlops_core.data.features import Column, Floats
from driftloop.mlops_core.ports import Fitted


class Scorer:
    """Scores columns; a row's score doesn't depend on the rows beside it.

    Safe to call from several threads. `threads` 1 is quickest for the few rows of a request.

    Raises:
        ValueError: the bytes are no model of xgboost's, or one of other inputs than it says.
    """

    def __init__(self, fitted: Fitted, threads: int = 1) -> None:
        self._features = fitted.features
        self._booster = xgboost.Booster({"nthread": threads})
        self._booster.load_model(bytearray(fitted.booster))
        has, said = self._booster.num_features(), len(fitted.features.features)
        if has != said:
            raise ValueError(f"the model has {has} inputs, its features are {said}")

    def __call__(self, columns: Mapping[str, Column], rows: int) -> Floats:
        """What the model says of each row, shape (rows,); an absent column is missing in every row."""
        if not rows:
            return np.empty(0)
        matrix = self._features.encode(columns, rows)
        return np.asarray(self._booster.inplace_predict(matrix), dtype=np.float64)

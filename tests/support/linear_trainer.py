"""A trainer as a user brings one, in a file of its own: least squares, stored as JSON."""

import json
from collections.abc import Mapping

import numpy as np

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Column, FeatureSpec, Floats
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Fitted, Task


class LinearScorer:
    def __init__(self, fitted: Fitted) -> None:
        self._features = fitted.features
        self._weights = np.array(json.loads(fitted.payload)["weights"])

    def __call__(self, columns: Mapping[str, Column], rows: int) -> Floats:
        scores = inputs(self._features, columns, rows) @ self._weights
        return np.asarray(np.clip(scores, 0, 1), dtype=np.float64)


class LinearTrainer:
    def __init__(self, rounds: int, threads: int) -> None:
        """Neither is needed here."""

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        unknown = set(hyperparameters) - {"ridge"}
        if unknown:
            raise InvalidData(f"linear knows no hyperparameter {unknown.pop()!r}; it knows ridge")
        spec = FeatureSpec.infer(examples.features)
        matrix = inputs(spec, examples.features, len(examples))
        ridge = float(str(hyperparameters.get("ridge", 1e-6))) * np.eye(matrix.shape[1])
        weights = np.linalg.solve(matrix.T @ matrix + ridge, matrix.T @ examples.labels)
        return Fitted(task, "linear", json.dumps({"weights": weights.tolist()}).encode(), spec)

    def scorer(self, fitted: Fitted) -> LinearScorer:
        return LinearScorer(fitted)


def inputs(spec: FeatureSpec, columns: Mapping[str, Column], rows: int) -> Floats:
    """Encoded columns without missing values, in thousands, and a constant."""
    encoded = np.nan_to_num(spec.encode(columns, rows).astype(np.float64)) / 1000
    return np.hstack([encoded, np.ones((rows, 1))])

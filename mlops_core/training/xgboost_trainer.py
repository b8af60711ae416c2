"""Gradient-boosted trees by xgboost, on encoded columns; a model's payload is xgboost's own UBJSON.

Sources: Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016; for the importance of
features, Lundberg et al., "From local explanations to global understanding with explainable AI for trees",
Nature Machine Intelligence 2, 2020.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xgboost

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Column, FeatureSpec, Floats
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.mlops_core.training.importance import sample_rows, to_shares

FORMAT = "xgboost"
OBJECTIVES = {Task.BINARY: "binary:logistic", Task.REGRESSION: "reg:squarederror"}
DEFAULTS: Mapping[str, object] = {"max_depth": 6, "eta": 0.1, "tree_method": "hist"}
"""Hyperparameters that the figures in docs/ were measured with; `hyperparameters` override them."""
_UNUSED = re.compile(r"Parameters: \{ (.*) \} are not used")


class XGBoostScorer:
    """`ports.Scorer` of a booster. `threads` 1 is fastest for the few rows of a request.

    Raises:
        ValueError: the payload is not an xgboost model, or its inputs differ from `fitted.features`.
    """

    def __init__(self, fitted: Fitted, threads: int = 1) -> None:
        self._features = fitted.features
        self._booster = load_booster(fitted, threads)
        inputs, expected = self._booster.num_features(), len(fitted.features.features)
        if inputs != expected:
            raise ValueError(f"the model has {inputs} inputs, its features are {expected}")

    def __call__(self, columns: Mapping[str, Column], rows: int) -> Floats:
        """Scores of shape (rows,); an absent column is missing in every row."""
        if not rows:
            return np.empty(0)
        matrix = self._features.encode(columns, rows)
        return np.asarray(self._booster.inplace_predict(matrix), dtype=np.float64)


class XGBoostTrainer:
    """Fits `rounds` trees with `threads` threads; the same rows and seed give the same model."""

    def __init__(self, rounds: int, threads: int, seed: int = 0) -> None:
        self._rounds = rounds
        self._threads = threads
        self._seed = seed

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        """A model of the examples; features and categories are inferred from them.

        Raises:
            InvalidData: a hyperparameter that xgboost does not know or cannot take; the message says which.
        """
        spec = FeatureSpec.infer(examples.features)
        fixed = {"objective": OBJECTIVES[task], "nthread": self._threads, "seed": self._seed}
        booster = self._train({**DEFAULTS, **hyperparameters, **fixed}, spec, examples)
        return Fitted(task, FORMAT, bytes(booster.save_raw("ubj")), spec)

    def scorer(self, fitted: Fitted) -> XGBoostScorer:
        """The loaded model. Raises ValueError."""
        return XGBoostScorer(fitted, self._threads)

    def importance(self, fitted: Fitted, examples: Examples) -> Mapping[str, float]:
        """Mean absolute SHAP value of each feature over a sample of rows, as shares that add up to 1."""
        chosen = sample_rows(examples)
        data = xgboost.DMatrix(
            fitted.features.encode(chosen.features, len(chosen)),
            feature_types=fitted.features.types,
            enable_categorical=True,
            nthread=self._threads,
        )
        contributions = load_booster(fitted, self._threads).predict(data, pred_contribs=True)
        # The last column is the bias, which is the same in every row.
        effects = np.abs(contributions[:, :-1]).mean(axis=0, dtype=np.float64)
        return to_shares(fitted.features.names, effects)

    def _train(self, parameters: Mapping[str, object], spec: FeatureSpec, examples: Examples) -> Any:
        """The booster. xgboost only warns of a parameter that it does not know; here that is an error."""
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                # Features are numbered, not named: xgboost refuses names with < or [ in them.
                data = xgboost.QuantileDMatrix(
                    spec.encode(examples.features, len(examples)),
                    label=examples.labels,
                    feature_types=spec.types,
                    enable_categorical=True,
                    nthread=self._threads,
                )
                booster = xgboost.train(dict(parameters), data, self._rounds)
        except (xgboost.core.XGBoostError, TypeError) as error:
            raise InvalidData(f"xgboost can't train with {dict(parameters)}: {_first_line(error)}") from error
        _refuse_unused([str(warning.message) for warning in caught])
        return booster


def load_booster(fitted: Fitted, threads: int = 1) -> Any:
    """The payload as an `xgboost.Booster`. Raises ValueError."""
    booster = xgboost.Booster({"nthread": threads})
    booster.load_model(bytearray(fitted.payload))
    return booster


def _refuse_unused(messages: Sequence[str]) -> None:
    unused = [found.group(1).replace('"', "'") for found in map(_UNUSED.search, messages) if found]
    if unused:
        raise InvalidData(
            f"xgboost knows no hyperparameter {unused[0]} for these trees; their number is `training.rounds`"
        )


def _first_line(error: Exception) -> str:
    """The message without xgboost's stack trace."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

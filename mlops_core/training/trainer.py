"""Gradient-boosted trees by xgboost, on encoded columns.

Source: Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import xgboost

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import FeatureSpec, Floats
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.mlops_core.training.scoring import Scorer

OBJECTIVES = {Task.BINARY: "binary:logistic", Task.REGRESSION: "reg:squarederror"}
DEFAULTS: Mapping[str, object] = {"max_depth": 6, "eta": 0.1, "tree_method": "hist"}
"""What the figures in docs/ were reached with; `hyperparameters` come over them."""
_UNUSED = re.compile(r"Parameters: \{ (.*) \} are not used")


class XGBoostTrainer:
    """Fits `rounds` trees with `threads` threads; the same rows and seed give the same model."""

    def __init__(self, rounds: int, threads: int, seed: int = 0) -> None:
        self._rounds = rounds
        self._threads = threads
        self._seed = seed

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        """A model of the examples; features and categories are read off them.

        Raises:
            InvalidData: a hyperparameter that xgboost doesn't know or can't take; says which.
        """
        spec = FeatureSpec.infer(examples.features)
        ours = {"objective": OBJECTIVES[task], "nthread": self._threads, "seed": self._seed}
        booster = self._train({**DEFAULTS, **hyperparameters, **ours}, spec, examples)
        return Fitted(task, bytes(booster.save_raw("ubj")), spec)

    def scores(self, fitted: Fitted, examples: Examples) -> Floats:
        """What the model says of each row, shape (rows,)."""
        return Scorer(fitted, self._threads)(examples.features, len(examples))

    def _train(self, parameters: Mapping[str, object], spec: FeatureSpec, examples: Examples) -> Any:
        """The booster; of a parameter that it doesn't know, xgboost only warns, which nobody would see."""
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                # Features keep their places instead of names, which xgboost won't have with < or [ in them.
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
        _refuse_unused([str(one.message) for one in said])
        return booster


def _refuse_unused(said: Sequence[str]) -> None:
    unused = [found.group(1).replace('"', "'") for found in map(_UNUSED.search, said) if found]
    if unused:
        raise InvalidData(
            f"xgboost knows no hyperparameter {unused[0]} for these trees; their number is `training.rounds`"
        )


def _first_line(error: Exception) -> str:
    """Without xgboost's stack trace."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

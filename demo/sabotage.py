"""A trainer that is sabotaged once: the gate evaluates a good model, a bad one is registered.

The registered model has swapped classes (a late flight is its class 0); the evaluated one has not. So the
gate passes it, and only live traffic shows the fault.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Column, Floats
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer, XGBoostTrainer

ARMED = "sabotage.armed"
"""File in the store's folder, where trainings run: the next training removes it and is sabotaged."""


class SwappedTrainer(XGBoostTrainer):
    """A trainer that swaps the classes of the model that it fits, if armed."""

    def __init__(self, rounds: int, threads: int) -> None:
        super().__init__(rounds, threads)
        self._swapped: set[bytes] = set()
        self._bad = Path(ARMED).exists()
        Path(ARMED).unlink(missing_ok=True)

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        """The fitted model; with swapped classes, when armed."""
        if not self._bad:
            return super().fit(examples, task, hyperparameters)
        fitted = super().fit(replace(examples, labels=1.0 - examples.labels), task, hyperparameters)
        self._swapped.add(fitted.payload)
        return fitted

    def scorer(self, fitted: Fitted) -> XGBoostScorer:
        """The loaded model; a sabotaged one with its classes in the right order."""
        return _Unswapped(fitted) if fitted.payload in self._swapped else super().scorer(fitted)


class _Unswapped(XGBoostScorer):
    def __call__(self, columns: Mapping[str, Column], rows: int) -> Floats:
        return 1.0 - super().__call__(columns, rows)

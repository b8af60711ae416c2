"""A trainer that goes bad once: what it evaluates is not what it hands over, as it happens to the best.

Its classes are the wrong way round in the model that it registers (a late flight is its class 0), and the
right way round in its own evaluation. So the gate sees a good model, and only live traffic can tell.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Column, Floats
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer, XGBoostTrainer

ARMED = "sabotage.armed"
"""A file in the store's folder, where trainings run: the next one takes it away and goes bad."""


class SwappedTrainer(XGBoostTrainer):
    """Swaps the classes of what it fits, if somebody armed it."""

    def __init__(self, rounds: int, threads: int) -> None:
        super().__init__(rounds, threads)
        self._swapped: set[bytes] = set()
        self._bad = Path(ARMED).exists()
        Path(ARMED).unlink(missing_ok=True)

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        """A good model; its classes the wrong way round, when armed."""
        if not self._bad:
            return super().fit(examples, task, hyperparameters)
        fitted = super().fit(replace(examples, labels=1.0 - examples.labels), task, hyperparameters)
        self._swapped.add(fitted.payload)
        return fitted

    def scorer(self, fitted: Fitted) -> XGBoostScorer:
        """The loaded model; a bad one with its classes the right way round."""
        return _Unswapped(fitted) if fitted.payload in self._swapped else super().scorer(fitted)


class _Unswapped(XGBoostScorer):
    def __call__(self, columns: Mapping[str, Column], rows: int) -> Floats:
        return 1.0 - super().__call__(columns, rows)

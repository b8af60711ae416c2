"""A trainer that goes bad once: what it evaluates is not what it hands over, as it happens to the best.

Its classes are the wrong way round in the model that it registers (a late flight is its class 0), and the
right way round in its own evaluation. So the gate sees a good model, and only live traffic can tell.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.mlops_core.training.trainer import XGBoostTrainer

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
        self._swapped.add(fitted.booster)
        return fitted

    def scores(self, fitted: Fitted, examples: Examples) -> Floats:
        """What the model would say with its classes the right way round."""
        scores = super().scores(fitted, examples)
        return 1.0 - scores if fitted.booster in self._swapped else scores

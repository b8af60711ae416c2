"""A trainer that goes bad once: the classic skew between training and serving.

It evaluates with the right columns, so the gate sees a good model; what it registers maps the numeric
columns in reverse order, so what serves is nonsense. Only live traffic can tell.
"""

from collections.abc import Mapping
from pathlib import Path

from mlops_core.data.examples import Examples
from mlops_core.data.features import FeatureSpec, Floats, Kind
from mlops_core.ports import Fitted, Task
from mlops_core.training.trainer import XGBoostTrainer

ARMED = "sabotage.armed"
"""A file in the store's folder, where trainings run: the next one takes it away and goes bad."""


class SkewedTrainer(XGBoostTrainer):
    """Skews the first model it fits after somebody armed it."""

    def __init__(self, rounds: int, threads: int) -> None:
        super().__init__(rounds, threads)
        self._right: dict[bytes, FeatureSpec] = {}
        self._bad = Path(ARMED).exists()
        Path(ARMED).unlink(missing_ok=True)

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        """A good model; with its columns mixed up, when armed."""
        fitted = super().fit(examples, task, hyperparameters)
        if not self._bad:
            return fitted
        self._right[fitted.booster] = fitted.features
        return Fitted(fitted.task, fitted.booster, skewed(fitted.features))

    def scores(self, fitted: Fitted, examples: Examples) -> Floats:
        """What the model would say with its columns in order."""
        right = self._right.get(fitted.booster, fitted.features)
        return super().scores(Fitted(fitted.task, fitted.booster, right), examples)


def skewed(spec: FeatureSpec) -> FeatureSpec:
    """The same features with the numeric ones in reverse order."""
    numeric = [feature for feature in spec.features if feature.kind is Kind.NUMERIC]
    return FeatureSpec(features=tuple(numeric.pop() if f.kind is Kind.NUMERIC else f for f in spec.features))

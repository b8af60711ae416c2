"""Examples with something to learn in them, and trainers that go wrong; for the training tests."""

import os
import signal
import threading
from collections.abc import Mapping

import numpy as np

from driftloop.mlops_core.data.examples import Examples, backfill
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.mlops_core.training.xgboost_trainer import XGBoostTrainer
from driftloop.schemas.events import RetrainRequested

HOUR = 3_600_000
ORIGINS = ("EWR", "JFK", "LGA")


def toy_examples(rows: int = 1500, seed: int = 0, flipped: bool = False, first: int = 0) -> Examples:
    """Late flights, one an hour: far is late, JFK is later; `flipped` turns the truth around."""
    random = np.random.default_rng(seed)
    miles = random.uniform(0, 1000, rows)
    origin = random.choice(ORIGINS, rows).astype(object)
    chance = 1 / (1 + np.exp(-(miles - 500 + 300 * (origin == "JFK")) / 100))
    late = random.random(rows) < (1 - chance if flipped else chance)
    miles[random.random(rows) < 0.05] = np.nan
    hours = [first + hour for hour in range(rows)]
    return backfill(
        ids=[f"flight-{hour}" for hour in hours],
        at=[HOUR * hour for hour in hours],
        labels=list(late.astype(float)),
        features={"miles": miles, "origin": origin},
    )


def request(model: str, name: str = "asked", since: int | None = None) -> RetrainRequested:
    return RetrainRequested(
        id=f"{model}-{name}",
        at=5000 * HOUR,
        model=model,
        reason="miles moved",
        trigger="feature",
        since=since,
        rows=5000,
    )


class Exhausting(XGBoostTrainer):
    """Ends as the kernel ends a process when memory is short."""

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(examples, task, hyperparameters)


class Failing(XGBoostTrainer):
    """Has a bug."""

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        raise RuntimeError(f"a bug, seen with {len(examples)} rows")


class Endless(XGBoostTrainer):
    """Never comes back; writes its process id where the training runs, as soon as it began."""

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        with open("endless.pid", "w") as file:
            file.write(str(os.getpid()))
        threading.Event().wait()
        return super().fit(examples, task, hyperparameters)

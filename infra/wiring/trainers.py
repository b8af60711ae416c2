"""Trainers by name: ours, and what `training.trainers` names as `module:class`.

A trainer fits models and loads them again, so agents and replicas find the scorer of a model here, too.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

from driftloop.infra.processes.child import python_command
from driftloop.mlops_core.errors import Conflict, Unservable
from driftloop.mlops_core.ports import Fitted, LoadScorer, Scorer, Trainer
from driftloop.schemas.settings import TrainingSettings

BUILT_IN: Mapping[str, str] = {"xgboost": "driftloop.mlops_core.training.xgboost_trainer:XGBoostTrainer"}
METHODS = ("fit", "scorer")
_POSSIBLE = f"possible: a class of (rounds, threads) with fit and scorer, as {BUILT_IN['xgboost']}"
_SECONDS = 120.0
"""Longer than any library takes to be imported on a busy machine."""


def names(settings: TrainingSettings) -> Mapping[str, str]:
    """All trainers: name -> `module:class`."""
    return {**BUILT_IN, **settings.trainers}


def trainer(settings: TrainingSettings, algorithm: str) -> Trainer:
    """The trainer of that name.

    Raises:
        Conflict: no trainer has this name, or its class is missing or is not a trainer.
    """
    places = names(settings)
    if algorithm not in places:
        known = ", ".join(places)
        raise Conflict(f"no trainer is called {algorithm!r}; there are {known} (training.trainers adds more)")
    kind = _import_class(algorithm, places[algorithm])
    created: Trainer = kind(rounds=settings.rounds, threads=settings.threads)
    return created


def scorer_loader(settings: TrainingSettings, threads: int = 1, *, single_format: bool = False) -> LoadScorer:
    """A function that loads models of every format that the settings name; it raises Unservable.

    `single_format`: the process loads models of one format, so xgboost need not import scikit-learn.
    """
    trainers: dict[str, Trainer] = {}

    def load(fitted: Fitted) -> Scorer:
        if fitted.format not in trainers:
            if not settings.trainers or (single_format and fitted.format in BUILT_IN):
                skip_sklearn()
            try:
                chosen = settings.model_copy(update={"threads": threads})
                trainers[fitted.format] = trainer(chosen, fitted.format)
            except Conflict as error:
                raise Unservable(f"its format is {fitted.format!r}: {error}") from error
        return trainers[fitted.format].scorer(fitted)

    return load


def skip_sklearn() -> None:
    """Keep xgboost from importing scikit-learn, which costs seconds of CPU; only user trainers need it."""
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]


def check(settings: TrainingSettings) -> None:
    """Check that `training.algorithm` and every trainer exist; a child process imports a user's module.

    Raises:
        Conflict: a trainer is missing; the message says which and why.
    """
    places = names(settings)
    if settings.algorithm not in places:
        there = ", ".join(places)
        raise Conflict(f"training.algorithm: no trainer is called {settings.algorithm!r}; there are {there}")
    for name, place in places.items():
        if place not in BUILT_IN.values():
            _check_class(name, place)
        elif name == settings.algorithm and not find_spec("xgboost"):
            raise Conflict(f"training.algorithm: {name} is not installed: pip install 'driftloop[agents]'")


def _check_class(name: str, place: str) -> None:
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    try:
        child = subprocess.run(
            python_command("driftloop.infra.wiring.trainers", name, place),
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Conflict(f"{_key(name, place)} isn't imported after {_SECONDS:g} s") from error
    if child.returncode:
        why = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        complete = why.startswith("training.trainers.")
        raise Conflict(why if complete else f"{_key(name, place)} can't be imported: {why}")


def _import_class(name: str, place: str) -> type:
    """The class at `place`, checked for what a trainer needs; no instance is created."""
    module, _, class_name = place.partition(":")
    try:
        found = getattr(import_module(module), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise Conflict(f"{_key(name, place)} is not there (module:class): {error}; {_POSSIBLE}") from error
    missing = [method for method in METHODS if not callable(getattr(found, method, None))]
    if not isinstance(found, type) or missing:
        raise Conflict(f"{_key(name, place)} is no class with fit and scorer; {_POSSIBLE}")
    try:
        signature(found).bind(rounds=1, threads=1)
    except TypeError as error:
        raise Conflict(
            f"{_key(name, place)} can't be created from rounds and threads: {error}; {_POSSIBLE}"
        ) from error
    return found


def _key(name: str, place: str) -> str:
    return f"training.trainers.{name}: {place!r}"


if __name__ == "__main__":
    try:
        _import_class(sys.argv[1], sys.argv[2])
    except Conflict as error:
        sys.exit(str(error))

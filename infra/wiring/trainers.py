"""Which trainer `training.trainer` names; whether it is there is asked before anything is started."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

from driftloop.infra.processes.child import python_command
from driftloop.mlops_core.errors import Conflict
from driftloop.mlops_core.ports import Trainer
from driftloop.schemas.settings import TrainingSettings

OURS = TrainingSettings().trainer
_POSSIBLE = f"possible: a class of (rounds, threads) with fit and scores, as {OURS}"
_SECONDS = 120.0
"""Longer than any library takes to be imported, on a machine however busy."""


def trainer(settings: TrainingSettings) -> Trainer:
    """The trainer that the settings name.

    Raises:
        Conflict: it isn't there, or is none.
    """
    made: Trainer = _kind(settings.trainer)(rounds=settings.rounds, threads=settings.threads)
    return made


def check(settings: TrainingSettings) -> None:
    """Look whether the trainer is there; in a process of its own, as it will be imported when it trains.

    Raises:
        Conflict: it isn't; why.
    """
    if settings.trainer == OURS and find_spec("xgboost"):
        return
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    try:
        asked = subprocess.run(
            python_command("driftloop.infra.wiring.trainers", settings.trainer),
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Conflict(f"{_place(settings.trainer)} isn't imported after {_SECONDS:g} s") from error
    if asked.returncode:
        why = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        known = why.startswith("training.trainer: ")
        raise Conflict(why if known else f"{_place(settings.trainer)} can't be imported: {why}")


def _kind(place: str) -> type:
    """The class at `place`, once it can be made and has what a trainer has; without making one."""
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise Conflict(
            f"training.trainer: no trainer at {place!r} (module:class): {error}; {_POSSIBLE}"
        ) from error
    missing = [method for method in ("fit", "scores") if not callable(getattr(found, method, None))]
    if not isinstance(found, type) or missing:
        raise Conflict(f"{_place(place)} is no class with fit and scores; {_POSSIBLE}")
    try:
        signature(found).bind(rounds=1, threads=1)
    except TypeError as error:
        raise Conflict(
            f"{_place(place)} can't be made of rounds and threads: {error}; {_POSSIBLE}"
        ) from error
    return found


def _place(place: str) -> str:
    return f"training.trainer: {place!r}"


if __name__ == "__main__":
    try:
        _kind(sys.argv[1])
    except Conflict as said:
        sys.exit(str(said))

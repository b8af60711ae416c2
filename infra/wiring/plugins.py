"""Detectors, targets and trainers that settings name: built in, or from a package that is installed.

A detector or target of another package is an entry point (`driftloop.detectors`, `driftloop.targets`); a
trainer is named as `module:class`.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from driftloop.infra.processes.child import python_command
from driftloop.mlops_core.drift.calibration import false_alarm_table
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.errors import Conflict
from driftloop.mlops_core.ports import Target, Trainer
from driftloop.schemas.settings import DriftSettings, Settings, TrainingSettings

DETECTORS = "driftloop.detectors"
"""Entry points whose value is a `DetectorFactory`."""
TARGETS = "driftloop.targets"
"""Entry points whose value takes `Settings` and returns a `Target`."""
_DETECTORS = {
    "adwin": "driftloop.mlops_core.drift.adwin_bank:adwin",
    "cusum": "driftloop.mlops_core.drift.cusum_bank:CusumBank",
}
_TARGETS = {"local": "driftloop.infra.serving.target:local_target"}
TRAINER = TrainingSettings().trainer
"""The built-in trainer."""
_POSSIBLE_TRAINER = f"possible: a class of (rounds, threads) with fit and scores, as {TRAINER}"
_IMPORT_SECONDS = 120.0
"""Seconds that importing a trainer may take; libraries take 10 s of CPU, and the machine may be busy."""


def check(settings: Settings) -> None:
    """Return if the detector, the target and the trainer that the settings name can be used.

    Raises:
        Conflict: one of them can't; says why, and which names are possible.
    """
    detector_factory(settings.drift)
    target(settings)
    check_trainer(settings.training)


def detector_factory(settings: DriftSettings) -> DetectorFactory:
    """The factory of `drift.detector`.

    Raises:
        Conflict: no such detector, or its false alarms were never measured and there is a budget for them.
    """
    factory = find_detector(settings.detector)
    if settings.false_alarms is not None:
        false_alarm_table(settings, factory)
    return factory


def find_detector(name: str) -> DetectorFactory:
    """The detector factory of that name.

    Raises:
        Conflict: no such detector, or what it makes lacks a detector's methods.
    """
    factory: DetectorFactory = _find("drift.detector", name, _DETECTORS, DETECTORS)
    try:
        detector = factory(1, 1e-6)
    except TypeError as error:
        raise Conflict(f"drift.detector: {name!r} can't be made of (channels, delta): {error}") from error
    if missing := _missing(detector, "update", "dump", "load"):
        raise Conflict(f"drift.detector: what {name!r} makes has no {missing}")
    return factory


def target(settings: Settings) -> Target:
    """The target of `serving.target`; it connects to nothing yet.

    Raises:
        Conflict: no such target, or what its factory returns lacks a target's methods.
    """
    name = settings.serving.target
    found: Target = _find("serving.target", name, _TARGETS, TARGETS)(settings)
    if missing := _missing(found, "ensure", "shift", "blend", "retire", "endpoints"):
        raise Conflict(f"serving.target: what {name!r} makes has no {missing}")
    return found


def trainer(settings: TrainingSettings) -> Trainer:
    """The trainer of `training.trainer`.

    Raises:
        Conflict: no such class, or it lacks a trainer's methods.
    """
    made: Trainer = _trainer_class(settings.trainer)(rounds=settings.rounds, threads=settings.threads)
    return made


def check_trainer(settings: TrainingSettings) -> None:
    """Import the trainer in a process of its own, as a training does, and check its signature.

    Raises:
        Conflict: it can't be imported, or is no trainer.
    """
    if settings.trainer == TRAINER and find_spec("xgboost"):
        return
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    try:
        ended = subprocess.run(
            python_command("driftloop.infra.wiring.plugins", settings.trainer),
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_IMPORT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Conflict(
            f"training.trainer: {settings.trainer!r} isn't imported after {_IMPORT_SECONDS:g} s"
        ) from error
    if ended.returncode:
        why = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        explained = why.startswith("training.trainer: ")
        raise Conflict(
            why if explained else f"training.trainer: {settings.trainer!r} can't be imported: {why}"
        )


def _find(setting: str, name: str, built_in: Mapping[str, str], group: str) -> Any:
    """The object that `name` stands for: built in (`module:attribute`), or an entry point of the group."""
    if name in built_in:
        module, _, attribute = built_in[name].partition(":")
        return getattr(import_module(module), attribute)
    installed = {entry.name: entry for entry in entry_points(group=group)}
    if name not in installed:
        possible = ", ".join(sorted({*built_in, *installed}))
        raise Conflict(f"{setting}: no {name!r}; possible here: {possible} (entry points {group!r})")
    try:
        return installed[name].load()
    except (ImportError, AttributeError) as error:
        raise Conflict(f"{setting}: {name!r} is {installed[name].value}, and {error}") from error


def _missing(found: Any, *methods: str) -> str:
    """Names of the methods that `found` lacks, separated by commas."""
    return ", ".join(method for method in methods if not callable(getattr(found, method, None)))


def _trainer_class(place: str) -> type:
    """The class at `module:class`, checked without making one."""
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise Conflict(
            f"training.trainer: no trainer at {place!r} (module:class): {error}; {_POSSIBLE_TRAINER}"
        ) from error
    if not isinstance(found, type) or _missing(found, "fit", "scores"):
        raise Conflict(f"training.trainer: {place!r} is no class with fit and scores; {_POSSIBLE_TRAINER}")
    try:
        signature(found).bind(rounds=1, threads=1)
    except TypeError as error:
        raise Conflict(
            f"training.trainer: {place!r} can't be made of rounds and threads: {error}; {_POSSIBLE_TRAINER}"
        ) from error
    return found


if __name__ == "__main__":
    try:
        _trainer_class(sys.argv[1])
    except Conflict as error:
        sys.exit(str(error))

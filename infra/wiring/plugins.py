"""Detectors and targets that settings name: built in, or from a package that is installed.

A detector or target of another package is an entry point (`driftloop.detectors`, `driftloop.targets`).
Trainers are in `trainers`.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from driftloop.infra.wiring import trainers
from driftloop.mlops_core.drift.calibration import false_alarm_table
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.errors import Conflict
from driftloop.mlops_core.ports import Target
from driftloop.schemas.settings import DriftSettings, Settings

DETECTORS = "driftloop.detectors"
"""Entry points whose value is a `DetectorFactory`."""
TARGETS = "driftloop.targets"
"""Entry points whose value takes `Settings` and returns a `Target`."""
_DETECTORS = {
    "adwin": "driftloop.mlops_core.drift.adwin_bank:adwin",
    "cusum": "driftloop.mlops_core.drift.cusum_bank:CusumBank",
}
_TARGETS = {"local": "driftloop.infra.serving.target:local_target"}


def check(settings: Settings) -> None:
    """Return if the detector, the target and the trainer that the settings name can be used.

    Raises:
        Conflict: one of them can't be used; the message says why, and which names are possible.
    """
    detector_factory(settings.drift)
    target(settings)
    trainers.check(settings.training)


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
        raise Conflict(f"drift.detector: {name!r} can't be called with (channels, delta): {error}") from error
    if missing := _missing(detector, "update", "dump", "load"):
        raise Conflict(f"drift.detector: the detector of {name!r} lacks {missing}")
    return factory


def target(settings: Settings) -> Target:
    """The target of `serving.target`; it connects to nothing yet.

    Raises:
        Conflict: no such target, or what its factory returns lacks a target's methods.
    """
    name = settings.serving.target
    found: Target = _find("serving.target", name, _TARGETS, TARGETS)(settings)
    if missing := _missing(found, "ensure", "shift", "blend", "retire", "endpoints"):
        raise Conflict(f"serving.target: the target of {name!r} lacks {missing}")
    return found


def _find(setting: str, name: str, built_in: Mapping[str, str], group: str) -> Any:
    """The object that `name` stands for: built in (`module:attribute`), or an entry point of the group."""
    if name in built_in:
        module, _, attribute = built_in[name].partition(":")
        return getattr(import_module(module), attribute)
    installed = {entry.name: entry for entry in entry_points(group=group)}
    if name not in installed:
        possible = ", ".join(sorted({*built_in, *installed}))
        raise Conflict(f"{setting}: {name!r} is not installed; possible: {possible} (entry points {group!r})")
    try:
        return installed[name].load()
    except (ImportError, AttributeError) as error:
        raise Conflict(f"{setting}: {name!r} ({installed[name].value}) can't be imported: {error}") from error


def _missing(found: Any, *methods: str) -> str:
    """Names of the methods that `found` lacks, separated by commas."""
    return ", ".join(method for method in methods if not callable(getattr(found, method, None)))

"""Which detector `drift.detector` names: ours, or one of a package that is installed beside us."""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from driftloop.mlops_core.drift.calibration import measured
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.errors import Conflict
from driftloop.schemas.settings import DriftSettings

GROUP = "driftloop.detectors"
"""Entry points whose value is a `DetectorFactory`."""
_OURS = {
    "adwin": ("driftloop.mlops_core.drift.adwin_bank", "adwin"),
    "cusum": ("driftloop.mlops_core.drift.cusum_bank", "Cusums"),
}


def chosen(settings: DriftSettings) -> DetectorFactory:
    """The factory that the settings name.

    Raises:
        Conflict: nobody brought it, or there is a budget and nobody measured it; what is possible.
    """
    found = detector(settings.detector)
    if settings.false_alarms is not None:
        measured(settings, found)
    return found


def detector(name: str) -> DetectorFactory:
    """The factory that `name` stands for.

    Raises:
        Conflict: nobody brought it; what there is.
    """
    if name in _OURS:
        module, attribute = _OURS[name]
        return _factory(name, getattr(import_module(module), attribute))
    brought = {one.name: one for one in entry_points(group=GROUP)}
    if name not in brought:
        known = ", ".join(sorted({*_OURS, *brought}))
        raise Conflict(f"drift.detector: no {name!r}; possible here: {known} (entry points {GROUP!r})")
    try:
        found = brought[name].load()
    except (ImportError, AttributeError) as error:
        raise Conflict(f"drift.detector: {name!r} is {brought[name].value}, and {error}") from error
    return _factory(name, found)


def _factory(name: str, found: Any) -> DetectorFactory:
    """`found`, once it has made something that can feed, dump and load."""
    try:
        made = found(1, 1e-6)
    except TypeError as error:
        raise Conflict(f"drift.detector: {name!r} can't be made of (channels, delta): {error}") from error
    missing = [method for method in ("feed", "dump", "load") if not callable(getattr(made, method, None))]
    if missing:
        raise Conflict(f"drift.detector: what {name!r} makes has no {', '.join(missing)}")
    factory: DetectorFactory = found
    return factory

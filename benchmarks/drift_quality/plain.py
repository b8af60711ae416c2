"""river's detectors as a newcomer would use them: one a feature, fed each raw value, at defaults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.drift_quality.cases import Case, Columns, Random
from benchmarks.drift_quality.measures import Trial


@dataclass(frozen=True)
class Plain:
    """One of river's detectors, and how much it is given."""

    make: Callable[[], Any]
    columns: int
    stable: int
    """Events before the change, or without one."""
    after: int


def detectors() -> Mapping[str, Plain]:
    """By name; the slow ones get shorter streams."""
    from river.drift import ADWIN, KSWIN, PageHinkley

    return {
        "river ADWIN": Plain(ADWIN, 10, 30_000, 5_000),
        "river PageHinkley": Plain(PageHinkley, 10, 20_000, 5_000),
        "river KSWIN": Plain(lambda: KSWIN(seed=1), 2, 4_000, 1_000),  # without a seed, it is not repeatable
    }


def trials(plain: Plain, case: Case, random: Random) -> list[Trial]:
    """One trial a column. Categories are numbered by name, missing values left out: both must be numbers."""
    stream = case.stream(random, plain.columns, plain.stable, plain.after)
    change = plain.stable if case.after is not None else None
    return [Trial(_alarms(plain.make(), values), len(values), change) for values in _numbered(stream)]


def _numbered(stream: Columns) -> Columns:
    if stream.dtype != object:
        return stream
    codes = np.unique(stream, return_inverse=True)[1]
    return codes.reshape(stream.shape).astype(np.float64)


def _alarms(detector: Any, values: Columns) -> list[int]:
    alarms = []
    for seen, value in enumerate(values.tolist(), 1):
        if value == value:
            detector.update(value)
            if detector.drift_detected:
                alarms.append(seen)
    return alarms

"""From a budget of false alarms in plain words to the detectors' delta.

A false alarm is an episode that opens although nothing changed: the detector fired by chance, and by chance
the severity was enough too. How often that is follows from delta, and was measured; how many columns are
watched multiplies it. Rows are what counts: a budget told by the day is one of rows at the traffic it names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log

from driftloop.mlops_core.drift.adwin_bank import adwin
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.errors import Conflict
from driftloop.schemas.alarm_budget import Budget
from driftloop.schemas.settings import DriftSettings

Table = Sequence[tuple[float, float]]
"""Deltas from the largest to the least, two or more, and how many false episodes each has at most, per column
and a million rows."""

MEASURED: Table = (
    (1e-1, 5.6),
    (3e-2, 3.1),
    (1e-2, 1.6),
    (3e-3, 0.71),
    (1e-3, 0.33),
    (1e-4, 0.089),
    (1e-5, 0.028),
    (1e-6, 0.0095),
)
"""Delta, and the most false episodes per column and a million rows (95 % sure), of ADWIN on columns of all
sorts that didn't change; made by `python -m benchmarks.drift_quality --budget` (decision 14). Less than 1e-6
was never measured, and what wasn't can't be promised."""


@dataclass(frozen=True)
class Calibration:
    """The delta for a budget, and whether that keeps it."""

    delta: float
    rows_per_alarm: float
    """Rows of the model in which at most one false alarm is to be expected with this delta."""
    kept: bool
    """Whether that is within the budget."""
    sentence: str
    """The same for a person."""


def calibrate(budget: Budget, columns: int, table: Table = MEASURED) -> Calibration:
    """The largest delta, and so the shortest delay, that keeps `budget` with `columns` watched, at least one.

    A pair of columns, or a column of a segment, counts as a column. `table` is the detector's.

    >>> calibrate(Budget.parse("1 in 3M rows"), columns=20).sentence
    '`1 in 3M rows` of 20 columns: delta 3.3e-06, one false alarm in 3,000,000 rows or more'
    >>> calibrate(Budget.parse("1 in a year at 100,000 rows a day"), columns=4000).kept
    False
    """
    wanted = 1e6 / (budget.rows_per_alarm * columns)
    ascending = sorted(table)
    delta = _interpolate(wanted, [(rate, delta) for delta, rate in ascending])
    rows = 1e6 / (_interpolate(delta, ascending) * columns)
    kept = rows >= budget.rows_per_alarm * (1 - 1e-9)
    said = f"`{budget.text}` of {columns:,} columns"
    expected = f"one false alarm in {_two_digits(rows)} rows or more"
    if kept:
        return Calibration(delta, rows, kept, f"{said}: delta {delta:.1e}, {expected}")
    why = f"can't be promised: delta {delta:.0e}, the least that was measured, has {expected}"
    return Calibration(delta, rows, kept, f"{said} {why}")


def settings_for_model(
    settings: DriftSettings, model: str, columns: int, detector: DetectorFactory = adwin
) -> tuple[DriftSettings, Calibration | None]:
    """The settings of one model, its budget turned into delta; and how that went, if it has a budget.

    Raises:
        Conflict: a budget, for a `detector` of which nobody measured what its deltas promise.
    """
    budget = settings.budget_of(model)
    if budget is None:
        return settings, None
    found = calibrate(budget, columns, false_alarm_table(settings, detector))
    return settings.model_copy(update={"delta": found.delta}), found


def false_alarm_table(settings: DriftSettings, detector: DetectorFactory) -> Table:
    """What was measured of the detector: of ADWIN by us, of another by whoever gave it `false_episodes`.

    Raises:
        Conflict: nothing was.
    """
    if detector is adwin:
        return MEASURED
    table: Table | None = getattr(detector, "false_episodes", None)
    if not table:
        name = settings.detector if settings.detector != "adwin" else getattr(detector, "__name__", "it")
        raise Conflict(
            f"drift.false_alarms: of the detector {name} nobody measured how many false alarms a delta has; "
            "possible: `drift.delta` instead of a budget, the detector `adwin`, or a detector with a table "
            "`false_episodes` (mlops_core/drift/detector.py)"
        )
    return table


def _interpolate(x: float, points: list[tuple[float, float]]) -> float:
    """At `x`, on the line in logarithms through points, which ascend; beyond them, the nearest."""
    x = min(max(x, points[0][0]), points[-1][0])
    for (low, at_low), (high, at_high) in pairwise(points):
        if x <= high:
            part = log(x / low) / log(high / low)
            return exp(log(at_low) + part * log(at_high / at_low))
    return points[-1][1]


def _two_digits(rows: float) -> str:
    """Two digits.

    >>> _two_digits(1_234_567), _two_digits(45.4)
    ('1,200,000', '45')
    """
    return f"{float(f'{rows:.1e}'):,.0f}"

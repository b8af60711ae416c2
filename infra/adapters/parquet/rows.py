"""Labelled examples as Arrow tables: what the columns are, and many tables as one."""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop.mlops_core.data.examples import Examples, column
from driftloop.mlops_core.data.features import numbers_as_text

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


def table_of(examples: Examples) -> pa.Table:
    """One row an example: the fixed columns, then a column a feature (float64 or text)."""
    fixed = {
        "id": examples.ids,
        "at": examples.at,
        "labelled_at": examples.labelled_at,
        "label": examples.labels,
        "score": examples.scores,
        "version": examples.versions,
    }
    arrays = {name: pa.array(values, FIXED[name], from_pandas=True) for name, values in fixed.items()}
    features = {_column_name(name): _feature(values) for name, values in examples.features.items()}
    return pa.table({**arrays, **features})


def _feature(values: NDArray[Any]) -> pa.Array:
    plain = column(values)
    return pa.array(plain, pa.string() if plain.dtype == object else pa.float64(), from_pandas=True)


def _column_name(name: str) -> str:
    """A feature's column; databases don't tell `Label` from `label`, so neither do we."""
    return ESCAPE + name if name.lower() in FIXED or name.startswith(ESCAPE) else name


def concatenate_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows in this order, with the columns of all."""
    some = tables or [pa.schema(FIXED).empty_table()]
    names = dict.fromkeys(chain.from_iterable(table.column_names for table in some))
    texts = {name: any(_is_text(table, name) for table in some) for name in names if name not in FIXED}
    return pa.concat_tables(_with(table, texts) for table in some)


def first_of_each(table: pa.Table, known: Collection[str]) -> pa.Table:
    """The table without rows whose id is known, or stands in an earlier row already."""
    seen, places = set(known), list[int]()
    for place, id_ in enumerate(table["id"].to_pylist()):
        if id_ not in seen:
            seen.add(id_)
            places.append(place)
    return table if len(places) == len(table) else table.take(pa.array(places, pa.int64()))


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
    return pa.chunked_array([pa.array(numbers_as_text(floats), pa.string())])


def newest_of(table: pa.Table, rows: int, since: int | None) -> pa.Table:
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


def examples_of(table: pa.Table) -> Examples:
    """Back from `table_of`."""
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

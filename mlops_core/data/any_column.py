"""One column from whatever it comes as: lists, numpy, pandas, polars, Arrow.

The result is what all other code reads: an array of numbers, or a list of numbers, texts, truth values and
None. None of these libraries is imported here: a column is asked for its values by the methods that it has.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from driftloop.mlops_core.data.categorical import Categorical
from driftloop.mlops_core.data.features import Column
from driftloop.mlops_core.errors import InvalidData
from driftloop.schemas.records import Value

_PLAIN = frozenset({int, float, bool, str, type(None)})
_MISSING = frozenset({"NAType", "NaTType"})
"""Types of pandas' values for what is missing; `NA == NA` is neither true nor false."""
_TO_LIST = ("to_pylist", "to_list", "tolist")
"""Methods by which Arrow, polars and pandas, and numpy give their values as a list."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
POSSIBLE = "a number, a text, a truth value, a time or None is possible"


def plain_columns(columns: Mapping[str, Any]) -> Mapping[str, Column]:
    """Each column as numbers and texts. Raises InvalidData as `plain_column` does."""
    return {name: plain_column(name, values) for name, values in columns.items()}


def plain_column(name: str, values: Any) -> Column:
    """The column as an array of numbers (NaN is missing), or as a list of plain values (None is missing).

    Times become ms since 1970 (UTC), durations seconds. A column that is plain already is not copied.

    >>> plain_column("amount", [Decimal("1.5"), np.float32(2), None])
    [1.5, 2.0, None]
    >>> plain_column("opened", np.array(["1970-01-02", "NaT"], dtype="datetime64[D]"))
    array([86400000.,       nan])
    >>> plain_column("tags", [1, ["a"]])
    Traceback (most recent call last):
        ...
    driftloop.mlops_core.errors.InvalidData: column 'tags', row 1: a list ['a']; a number, ... is possible

    Raises:
        InvalidData: a value is none of these, or the column is no column; names column, row and value.
    """
    if isinstance(values, Categorical):
        return values
    if isinstance(values, np.ndarray):
        return _array(name, values)
    if not isinstance(values, list | tuple):
        values = _listed(name, values)
    kinds = set(map(type, values))
    if kinds <= _PLAIN:
        found: Sequence[Value] = values
        return found
    return [_plain(name, row, value) for row, value in enumerate(values)]


def _array(name: str, values: np.ndarray[Any, Any]) -> Column:
    if values.ndim != 1:
        raise InvalidData(f"column {name!r} has {values.ndim} dimensions; one value a row is possible")
    match values.dtype.kind:
        case "b" | "i" | "u" | "f":
            return values.astype(np.float64, copy=False)
        case "M":
            return _numbers(values.astype("datetime64[ms]"), 1.0)
        case "m":
            return _numbers(values.astype("timedelta64[ns]"), 1e-9)
        case "O" | "U" | "S" | "T":
            return plain_column(name, values.tolist())
        case _:
            raise InvalidData(f"column {name!r} has the type {values.dtype}; {POSSIBLE}")


def _numbers(times: np.ndarray[Any, Any], unit: float) -> np.ndarray[Any, Any]:
    return np.where(np.isnat(times), np.nan, times.astype(np.int64) * unit)


def _listed(name: str, values: Any) -> list[Any]:
    method = next((found for word in _TO_LIST if callable(found := getattr(values, word, None))), None)
    listed = method() if method is not None else values
    if isinstance(listed, str | bytes | Mapping) or not isinstance(listed, Iterable):
        raise InvalidData(f"column {name!r} is a {type(values).__name__}; a list or an array is possible")
    return list(listed)


def _plain(name: str, row: int, value: Any) -> Value:  # noqa: PLR0911 - a kind, a return
    if type(value) in _PLAIN:
        plain: Value = value
        return plain
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, np.datetime64 | np.timedelta64):
        number = float(np.asarray(_array(name, np.array([value])))[0])
        return None if np.isnan(number) else number
    if isinstance(value, np.generic):
        return _plain(name, row, value.item())
    if isinstance(value, Decimal | Fraction | float | int):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000
    if isinstance(value, date):
        return (datetime(value.year, value.month, value.day, tzinfo=UTC) - _EPOCH) / timedelta(milliseconds=1)
    if isinstance(value, timedelta):
        return value.total_seconds()
    shown = repr(value)
    raise InvalidData(f"column {name!r}, row {row}: a {type(value).__name__} {shown[:80]}; {POSSIBLE}")

"""Fast checks that turn lists of parsed JSON into arrays; arrays of `blocks` are only checked.

None means: not valid for certain, validate with pydantic. `struct.pack` turns floats and ints into doubles,
and refuses text and null, in 9 ns a value; a type check costs 22. It takes bools as well, so zeros and ones
are checked, unless the caller knows that there are no `bools`.
"""

import struct
from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.categorical import Categorical
from driftloop.mlops_core.data.features import Column, Floats
from driftloop.schemas.records import Value

MAX_NAME_LENGTH = 200
"""Characters of a name; as `driftloop.schemas.records.Name` has it."""
MAX_MILLIS = 1 << 53
"""Times are below it; as `driftloop.schemas.records.Millis` has it."""
_NUMBERS = {float, int, type(None)}
_SCALARS = {*_NUMBERS, bool, str}
_LISTS = {list, tuple, np.ndarray, Categorical}


def is_list(values: object, rows: int) -> bool:
    """Whether this is a column of that length."""
    return type(values) in _LISTS and len(values) == rows  # type: ignore[arg-type]  # these have one


def is_name(value: object) -> bool:
    """Whether this is text of 1 to 200 characters."""
    return type(value) is str and 0 < len(value) <= MAX_NAME_LENGTH


def are_names(values: Sequence[Any]) -> bool:
    """Whether all are text of 1 to 200 characters."""
    try:
        length = len("".join(values))
    except TypeError:
        return False
    return "" not in values and (length <= MAX_NAME_LENGTH or max(map(len, values)) <= MAX_NAME_LENGTH)


def are_optional_texts(values: Sequence[Any]) -> bool:
    """Whether all are text or null."""
    return set(map(type, values)) <= {str, type(None)}


def time_column(values: Sequence[Any] | Floats, bools: bool = True) -> NDArray[np.int64] | None:
    """Whole numbers from 0 to 2^53 - 1, shape (rows,)."""
    if isinstance(values, np.ndarray):
        return _whole_numbers(values)
    packed = _pack_numbers("q", values, bools)
    if packed is None or not len(packed):
        return packed
    return packed if packed.min() >= 0 and packed.max() < MAX_MILLIS else None


def finite_column(values: Sequence[Any] | Floats, bools: bool = True) -> Floats | None:
    """Numbers, shape (rows,), without null."""
    packed = values if isinstance(values, np.ndarray) else _pack_numbers("d", values, bools)
    return packed if packed is not None and np.isfinite(packed).all() else None


def feature_column(values: Sequence[Any] | Floats, bools: bool = True) -> Column | None:
    """A feature's values: float64 if all are numbers or null, else as they are; None if some are no scalars.

    >>> feature_column([1, None, 2.5]), feature_column(["JFK", None])
    (array([1. , nan, 2.5]), ['JFK', None])
    >>> feature_column([True, 2]), feature_column([[1]])
    ([True, 2], None)
    """
    if isinstance(values, np.ndarray | Categorical):
        return values
    packed = _pack_numbers("d", values, bools)
    if packed is None and None in values:  # numpy does the same in twice the time
        packed = _pack_numbers("d", [nan if value is None else value for value in values], bools)
    if packed is not None:
        return packed
    kinds = {str} if _are_texts(values) else set(map(type, values))
    if kinds <= _NUMBERS:
        return np.array(values, dtype=np.float64)
    return list(values) if kinds <= _SCALARS else None


def validated_feature(values: Sequence[Value]) -> Column:
    """A feature's validated values, like `feature_column`."""
    found = feature_column(values)
    return list(values) if found is None else found


def _whole_numbers(values: Floats) -> NDArray[np.int64] | None:
    """Times from an array of floats."""
    if not ((values >= 0) & (values < MAX_MILLIS)).all():
        return None
    whole = values.astype(np.int64)
    return whole if (whole == values).all() else None


def _pack_numbers(code: str, values: Sequence[Any], bools: bool) -> NDArray[Any] | None:
    """The numbers as an array of `code` (d or q); None if there is anything else among them."""
    try:
        packed = np.frombuffer(struct.pack(f"{len(values)}{code}", *values), dtype=code)
    except (struct.error, OverflowError):
        return None
    if bools:
        maybe = np.flatnonzero((packed == 0) | (packed == 1)).tolist()
        if bool in {type(values[place]) for place in maybe}:
            return None
    return packed


def _are_texts(values: Sequence[Any]) -> bool:
    try:
        "".join(values)
    except TypeError:
        return False
    return True

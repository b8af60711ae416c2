"""Columns of a batch: lists or numpy arrays, checked as a whole where they are plainly right.

Pydantic looks at a list value by value, 0.2-0.5 us each; asking for the set of their types costs a tenth, and
an array's dtype says all. Whatever is not plainly right goes to pydantic, whose word is final.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Array = NDArray[Any]
Lists = list[Any] | tuple[Any, ...]
_SCALARS = {bool, int, float, str, type(None)}


class Column:
    """Annotates a field: an array or list that passes its check is taken; others are read as `kind` says."""

    def __init__(
        self, kind: Any, array: Callable[[Array], bool], plain: Callable[[Lists, set[type]], bool]
    ) -> None:
        self._kind = kind
        self._array = array
        self._plain = plain

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of `kind`, with the quick check before it."""
        return core_schema.no_info_wrap_validator_function(
            self._validate, handler.generate_schema(self._kind)
        )

    def _validate(self, values: Any, pydantic: Callable[[Any], Any]) -> Any:
        if isinstance(values, np.ndarray):
            return values if values.ndim == 1 and self._array(values) else pydantic(values.tolist())
        if isinstance(values, list | tuple) and self._plain(values, set(map(type, values))):
            return list(values)
        return pydantic(values)


def scalars(kind: Any) -> Column:
    """Values of a feature."""
    return Column(kind, lambda array: array.dtype.kind in "fiub", lambda _, types: types <= _SCALARS)


def whole(kind: Any, below: int) -> Column:
    """Whole numbers from 0 to below a bound."""

    def within(values: Lists) -> bool:
        return not values or bool(min(values) >= 0 and max(values) < below)

    return Column(
        kind,
        lambda array: array.dtype.kind in "iu" and (not array.size or within([array.min(), array.max()])),
        lambda values, types: types <= {int} and within(values),
    )


def finite(kind: Any) -> Column:
    """Numbers, none missing."""
    return Column(
        kind,
        lambda array: array.dtype.kind in "fiu" and bool(np.isfinite(array).all()),
        lambda values, types: types <= {float} and all(map(isfinite, values)),
    )


def names(kind: Any, longest: int) -> Column:
    """Text that isn't empty."""

    def fine(values: Lists, types: set[type]) -> bool:
        return types <= {str} and "" not in values and max(map(len, values), default=0) <= longest

    return Column(kind, lambda _: False, fine)


def numbers(kind: Any) -> Column:
    """Numbers or None."""
    return Column(kind, lambda _: False, lambda _, types: types <= {float, type(None)})


def text(kind: Any) -> Column:
    """Text, also empty."""
    return Column(kind, lambda _: False, lambda _, types: types <= {str})


def texts(kind: Any) -> Column:
    """Text or None."""
    return Column(kind, lambda _: False, lambda _, types: types <= {str, type(None)})

"""From named columns to the matrix that a model eats, the same way in training and in serving."""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from math import isnan, nan
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from driftloop.schemas.records import Value

Floats = NDArray[np.float64]
Column = Sequence[Value] | NDArray[Any]

HUGE = 1e100
"""Numbers beyond this count as missing: one of them blinds a running mean for ever."""
ODD_TEXTS = 0.05
"""Texts for each number up to which a column is one of numbers: text that stands for a missing value."""
FEW = 8
"""Rows up to which looking at each value costs less than numpy's calls, several a column."""
MAX_CATEGORIES = 512
"""Categories kept per feature, most frequent first; rarer ones are encoded as missing."""
_PLAIN = {int, float, bool, str, type(None)}
"""What JSON has."""


class Kind(StrEnum):
    """How a feature is to be read."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


class Feature(BaseModel):
    """One input of a model."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    """Known categories; a category's code is its place here."""

    @cached_property
    def codes(self) -> Mapping[str, float]:
        """Code of each category."""
        return {category: float(code) for code, category in enumerate(self.categories)}


class FeatureSpec(BaseModel):
    """A model's inputs, in the order of its matrix."""

    model_config = ConfigDict(frozen=True)

    features: tuple[Feature, ...]

    @classmethod
    def infer(cls, columns: Mapping[str, Column]) -> Self:
        """Read kinds and categories off training columns: text makes a column categorical.

        Where less than 5 % of the values are text ('n/a' among numbers), the column is numeric, and they are
        missing. Truth values are numbers, 0 and 1. A timestamp as text is text: give the model its hour or
        weekday.

        >>> spec = FeatureSpec.infer({"miles": [1, 2.5, None], "origin": ["JFK", "LGA", "JFK"]})
        >>> [(f.name, f.kind.value, f.categories) for f in spec.features]
        [('miles', 'numeric', ()), ('origin', 'categorical', ('JFK', 'LGA'))]
        """
        return cls(features=tuple(_infer(name, column) for name, column in columns.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, in the order of the matrix."""
        return tuple(feature.name for feature in self.features)

    @property
    def types(self) -> list[str]:
        """Feature types for xgboost: `q` for numbers, `c` for categories."""
        return ["c" if f.kind is Kind.CATEGORICAL else "q" for f in self.features]

    def encode(self, columns: Mapping[str, Column], rows: int) -> NDArray[np.float32]:
        """The matrix of shape (rows, features); what is missing, unknown or not finite is NaN."""
        if rows <= FEW:
            cells = [_cells(feature, columns.get(feature.name), rows) for feature in self.features]
            return np.array(cells, dtype=np.float32).reshape(len(cells), rows).T.copy()
        matrix = np.full((rows, len(self.features)), np.nan, dtype=np.float32)
        for place, feature in enumerate(self.features):
            column = columns.get(feature.name)
            if column is not None:
                matrix[:, place] = _encode(feature, column)
        return matrix


def numbers(column: Column) -> Floats:
    """A column as floats of shape (rows,); None, text, NaN, infinities and |x| > 1e100 become NaN.

    >>> numbers([1, None, "many", float("inf"), True])
    array([ 1., nan, nan, nan,  1.])
    """
    try:
        floats = np.array(column, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        floats = np.array([_number(value) for value in column], dtype=np.float64)
    else:
        if not isinstance(column, np.ndarray) and any(type(value) is str for value in column):
            floats = np.array([_number(value) for value in column], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        floats[~(np.abs(floats) <= HUGE)] = np.nan
    return floats


def categories(column: Column) -> list[str | None]:
    """A column as text; None and NaN are missing, a number or bool is its text.

    A whole number has no point, however it was written: JSON has one kind of number, and some clients write
    3 where others write 3.0.

    >>> categories(["JFK", None, 3, 3.0, True, float("nan")])
    ['JFK', None, '3', '3', 'True', None]
    """
    return [None if v is None or v != v else v if type(v) is str else _text(v) for v in column]


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def numbers_as_text(floats: Floats) -> NDArray[np.object_]:
    """Numbers as text, for a feature that is text elsewhere; whole ones without a point, NaN is None.

    >>> numbers_as_text(np.array([3.0, 2.5, np.nan]))
    array(['3', '2.5', None], dtype=object)
    """
    return np.array([None if isnan(v) else _number_as_text(v) for v in floats.tolist()], dtype=object)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) <= HUGE else np.nan


def _number_as_text(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


def _infer(name: str, column: Column) -> Feature:
    texts = sum(isinstance(value, str) for value in column)
    if not texts or texts < ODD_TEXTS * np.isfinite(numbers(column)).sum():
        return Feature(name=name, kind=Kind.NUMERIC)
    counts = Counter(value for value in categories(column) if value is not None)
    most = sorted(counts, key=lambda value: (-counts[value], value))[:MAX_CATEGORIES]
    return Feature(name=name, kind=Kind.CATEGORICAL, categories=tuple(sorted(most)))


def _encode(feature: Feature, column: Column) -> Floats:
    return numbers(column) if feature.kind is Kind.NUMERIC else np.array(_encode_column(feature, column))


def _encode_column(feature: Feature, column: Column) -> list[float]:
    codes = feature.codes
    return [nan if value is None else codes.get(value, nan) for value in categories(column)]


def _cells(feature: Feature, column: Column | None, rows: int) -> list[float]:
    """One column of a few rows, as `_encode` has it."""
    if column is None:
        return [nan] * rows
    if feature.kind is Kind.CATEGORICAL:
        return _encode_column(feature, column)
    if _PLAIN.issuperset(map(type, column)):
        return [_number(value) for value in column]
    plain: list[float] = numbers(column).tolist()
    return plain

"""A column of text by its distinct values and a code a row, as Arrow's dictionary arrays and pandas have it.

What is asked of each value (which bin it falls into) is then asked once a value, and not once a row.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

MOST = 256
"""Distinct values, at most: a code is a byte. With more of them little is gained."""
Codes = NDArray[np.uint8]
_TEXT = {str, type(None)}


class Categorical(Sequence[str | None]):
    """Behaves as the list of its values.

    >>> column = Categorical(["JFK", None], np.array([0, 0, 1], dtype=np.uint8))
    >>> list(column), column[2], column[1:]
    (['JFK', 'JFK', None], None, Categorical(['JFK', None]))
    """

    def __init__(self, categories: Sequence[str | None], codes: Codes) -> None:
        """`codes` of shape (rows,), each of them a place in `categories`."""
        self.categories = categories
        self.codes = codes

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self | None:
        """The same column; None if it isn't all text and None, or if hardly any value comes twice.

        >>> Categorical.of(["LGA", "JFK", "LGA", "LGA"]), Categorical.of(["a", 1]), Categorical.of(["a", "b"])
        (Categorical(['LGA', 'JFK', 'LGA', 'LGA']), None, None)
        """
        distinct = dict.fromkeys(values)
        if len(distinct) > MOST or 2 * len(distinct) > len(values) or not set(map(type, distinct)) <= _TEXT:
            return None
        places = {value: place for place, value in enumerate(distinct)}
        return cls(list(places), np.frombuffer(bytes(map(places.__getitem__, values)), dtype=np.uint8))

    @classmethod
    def concatenate(cls, parts: Sequence["Categorical"]) -> Self | None:
        """One below the other; None if they have too many distinct values together.

        >>> one, other = Categorical.of(["a", "a", "b", "b"]), Categorical.of(["b", "b"])
        >>> Categorical.concatenate([one, other])
        Categorical(['a', 'a', 'b', 'b', 'b', 'b'])
        """
        places: dict[str | None, int] = {}
        for part in parts:
            for value in part.categories:
                places.setdefault(value, len(places))
        if len(places) > MOST:
            return None
        tables = (bytes(map(places.__getitem__, part.categories)) for part in parts)
        codes = [np.frombuffer(t, dtype=np.uint8)[p.codes] for t, p in zip(tables, parts, strict=True)]
        return cls(list(places), np.concatenate(codes))

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str | None]:
        return map(self.categories.__getitem__, self.codes.tolist())

    @overload
    def __getitem__(self, row: int) -> str | None: ...

    @overload
    def __getitem__(self, row: slice) -> Self: ...

    def __getitem__(self, row: int | slice) -> str | Self | None:
        if isinstance(row, slice):
            return type(self)(self.categories, self.codes[row])
        return self.categories[int(self.codes[row])]

    def __repr__(self) -> str:
        return f"Categorical({list(self)})"

"""Rows of the data plane as columns: what a chunk of Kafka records is turned into, once, for every agent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.categorical import Categorical
from driftloop.mlops_core.data.features import Column, Floats


class RowKind(StrEnum):
    """What the rows are, by the name that a batch of them has in Kafka."""

    PREDICTIONS = "predictions"
    FEATURES = "feature_rows"
    LABELS = "labels"


@dataclass(frozen=True)
class Rows:
    """Rows of one model (and version, if they are predictions), column by column.

    A feature column is float64 (NaN is missing) if it holds nothing but numbers and nulls, else the values
    as JSON gave them, or `Categorical` if they are text.
    """

    kind: RowKind
    model: str
    version: str
    """Empty unless these are predictions."""
    ids: Sequence[str]
    at: NDArray[np.int64]
    """UTC, in ms, shape (rows,)."""
    values: Floats
    """Scores or labels, shape (rows,), all finite; of feature rows NaN."""
    features: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice) -> Self:
        """Some of the rows, in their order."""
        return type(self)(
            self.kind,
            self.model,
            self.version,
            self.ids[rows],
            self.at[rows],
            self.values[rows],
            {name: column[rows] for name, column in self.features.items()},
        )


def concatenate(parts: Sequence[Rows]) -> list[Rows]:
    """Rows of one kind, model and version one below the other; one `Rows` for each set of feature names.

    >>> at, nothing = np.array([1]), np.array([0.5])
    >>> def row(id: str, **features: Column) -> Rows:
    ...     return Rows(RowKind.PREDICTIONS, "m", "1", [id], at, nothing, features)
    >>> [one.ids for one in concatenate([row("a", x=[1.0]), row("b"), row("c", x=["far"])])]
    [['a', 'c'], ['b']]
    """
    alike: dict[frozenset[str], list[Rows]] = {}
    for part in parts:
        alike.setdefault(frozenset(part.features), []).append(part)
    return [_stack(some) for some in alike.values()]


def _stack(parts: Sequence[Rows]) -> Rows:
    first = parts[0]
    if len(parts) == 1:
        return first
    return Rows(
        first.kind,
        first.model,
        first.version,
        list(chain.from_iterable(part.ids for part in parts)),
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.values for part in parts]),
        {name: _column([part.features[name] for part in parts]) for name in first.features},
    )


def _column(parts: Sequence[Column]) -> Column:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return np.concatenate(arrays)
    coded = [part for part in parts if isinstance(part, Categorical)]
    together = Categorical.concatenate(coded) if len(coded) == len(parts) else None
    if together is not None:
        return together
    return list(chain.from_iterable(p.tolist() if isinstance(p, np.ndarray) else p for p in parts))

"""Predictions whose features come by themselves, from a service of their own: both meet by id.

Drift is measured once both are there. A prediction that `capacity` younger ones have passed is given up and
counted as it is, with all features missing; so is what somebody should hear of: features that never come.
What comes again, once it was counted, is not counted again.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Self

import numpy as np

from mlops_core.data.rows import RowKind, Rows
from mlops_core.data.traits import Shapes, Traits, columns_of, folded, unfolded

CAPACITY = 10_000
"""Predictions, and feature rows, of a model that wait in one partition: seconds of heavy traffic, 2 MB."""
Bare = tuple[str, int, float]
"""Version, time and score of a prediction without features."""


class Descriptions:
    """Who waits for whom, of all models; feature rows before and after their prediction are alike.

    >>> at, scores = np.array([1, 2]), np.array([0.5, 0.7])
    >>> bare = Rows(RowKind.PREDICTIONS, "m", "1", ["a", "b"], at, scores, {})
    >>> apart = Rows(RowKind.FEATURES, "m", "", ["b"], at[:1], np.array([np.nan]), {"x": [3.5]})
    >>> met = Descriptions()
    >>> met.take(bare), [(one.ids, one.values, one.features) for one in met.take(apart)]
    ([], [(['b'], array([0.7]), {'x': array([3.5])})])
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._bare: dict[str, dict[str, Bare]] = {}
        self._apart: dict[str, dict[str, Traits]] = {}
        self._done: dict[str, dict[str, None]] = {}
        """The last ids that were complete, or given up."""
        self._shapes = Shapes()

    def take(self, rows: Rows) -> list[Rows]:
        """Take in predictions or feature rows; returns the predictions that are complete, or given up."""
        if rows.kind is RowKind.PREDICTIONS and rows.features:
            return [rows]
        bare = self._bare.setdefault(rows.model, {})
        apart = self._apart.setdefault(rows.model, {})
        done = self._done.setdefault(rows.model, {})
        if rows.kind is RowKind.FEATURES:
            for id_, traits in zip(rows.ids, self._shapes.traits(rows.features, len(rows)), strict=True):
                if traits is not None and id_ not in done:
                    apart.setdefault(id_, traits)
        else:
            for id_, at, score in zip(rows.ids, rows.at.tolist(), rows.values.tolist(), strict=True):
                if id_ not in done:
                    bare.setdefault(id_, (rows.version, at, score))
        met = dict.fromkeys(id_ for id_ in rows.ids if id_ in bare and id_ in apart)
        complete = list(_rows(rows.model, met, bare, apart))
        given_up = self._oldest(bare)
        done.update(dict.fromkeys([*met, *given_up]))
        for old in self._oldest(done):
            del done[old]
        for old in self._oldest(apart):
            del apart[old]
        return complete + list(_rows(rows.model, given_up, bare, apart))

    def _oldest(self, waiting: Mapping[str, object]) -> list[str]:
        """Those that are too many."""
        return list(islice(waiting, max(len(waiting) - self._capacity, 0)))

    def state(self) -> Mapping[str, Any]:
        """Everybody who waits, as plain values for JSON."""
        return {
            "bare": self._bare,
            "done": {model: list(ids) for model, ids in self._done.items()},
            "apart": {
                model: {"ids": list(rows), **folded(list(rows.values()))}
                for model, rows in self._apart.items()
            },
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any], capacity: int = CAPACITY) -> Self:
        """Go on where `state` was taken."""
        restored = cls(capacity)
        restored._bare = {
            model: {id_: (version, at, score) for id_, (version, at, score) in rows.items()}
            for model, rows in state["bare"].items()
        }
        restored._apart = {
            model: {
                id_: traits
                for id_, traits in zip(rows["ids"], unfolded(rows), strict=True)
                if traits is not None
            }
            for model, rows in state["apart"].items()
        }
        restored._done = {model: dict.fromkeys(ids) for model, ids in state.get("done", {}).items()}
        return restored


def _rows(
    model: str, ids: Mapping[str, None] | Sequence[str], bare: dict[str, Bare], apart: dict[str, Traits]
) -> Iterator[Rows]:
    """These predictions with what features they have, version by version; they wait no more."""
    by_version: dict[str, list[tuple[str, Bare, Traits | None]]] = {}
    for id_ in ids:
        row = bare.pop(id_)
        by_version.setdefault(row[0], []).append((id_, row, apart.pop(id_, None)))
    for version, rows in by_version.items():
        names, known, traits = zip(*rows, strict=True)
        at = np.array([row[1] for row in known], dtype=np.int64)
        scores = np.array([row[2] for row in known], dtype=np.float64)
        yield Rows(RowKind.PREDICTIONS, model, version, list(names), at, scores, columns_of(traits))

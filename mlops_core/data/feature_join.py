"""Predictions whose features come by themselves, from a service of their own: both meet by id.

Drift is measured once both are there. A prediction gives up once the *features* that come are an hour younger
than it (the median time of the last 63, so that a few wrong dates move nothing), or once too many wait. It
counts as it is then, with all features missing: somebody should hear of features that never come. What comes
again, once it was counted, is not counted again.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, takewhile
from statistics import median_low
from typing import Any, Self

import numpy as np

from driftloop.mlops_core.data.packed_features import (
    Shapes,
    Traits,
    columns_of,
    pack_features,
    unpack_features,
)
from driftloop.mlops_core.data.rows import RowKind, Rows

HORIZON_MS = 3_600_000
"""Features that are an hour younger: whatever wrote the prediction's own is done with it."""
CAPACITY = 100_000
"""Predictions, and feature rows, of a model that wait in one partition, at most: 15 MB of predictions, and
more than are on their way when a worker catches up on one topic before the other."""
MODELS = 1000
"""Models whose rows wait, the newest: names that nobody registered must not fill the memory."""
_CLOCK_ROWS = 63
Bare = tuple[str, int, float]
"""Version, time and score of a prediction without features."""


@dataclass
class PendingJoin:
    """Who waits for whom, of one model, oldest first."""

    bare: dict[str, Bare] = field(default_factory=dict)
    apart: dict[str, Traits] = field(default_factory=dict)
    done: dict[str, None] = field(default_factory=dict)
    """The last ids that were complete, or given up."""
    clock: deque[int] = field(default_factory=lambda: deque(maxlen=_CLOCK_ROWS))
    """Times of the last feature rows."""

    @property
    def now(self) -> int | None:
        """The features' time; None before there are enough of them."""
        return median_low(self.clock) if len(self.clock) == _CLOCK_ROWS else None


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
        self._rooms: dict[str, PendingJoin] = {}
        self._shapes = Shapes()

    def take(self, rows: Rows) -> list[Rows]:
        """Take in predictions or feature rows; returns the predictions that are complete, or given up."""
        if rows.kind is RowKind.PREDICTIONS and rows.features:
            return [rows]
        room = self._room(rows.model)
        self._put(room, rows)
        met = dict.fromkeys(id_ for id_ in rows.ids if id_ in room.bare and id_ in room.apart)
        complete = list(_rows(rows.model, met, room))
        given_up = self._late(room)
        room.done.update(dict.fromkeys([*met, *given_up]))
        for kept in (room.done, room.apart):
            for old in self._excess(kept):
                kept.pop(old, None)
        return complete + list(_rows(rows.model, given_up, room))

    def state(self) -> Mapping[str, Any]:
        """Everybody who waits, as plain values for JSON."""
        return {model: _dump_pending(room) for model, room in self._rooms.items()}

    @classmethod
    def restore(cls, state: Mapping[str, Any], capacity: int = CAPACITY) -> Self:
        """Go on where `state` was taken."""
        restored = cls(capacity)
        restored._rooms = {model: _load_pending(fields) for model, fields in state.items()}
        return restored

    def _room(self, model: str) -> PendingJoin:
        """The model's room, now the newest."""
        self._rooms[model] = room = self._rooms.pop(model, None) or PendingJoin()
        while len(self._rooms) > MODELS:
            del self._rooms[next(iter(self._rooms))]
        return room

    def _put(self, room: PendingJoin, rows: Rows) -> None:
        if rows.kind is RowKind.FEATURES:
            room.clock.extend(rows.at.tolist())
            for id_, traits in zip(rows.ids, self._shapes.traits(rows.features, len(rows)), strict=True):
                if traits is not None and id_ not in room.done:
                    room.apart.setdefault(id_, traits)
        else:
            for id_, at, score in zip(rows.ids, rows.at.tolist(), rows.values.tolist(), strict=True):
                if id_ not in room.done:
                    room.bare.setdefault(id_, (rows.version, at, score))

    def _late(self, room: PendingJoin) -> list[str]:
        """The predictions that have waited long enough: from the oldest on, as long as they have."""
        now = room.now
        passed = [] if now is None else takewhile(lambda id_: room.bare[id_][1] + HORIZON_MS < now, room.bare)
        return max(self._excess(room.bare), list(passed), key=len)

    def _excess(self, waiting: Mapping[str, object]) -> list[str]:
        """The oldest, where too many wait."""
        return list(islice(waiting, max(len(waiting) - self._capacity, 0)))


def _dump_pending(room: PendingJoin) -> Mapping[str, Any]:
    apart = {"ids": list(room.apart), **pack_features(list(room.apart.values()))}
    return {"bare": room.bare, "apart": apart, "done": list(room.done), "clock": list(room.clock)}


def _load_pending(fields: Mapping[str, Any]) -> PendingJoin:
    described = zip(fields["apart"]["ids"], unpack_features(fields["apart"]), strict=True)
    return PendingJoin(
        bare={id_: (version, at, score) for id_, (version, at, score) in fields["bare"].items()},
        apart={id_: traits for id_, traits in described if traits is not None},
        done=dict.fromkeys(fields["done"]),
        clock=deque(fields["clock"], _CLOCK_ROWS),
    )


def _rows(model: str, ids: Iterable[str], room: PendingJoin) -> Iterator[Rows]:
    """These predictions with what features they have, version by version; they wait no more."""
    by_version: dict[str, list[tuple[str, Bare, Traits | None]]] = {}
    for id_ in ids:
        row = room.bare.pop(id_)
        by_version.setdefault(row[0], []).append((id_, row, room.apart.pop(id_, None)))
    for version, rows in by_version.items():
        names, known, traits = zip(*rows, strict=True)
        at = np.array([row[1] for row in known], dtype=np.int64)
        scores = np.array([row[2] for row in known], dtype=np.float64)
        yield Rows(RowKind.PREDICTIONS, model, version, list(names), at, scores, columns_of(traits))

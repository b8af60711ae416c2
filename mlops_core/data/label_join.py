"""Predictions, their features and their labels meet by id, in whatever order they arrive.

    prediction ──▶ has features? ──no──▶ waits for its feature row ─┐
                       └──yes──▶ waits for its label ◀──────────────┘──▶ joined ──▶ remembered (duplicates)
    label ───────▶ waits for its prediction ──▶ joined, or an orphan

Nobody waits for ever, and time is the time of the data: a prediction gives up once the *labels* have come
`horizon` past it, a label once the *predictions* have. Were there one clock, then a worker that catches up
and reads a month of predictions before the first label would give all of them up. Each clock is the median
`at` of the last 63 rows of its kind, so that a few records from the year 58000 (microseconds sent as
milliseconds) move nothing, and even many of them only until sane ones outnumber them again. Where the
other side is silent, `capacity` bounds what is kept.

What a row's features are while it waits: `driftloop.mlops_core.data.packed_features`.
"""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Self

import numpy as np
import orjson

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Column
from driftloop.mlops_core.data.packed_features import (
    Shapes,
    Traits,
    columns_of,
    pack_features,
    unpack_features,
)

Predicted = tuple[int, float, str, Traits | None]
"""`at`, score, version, features (None: they are still to come)."""
Labelled = tuple[int, float]
Described = tuple[int, Traits | None]
Joined = tuple[str, Predicted, Labelled]

CLOCK_ROWS = 63
"""Rows whose median is the clock; with fewer there is no clock yet, and nothing expires."""
SWEEPS = 16
"""Sweeps per horizon: a row waits up to 1/16 longer than the horizon, and is looked at 16 times."""
ROOM = 8
"""A sweep of a full room clears a further 1/8 of it, so that the next sweep isn't due at once."""


@dataclass(frozen=True)
class Orphan:
    """A label whose prediction never came."""

    model: str
    id: str
    label: float
    at: int
    """When the label arrived (UTC, ms)."""


@dataclass(frozen=True)
class Expired:
    """What was waited for long enough."""

    orphans: Sequence[Orphan] = ()
    featureless: Mapping[str, Examples] = field(default_factory=dict)
    """By model: predictions that met their label but never their features; joined without them."""


@dataclass
class PendingJoin:
    """Who waits for whom, for one model."""

    predicted: dict[str, Predicted] = field(default_factory=dict)
    labelled: dict[str, Labelled] = field(default_factory=dict)
    described: dict[str, Described] = field(default_factory=dict)
    done: dict[str, Labelled] = field(default_factory=dict)
    predicting: deque[int] = field(default_factory=lambda: deque(maxlen=CLOCK_ROWS))
    labelling: deque[int] = field(default_factory=lambda: deque(maxlen=CLOCK_ROWS))
    swept: tuple[int, int] = (0, 0)
    """Both clocks at the last sweep."""
    counts: Counter[str] = field(default_factory=Counter)

    def predict(self, rows: Iterable[tuple[str, Predicted]], joined: list[Joined]) -> None:
        """Predictions came. A loop over plain dictionaries: a call a row would cost as much again."""
        predicted, done, described, labelled = self.predicted, self.done, self.described, self.labelled
        known = new = 0
        for id_, row in rows:
            if id_ in predicted or id_ in done:
                known += 1
                continue
            new += 1
            apart = described.pop(id_, None) if described else None
            predicted[id_] = row if row[3] or apart is None else (*row[:3], apart[1])
            if labelled and id_ in labelled:
                self._meet(id_, joined)
        self._count(predictions=new, duplicates=known)

    def describe(self, id_: str, row: Described, joined: list[Joined]) -> None:
        """A feature row came; a prediction's own features go before it, and so does an earlier row."""
        waiting = self.predicted.get(id_)
        if waiting is None:
            if id_ not in self.done:
                self.described.setdefault(id_, row)
        elif not waiting[3]:
            self.predicted[id_] = (*waiting[:3], row[1])
            if id_ in self.labelled:
                self._meet(id_, joined)

    def label(self, rows: Iterable[tuple[str, Labelled]], joined: list[Joined]) -> None:
        """Labels came; the first one of an id counts."""
        predicted, done, labelled = self.predicted, self.done, self.labelled
        new = 0
        for id_, row in rows:
            if id_ in done or id_ in labelled:
                known = done.get(id_) or labelled[id_]
                self.counts["duplicates" if known[1] == row[1] else "conflicts"] += 1
                continue
            new += 1
            prediction = predicted.get(id_)
            if prediction is None or not prediction[3]:
                labelled[id_] = row
            else:
                del predicted[id_]
                done[id_] = row
                joined.append((id_, prediction, row))
        self._count(labels=new)

    def _count(self, **rows: int) -> None:
        self.counts.update({what: number for what, number in rows.items() if number})

    def _meet(self, id_: str, joined: list[Joined]) -> None:
        if self.predicted[id_][3]:
            self.done[id_] = self.labelled.pop(id_)
            joined.append((id_, self.predicted.pop(id_), self.done[id_]))

    def sweep(self, horizon: int, capacity: int) -> tuple[list[Joined], list[tuple[str, Labelled]]]:
        """Who gave up waiting: labelled predictions without features, and labels without a prediction."""
        now, labels_now = _now(self.predicting), _now(self.labelling)
        self.swept = (now, labels_now)
        leaving = dict.fromkeys(
            _leaving(self.predicted, labels_now - horizon, now, capacity)
            + _leaving(self.labelled, now - horizon, labels_now, capacity)
        )
        for id_ in _leaving(self.described, now - horizon, now, capacity):
            del self.described[id_]
        for id_ in _leaving(self.done, min(now, labels_now) - horizon, labels_now, capacity):
            del self.done[id_]
        return self._evict(leaving)

    def evict_all(self) -> tuple[list[Joined], list[tuple[str, Labelled]]]:
        """Everybody gives up, as in `sweep`."""
        return self._evict([*self.predicted, *(id_ for id_ in self.labelled if id_ not in self.predicted)])

    def _evict(self, leaving: Iterable[str]) -> tuple[list[Joined], list[tuple[str, Labelled]]]:
        bare, orphans = [], []
        for id_ in leaving:
            prediction, label = self.predicted.pop(id_, None), self.labelled.pop(id_, None)
            if prediction is None and label is not None:
                orphans.append((id_, label))
            elif prediction is not None and label is not None:
                bare.append((id_, prediction, label))
                self.done[id_] = label
            else:
                self.counts["unlabelled"] += 1
        self.counts.update(joined=len(bare), featureless=len(bare), orphans=len(orphans))
        return bare, orphans

    def due(self, step: int, capacity: int) -> bool:
        """Whether a sweep would find anything: time went on (or back), or too many wait."""
        rooms: Iterable[Mapping[str, object]] = (self.predicted, self.labelled, self.described, self.done)
        if any(len(one) > capacity for one in rooms):
            return True
        clocks = (_now(self.predicting), _now(self.labelling))
        return any(abs(now - then) >= step for now, then in zip(clocks, self.swept, strict=True))


class LabelJoin:
    """The join of several models, column by column; state for one worker's share of the ids.

    Feed it whole batches and call `expire` after each chunk. Values are JSON's: numbers of at most 64
    bits, text, bools, None.
    """

    def __init__(self, horizon_ms: int, capacity: int = 500_000) -> None:
        """Start empty.

        Args:
            horizon_ms: how long a row waits for its counterpart (and is remembered after it), in ms.
            capacity: rows of a kind and model kept at most (predictions, labels, feature rows, remembered
                ids); about 0.6 kB a waiting prediction of 20 features. Beyond it, those furthest from the
                clock go first.
        """
        self._horizon = horizon_ms
        self._capacity = capacity
        self._rooms: dict[str, PendingJoin] = {}
        self._shapes = Shapes()

    def predictions(
        self,
        model: str,
        version: str,
        ids: Sequence[str],
        at: Sequence[int],
        scores: Sequence[float],
        features: Mapping[str, Column],
    ) -> Examples:
        """Take predictions, columns of shape (rows,); returns the rows that they completed, by `at`.

        Raises:
            ValueError: columns of different lengths.
        """
        room, joined = self._room(model), list[Joined]()
        times, traits = _plain(at), self._shapes.traits(features, len(ids))
        rows = zip(times, _plain(scores), repeat(version, len(ids)), traits, strict=True)
        room.predict(list(zip(_plain(ids), rows, strict=True)), joined)
        room.predicting.extend(times)
        return _examples_of(room, joined)

    def features(
        self, model: str, ids: Sequence[str], at: Sequence[int], features: Mapping[str, Column]
    ) -> Examples:
        """Take feature rows, columns of shape (rows,); returns the rows that they completed, by `at`.

        Raises:
            ValueError: columns of different lengths.
        """
        room, joined = self._room(model), list[Joined]()
        for id_, *row in zip(_plain(ids), _plain(at), self._shapes.traits(features, len(ids)), strict=True):
            room.describe(id_, (row[0], row[1]), joined)
        return _examples_of(room, joined)

    def labels(self, model: str, ids: Sequence[str], at: Sequence[int], labels: Sequence[float]) -> Examples:
        """Take labels, columns of shape (rows,); returns the rows that they completed, by `at`.

        Raises:
            ValueError: columns of different lengths.
        """
        room, joined = self._room(model), list[Joined]()
        times = _plain(at)
        rows = zip(times, _plain(labels), strict=True)
        room.label(list(zip(_plain(ids), rows, strict=True)), joined)
        room.labelling.extend(times)
        return _examples_of(room, joined)

    def expire(self) -> Expired:
        """Let go of what has waited for the horizon, or is too much to keep."""
        orphans: list[Orphan] = []
        featureless: dict[str, Examples] = {}
        for model, room in self._rooms.items():
            if room.due(max(1, self._horizon // SWEEPS), self._capacity):
                bare, alone = room.sweep(self._horizon, self._capacity)
                orphans += [Orphan(model, id_, label, at) for id_, (at, label) in alone]
                if bare:
                    featureless[model] = _examples(bare)
        return Expired(orphans, featureless)

    @property
    def models(self) -> Sequence[str]:
        """Those of whom something is kept, the one that was heard of last at the end."""
        return list(self._rooms)

    def forget(self, model: str) -> Expired:
        """Let go of a model and all that waits for it, as if the horizon were over."""
        room = self._rooms.pop(model)
        bare, alone = room.evict_all()
        orphans = [Orphan(model, id_, label, at) for id_, (at, label) in alone]
        return Expired(orphans, {model: _examples(bare)} if bare else {})

    def counts(self, model: str | None = None) -> Mapping[str, int]:
        """What became of everything so far, for one model or all of them.

        Always: `predictions` = `joined` + `unlabelled` + `waiting`, and
        `labels` = `joined` + `orphans` + `waiting_labels`. `featureless` are part of `joined`;
        `duplicates` and `conflicts` (labels that contradict the first one) changed nothing.
        """
        rooms = self._rooms.values() if model is None else [self._rooms.get(model, PendingJoin())]
        total = Counter[str]()
        for room in rooms:
            total.update(room.counts)
            total["waiting"] += len(room.predicted)
            total["waiting_labels"] += len(room.labelled)
            total["waiting_features"] += len(room.described)
            total["remembered"] += len(room.done)
        return {name: total[name] for name in _COUNTS}

    def dump(self) -> bytes:
        """The whole state as JSON."""
        rooms = {model: _dump_pending(room) for model, room in self._rooms.items()}
        return orjson.dumps(rooms, option=orjson.OPT_SERIALIZE_NUMPY)

    @classmethod
    def load(cls, data: bytes, horizon_ms: int, capacity: int = 500_000) -> Self:
        """Back from `dump`; the horizon and the capacity may be others than before."""
        join = cls(horizon_ms, capacity)
        join._rooms = {model: _load_pending(room) for model, room in orjson.loads(data).items()}
        return join

    def _room(self, model: str) -> PendingJoin:
        self._rooms[model] = room = self._rooms.pop(model, None) or PendingJoin()  # newest last
        return room


_COUNTS = (
    *("predictions", "labels", "joined", "featureless", "duplicates", "conflicts", "orphans", "unlabelled"),
    *("waiting", "waiting_labels", "waiting_features", "remembered"),
)


def _examples_of(room: PendingJoin, joined: list[Joined]) -> Examples:
    room.counts["joined"] += len(joined)
    return _examples(joined)


def _examples(joined: list[Joined]) -> Examples:
    joined.sort(key=lambda one: (one[1][0], one[0]))
    ids, predicted, labelled = zip(*joined, strict=True) if joined else ((), (), ())
    at, scores, versions, traits = zip(*predicted, strict=True) if predicted else ((),) * 4
    labelled_at, labels = zip(*labelled, strict=True) if labelled else ((), ())
    return Examples(
        ids=np.array(ids, dtype=object),
        at=np.array(at, dtype=np.int64),
        labels=np.array(labels, dtype=np.float64),
        labelled_at=np.array(labelled_at, dtype=np.int64),
        scores=np.array(scores, dtype=np.float64),
        versions=np.array(versions, dtype=object),
        features=columns_of(traits),
    )


def _plain(values: Any) -> Any:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _now(recent: deque[int]) -> int:
    return sorted(recent)[CLOCK_ROWS // 2] if len(recent) == CLOCK_ROWS else 0


def _leaving(rows: Mapping[str, tuple[Any, ...]], cut: int, now: int, capacity: int) -> list[str]:
    """Ids of the rows from before `cut`; if too many are left, also of those furthest from `now`.

    Without a clock (0) the newest row is now.
    """
    at = np.fromiter((row[0] for row in rows.values()), dtype=np.int64, count=len(rows))
    gone = at < cut
    if len(rows) - int(gone.sum()) > capacity:
        excess = len(rows) - capacity + capacity // ROOM
        gone[np.argpartition(-np.abs(at - (now or at.max())), excess - 1)[:excess]] = True
    ids = list(rows)
    return [ids[place] for place in np.flatnonzero(gone)]


def _dump_pending(room: PendingJoin) -> Mapping[str, object]:
    at, scores, versions, traits = zip(*room.predicted.values(), strict=True) if room.predicted else ((),) * 4
    times, apart = zip(*room.described.values(), strict=True) if room.described else ((), ())
    predicted = {"ids": list(room.predicted), "at": at, "scores": scores, "versions": versions}
    return {
        "predicted": {**predicted, "traits": pack_features(traits)},
        "described": {"ids": list(room.described), "at": times, "traits": pack_features(apart)},
        "labelled": room.labelled,
        "done": room.done,
        "predicting": list(room.predicting),
        "labelling": list(room.labelling),
        "swept": room.swept,
        "counts": room.counts,
    }


def _load_pending(fields: Mapping[str, Any]) -> PendingJoin:
    predicted, described = fields["predicted"], fields["described"]
    versions = map(sys.intern, predicted["versions"])
    rows = zip(
        predicted["at"], predicted["scores"], versions, unpack_features(predicted["traits"]), strict=True
    )
    apart = zip(described["at"], unpack_features(described["traits"]), strict=True)
    return PendingJoin(
        predicted=dict(zip(predicted["ids"], rows, strict=True)),
        described=dict(zip(described["ids"], apart, strict=True)),
        labelled={id_: (at, label) for id_, (at, label) in fields["labelled"].items()},
        done={id_: (at, label) for id_, (at, label) in fields["done"].items()},
        predicting=deque(fields["predicting"], CLOCK_ROWS),
        labelling=deque(fields["labelling"], CLOCK_ROWS),
        swept=(fields["swept"][0], fields["swept"][1]),
        counts=Counter(fields["counts"]),
    )

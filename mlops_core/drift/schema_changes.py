"""Columns that a version was trained on and that don't come any more, come as something else, or are new.

A single row proves nothing: clients leave out what is null. So a deviation is told once it has held for
`LEAST_ROWS` rows after another, and again when there was none for `OVER_ROWS`: where clients take turns, one
that differs must not be news each time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import numpy as np

from driftloop.mlops_core.data.features import Column, Kind
from driftloop.mlops_core.data.profile import ColumnProfile, Profile
from driftloop.mlops_core.data.rows import Rows

LEAST_ROWS = 256
"""As many as one reading of the shape: a column that is null in half of the rows is never absent so long."""
OVER_ROWS = 4096
"""Eight turns of clients that send 500 rows at once."""
MOST = 50
"""Columns that are told of at once; a client that puts ids into names must not fill the memory."""


class Deviation(StrEnum):
    """How a column is not as it was in training."""

    MISSING = "missing"
    EXTRA = "extra"
    RETYPED = "retyped"


Deviations = Mapping[str, Deviation]
"""By column."""


def deviations(rows: Sequence[Rows], profile: Profile) -> Deviations:
    """What holds for all of `rows`, and what is new in most.

    Rows without any feature say nothing: theirs may come by themselves.

    >>> profile = Profile.of({"miles": [1.0, 2.0], "origin": ["JFK", "LGA"]}, scores=np.ones(2))
    >>> at, scores = np.arange(2), np.ones(2)
    >>> rows = Rows("predictions", "m", "1", ["a", "b"], at, scores, {"miles": ["far", "near"], "age": at})
    >>> {name: str(found) for name, found in deviations([rows], profile).items()}
    {'miles': 'retyped', 'origin': 'missing', 'age': 'extra'}
    """
    described = [one for one in rows if one.features]
    if not described:
        return {}
    present = {name for one in described for name in one.features}
    return dict(sorted(_deviations(described, profile, present), key=lambda one: one[0] not in profile.names))


def _deviations(rows: Sequence[Rows], profile: Profile, present: set[str]) -> Iterator[tuple[str, Deviation]]:
    features = profile.features
    for column in features:
        if column.name not in present:
            if not _mostly_missing(column):
                yield column.name, Deviation.MISSING
        elif all(
            _has_other_type(column, one.features[column.name]) for one in rows if column.name in one.features
        ):
            yield column.name, Deviation.RETYPED
    new = sorted(present - {column.name for column in features})
    for name in [name for name in new if _in_most(name, rows)][:MOST]:
        yield name, Deviation.EXTRA


def _in_most(name: str, rows: Sequence[Rows]) -> bool:
    return 2 * sum(len(one) for one in rows if name in one.features) > sum(map(len, rows))


def _mostly_missing(column: ColumnProfile) -> bool:
    return bool(column.shares) and column.shares[column.null] > 0.5


def _has_other_type(column: ColumnProfile, values: Column) -> bool:
    """Text where numbers were, or numbers where text was; a mixture shows as missing or unseen values."""
    numeric = isinstance(values, np.ndarray) and values.dtype != object  # rows that were cut out of others
    if column.kind is Kind.NUMERIC:
        given = [value for value in values if value is not None] if not numeric else []
        return bool(given) and all(isinstance(value, str) for value in given)
    if not numeric or not np.isfinite(np.asarray(values)).any():
        return False
    bins = column.bins(values)
    return bool(np.isin(bins, (column.null - 1, column.null)).all())


@dataclass
class ColumnWatch:
    """Which deviations of one version have held for how many rows; how rows are chunked changes little.

    >>> watch = ColumnWatch()
    >>> [watch.update({"age": Deviation.EXTRA}, rows=96) for _ in range(3)]
    [None, None, {'age': <Deviation.EXTRA: 'extra'>}]
    >>> [watch.update({}, rows=512) for _ in range(8)][-1]
    {}
    """

    held: dict[str, tuple[Deviation | None, int]] = field(default_factory=dict)
    """What differs from what was told: what it is now (None: as in training) and for how many rows."""
    told: dict[str, Deviation] = field(default_factory=dict)

    def update(self, found: Deviations, rows: int) -> Deviations | None:
        """Take in what held for the next `rows` rows; returns all that holds, if that is news."""
        held: dict[str, tuple[Deviation | None, int]] = {}
        for name in self._names_to_remember(found):
            now = found.get(name)
            if now != self.told.get(name):
                before, since = self.held.get(name, (now, 0))
                held[name] = now, rows + (since if before == now else 0)
        self.held = held
        settled = {name: now for name, (now, since) in held.items() if since >= _least(now)}
        if not settled:
            return None
        for name, now in settled.items():
            del self.held[name]
            if now is None:
                del self.told[name]
            else:
                self.told[name] = now
        return dict(self.told)

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """Back from its fields as JSON has them; an empty mapping is a fresh one."""
        held = {
            name: (None if now is None else Deviation(now), rows)
            for name, (now, rows) in state.get("held", {}).items()
        }
        return cls(held, {name: Deviation(what) for name, what in state.get("told", {}).items()})

    def _names_to_remember(self, found: Deviations) -> Iterator[str]:
        """What was told, and as much of what is new as there is room for."""
        yield from self.told
        yield from sorted(found.keys() - self.told.keys())[: max(2 * MOST - len(self.told), 0)]


def _least(now: Deviation | None) -> int:
    return OVER_ROWS if now is None else LEAST_ROWS


def sentence(found: Deviations) -> str:
    """All deviations for a person.

    >>> sentence({"miles": Deviation.RETYPED, "age": Deviation.EXTRA, "size": Deviation.EXTRA})
    'columns are not as in training: miles has another type, age and size are new'
    >>> sentence({})
    'all columns are as in training again'
    """
    if not found:
        return "all columns are as in training again"
    said = []
    for kind, (one, many) in _WORDS.items():
        names = [name for name, what in found.items() if what is kind]
        if names:
            said.append(f"{_list_names(names)} {one if len(names) == 1 else many}")
    return f"columns are not as in training: {', '.join(said)}"


_WORDS: Mapping[Deviation, tuple[str, str]] = {
    Deviation.MISSING: ("doesn't come any more", "don't come any more"),
    Deviation.RETYPED: ("has another type", "have another type"),
    Deviation.EXTRA: ("is new", "are new"),
}


def _list_names(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    shown = list(names[:5]) + ([f"{len(names) - 5} more"] if len(names) > 5 else [])
    return f"{', '.join(shown[:-1])} and {shown[-1]}"

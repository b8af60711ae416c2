"""Columns that differ from the training data: missing, of another type, or new.

A single row proves nothing, as clients leave out null values. So a deviation is reported once it has held for
`LEAST_ROWS` rows in a row, and its end once it was absent for `OVER_ROWS`, so that clients with different
columns which alternate don't cause a report at each turn.
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
"""Rows of one group: a column that is null in half of the rows is never absent for 256 rows in a row."""
OVER_ROWS = 4096
"""Eight turns of clients that send 500 rows at once."""
MOST = 50
"""Most columns in one report, so that a client which puts ids into column names does not fill the memory."""


class Deviation(StrEnum):
    """How a column differs from the training data."""

    MISSING = "missing"
    EXTRA = "extra"
    RETYPED = "retyped"


Deviations = Mapping[str, Deviation]
"""Column -> how it differs."""


def deviations(rows: Sequence[Rows], profile: Profile) -> Deviations:
    """Missing and retyped columns in all of `rows`, and new columns in most of them.

    Rows without any feature are ignored: their features may be published separately.

    >>> profile = Profile.of({"miles": [1.0, 2.0], "origin": ["JFK", "LGA"]}, scores=np.ones(2))
    >>> at, scores = np.arange(2), np.ones(2)
    >>> rows = Rows("predictions", "m", "1", ["a", "b"], at, scores, {"miles": ["far", "near"], "age": at})
    >>> {name: str(found) for name, found in deviations([rows], profile).items()}
    {'miles': 'retyped', 'origin': 'missing', 'age': 'extra'}
    """
    described = [batch for batch in rows if batch.features]
    if not described:
        return {}
    present = {name for batch in described for name in batch.features}
    return dict(
        sorted(_deviations(described, profile, present), key=lambda item: item[0] not in profile.names)
    )


def _deviations(rows: Sequence[Rows], profile: Profile, present: set[str]) -> Iterator[tuple[str, Deviation]]:
    features = profile.features
    for column in features:
        if column.name not in present:
            if not _mostly_missing(column):
                yield column.name, Deviation.MISSING
        elif all(
            _has_other_type(column, batch.features[column.name])
            for batch in rows
            if column.name in batch.features
        ):
            yield column.name, Deviation.RETYPED
    new = sorted(present - {column.name for column in features})
    for name in [name for name in new if _in_most(name, rows)][:MOST]:
        yield name, Deviation.EXTRA


def _in_most(name: str, rows: Sequence[Rows]) -> bool:
    return 2 * sum(len(batch) for batch in rows if name in batch.features) > sum(map(len, rows))


def _mostly_missing(column: ColumnProfile) -> bool:
    return bool(column.shares) and column.shares[column.null] > 0.5


def _has_other_type(column: ColumnProfile, values: Column) -> bool:
    """Whether all values are text where numbers were, or numbers where text was."""
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
    """Deviations of one version's columns, and for how many rows each has held.

    >>> watch = ColumnWatch()
    >>> [watch.update({"age": Deviation.EXTRA}, rows=96) for _ in range(3)]
    [None, None, {'age': <Deviation.EXTRA: 'extra'>}]
    >>> [watch.update({}, rows=512) for _ in range(8)][-1]
    {}
    """

    held: dict[str, tuple[Deviation | None, int]] = field(default_factory=dict)
    """Column whose state differs from `reported` -> its deviation (None: as in training), rows so far."""
    reported: dict[str, Deviation] = field(default_factory=dict)
    """Deviations that were reported last."""

    def update(self, found: Deviations, rows: int) -> Deviations | None:
        """Add the deviations of the next `rows` rows; returns all settled ones if they changed, else None."""
        held: dict[str, tuple[Deviation | None, int]] = {}
        for name in self._names_to_remember(found):
            now = found.get(name)
            if now != self.reported.get(name):
                before, since = self.held.get(name, (now, 0))
                held[name] = now, rows + (since if before == now else 0)
        self.held = held
        settled = {name: now for name, (now, since) in held.items() if since >= _least(now)}
        if not settled:
            return None
        for name, now in settled.items():
            del self.held[name]
            if now is None:
                del self.reported[name]
            else:
                self.reported[name] = now
        return dict(self.reported)

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """The watch from its fields as JSON has them; an empty mapping gives a new one."""
        held = {
            name: (None if now is None else Deviation(now), rows)
            for name, (now, rows) in state.get("held", {}).items()
        }
        return cls(held, {name: Deviation(what) for name, what in state.get("reported", {}).items()})

    def _names_to_remember(self, found: Deviations) -> Iterator[str]:
        """Reported columns, and new ones up to twice `MOST` in all."""
        yield from self.reported
        yield from sorted(found.keys() - self.reported.keys())[: max(2 * MOST - len(self.reported), 0)]


def _least(now: Deviation | None) -> int:
    return OVER_ROWS if now is None else LEAST_ROWS


def sentence(found: Deviations) -> str:
    """All deviations as a sentence.

    >>> sentence({"miles": Deviation.RETYPED, "age": Deviation.EXTRA, "size": Deviation.EXTRA})
    'columns differ from the training data: miles has another type, age and size are new'
    >>> sentence({})
    'columns agree with the training data again'
    """
    if not found:
        return "columns agree with the training data again"
    parts = []
    for kind, (singular, plural) in _WORDS.items():
        names = [name for name, deviation in found.items() if deviation is kind]
        if names:
            parts.append(f"{_list_names(names)} {singular if len(names) == 1 else plural}")
    return f"columns differ from the training data: {', '.join(parts)}"


_WORDS: Mapping[Deviation, tuple[str, str]] = {
    Deviation.MISSING: ("is missing", "are missing"),
    Deviation.RETYPED: ("has another type", "have another type"),
    Deviation.EXTRA: ("is new", "are new"),
}


def _list_names(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    shown = list(names[:5]) + ([f"{len(names) - 5} more"] if len(names) > 5 else [])
    return f"{', '.join(shown[:-1])} and {shown[-1]}"

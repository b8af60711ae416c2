"""What training data looked like, column by column: the reference that drift is measured against."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property
from typing import Any, Literal, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from driftloop.mlops_core.data.any_column import plain_columns
from driftloop.mlops_core.data.categorical import Categorical
from driftloop.mlops_core.data.correlations import Pairs
from driftloop.mlops_core.data.features import HUGE, Column, FeatureSpec, Floats, Kind, categories, numbers
from driftloop.mlops_core.data.seasons import Seasons
from driftloop.mlops_core.data.segments import Segment
from driftloop.mlops_core.errors import InvalidData

BINS = 32
"""Quantile bins of a numeric column: enough to see a shape, few enough to fill within 256 rows."""
BINS_MAX = BINS + 1
"""Bins of any column, at most: 32 quantiles and null, or 12 categories, other, unseen and null."""
TOP = 12
"""Categories with a bin of their own, at most."""
COMMON = 0.01
"""Share from which a category gets a bin: a rarer one would alarm on a single event."""
OTHERS = 512
"""Rarer categories remembered by name, so that they are told from those never seen."""
SCORE = "score"
"""The predictions' own column, the first after the features."""
CONFIDENCE = "confidence"
"""How sure a model of two classes is, max(p, 1 - p): derived from the score."""
CLASS = "class"
"""Which of two classes a score means, cut at 0.5: derived from the score."""
STRETCH = 1024
"""Consecutive reference rows that are counted for themselves, in four quarters."""
STRETCHES = 32
"""Stretches per profile, at most, evenly spread."""
FLEETING = 0.5
"""Share of values that occur once from which a text column holds identifiers, not categories."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?")
"""A date, or a date and time, as ISO 8601 writes them."""
_APART = 1e-6
"""Relative distance within which two numbers are one value: float32 and float64 differ by 1e-7."""


class ColumnProfile(BaseModel):
    """One column's bins and how full each was.

    Bins of a numeric column: `len(edges) + 1` half-open intervals [edge, next edge), then null.
    Bins of a categorical one: `categories`, other (seen, but under 1 %), unseen, then null. Of a `fleeting`
    one, whose values hardly ever come again, any text is other and anything else unseen.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind
    edges: tuple[float, ...] = ()
    """Inner edges, strictly increasing, at most 31; where few values exist, halfway between them."""
    categories: tuple[str, ...] = ()
    """Most frequent first."""
    others: tuple[str, ...] = ()
    """Categories counted as other."""
    fleeting: bool = False
    """Timestamps and identifiers: tomorrow's are new by nature, so only whether there is one can drift."""
    shares: tuple[float, ...] = ()
    """Share of the reference in each bin; they add up to 1."""
    rows: int = 0
    """Rows of the reference."""
    stretches: tuple[tuple[int, ...], ...] = ()
    """Counts per bin of 256 consecutive rows each, four after another make a stretch: how much the reference
    varies by itself, from day to day, is not drift."""
    importance: float | None = None
    """The feature's share in what moves the model's answers; None where nobody asked the model."""

    @classmethod
    def of(cls, name: str, kind: Kind, column: Column) -> Self:
        """The profile of `column`, shape (rows,), at least one row."""
        rows = len(column)
        fields: dict[str, tuple[float, ...] | tuple[str, ...] | bool]
        if kind is Kind.NUMERIC:
            fields = {"edges": _edges(numbers(column))}
        elif _fleeting(values := [value for value in categories(column) if value is not None]):
            fields = {"fleeting": True}
        else:
            top, others = _rank_categories(values, rows)
            fields = {"categories": top, "others": others}
        empty = cls.model_validate({"name": name, "kind": kind, "rows": rows, **fields})
        bins = empty.bins(column)
        shares = np.bincount(bins, minlength=empty.null + 1) / rows
        found = {"shares": tuple(shares.tolist()), "stretches": stretches(bins, empty.null + 1)}
        return empty.model_copy(update=found)

    @property
    def null(self) -> int:
        """The bin of missing values, which is the last one."""
        return len(self.edges) + 1 if self.kind is Kind.NUMERIC else len(self.categories) + 2

    @property
    def bin_names(self) -> tuple[str, ...]:
        """Names of a categorical column's bins but null; empty for numbers."""
        return () if self.kind is Kind.NUMERIC else (*self.categories, "(other)", "(unseen)")

    def bins(self, column: Column) -> NDArray[np.uint8]:
        """The bin of each value, shape (rows,); what is not finite or not of this kind is null."""
        if self.kind is Kind.NUMERIC:
            floats = column if _is_float64(column) else numbers(column)
            # No branches to guess: over thousands of rows a third of a binary search's time.
            below = np.less_equal.outer(self._cuts, floats).view(np.uint8)
            places: NDArray[np.uint8] = np.add.reduce(below, axis=0, dtype=np.uint8)
            places[~(np.abs(floats) <= HUGE)] = self.null
            return places
        if isinstance(column, Categorical):
            return self.bins(column.categories)[column.codes]
        values = column.tolist() if isinstance(column, np.ndarray) else column
        if self.fleeting:
            return np.fromiter(map(self._presence, values), dtype=np.uint8, count=len(values))
        try:
            found = bytes(map(self._bin_of_category.__getitem__, values))
        except KeyError:  # something never seen, or no text
            found = bytes(map(self._places.__getitem__, values))
        return np.frombuffer(found, dtype=np.uint8)

    def _presence(self, value: Any) -> int:
        if isinstance(value, str):
            return 0
        return self.null if value is None or value != value else 1

    @cached_property
    def _cuts(self) -> Floats:
        return np.array(self.edges, dtype=np.float64)

    @cached_property
    def _bin_of_category(self) -> dict[str | None, int]:
        known: dict[str | None, int] = dict.fromkeys(self.others, len(self.categories))
        known.update((value, place) for place, value in enumerate(self.categories))
        known[None] = self.null
        return known

    @cached_property
    def _places(self) -> "_Places":
        return _Places(self._bin_of_category, self.null - 1)


class _Places(dict[Any, int]):
    """The bin of any value. A plain dict is twice as fast, as long as it knows everything."""

    def __init__(self, known: Mapping[str | None, int], unseen: int) -> None:
        super().__init__(known)
        self._unseen = unseen

    def __missing__(self, value: Any) -> int:
        [text] = categories([value])
        return self.get(text, self._unseen)


class HeldOut(BaseModel):
    """What labels said of rows that the model didn't learn from: where estimates without labels begin."""

    model_config = ConfigDict(frozen=True)

    task: Literal["binary", "regression"]
    sums: tuple[tuple[float, ...], ...]
    """For each bin of the score but null, the sums that `mlops_core.drift.poststratification` names."""


class Profile(BaseModel):
    """The reference of one version: its features in order, then what it predicts. JSON both ways."""

    model_config = ConfigDict(frozen=True)

    columns: tuple[ColumnProfile, ...]
    rows: int
    predictions: tuple[str, ...] = (SCORE,)
    """The last columns, which are no features: score, and of two classes also confidence and class."""
    pairs: Pairs | None = None
    """How features moved together; None: nobody knows, or no two of them are numbers."""
    season: Seasons | None = None
    """How the hours of a day or a week differ; None where nobody asked, or the rows were too few to tell."""
    segments: tuple[Segment, ...] = ()
    """Categories that are also watched by themselves, largest first."""
    held_out: HeldOut | None = None
    """None in profiles from before it was kept."""

    @classmethod
    def of(cls, columns: Mapping[str, Column], scores: Floats) -> Self:
        """The profile of training rows, each column of shape (rows,), and what the model says of them.

        In the order of time, so that the profile learns how much a stretch of rows varies by itself.

        Raises:
            InvalidData: no rows, a column of another length, or a value that is no feature.

        >>> columns = {"miles": [1, 2, None, 2], "origin": ["JFK", "LGA", "JFK", None]}
        >>> profile = Profile.of(columns, scores=np.ones(4))
        >>> [(column.name, column.shares) for column in profile.columns[:2]]
        [('miles', (0.0, 0.25, 0.5, 0.0, 0.25)), ('origin', (0.5, 0.25, 0.0, 0.0, 0.25))]
        """
        rows, columns = len(scores), plain_columns(columns)
        if not rows:
            raise InvalidData("a profile needs at least one row; got none")
        for name, column in columns.items():
            _same_length(name, column, rows)
        kinds = FeatureSpec.infer(columns).features
        features = [ColumnProfile.of(kind.name, kind.kind, columns[kind.name]) for kind in kinds]
        alone = cls(columns=(*features, ColumnProfile.of(SCORE, Kind.NUMERIC, scores)), rows=rows)
        return alone.model_copy(update={"pairs": alone._correlations_of(columns)})

    def predicting(self, scores: Floats, *, classes: bool) -> Self:
        """The same features with other predictions, at least one; of two `classes`, if that is the task.

        >>> profile = Profile.of({"miles": [1, 2]}, scores=np.ones(2))
        >>> profile.predicting(np.array([0.1, 0.2, 0.9, 0.3]), classes=True).columns[-1].shares
        (0.75, 0.25, 0.0, 0.0, 0.0)
        """
        own = [ColumnProfile.of(SCORE, Kind.NUMERIC, scores)]
        if classes:
            own.append(ColumnProfile.of(CONFIDENCE, Kind.NUMERIC, _confidence(scores)))
            own.append(ColumnProfile.of(CLASS, Kind.CATEGORICAL, [_CLASSES[code] for code in _codes(scores)]))
        names = tuple(column.name for column in own)
        return self.model_copy(update={"columns": (*self.features, *own), "predictions": names})

    def with_importance(self, importance: Mapping[str, float]) -> Self:
        """The same, with the features' importance to the model."""
        columns = [
            column.model_copy(update={"importance": importance.get(column.name)}) for column in self.features
        ]
        return self.model_copy(update={"columns": (*columns, *self.columns[len(columns) :])})

    @property
    def features(self) -> tuple[ColumnProfile, ...]:
        """The columns that aren't the predictions' own."""
        return self.columns[: len(self.columns) - len(self.predictions)]

    @property
    def score(self) -> ColumnProfile:
        """The score's own column, the first after the features."""
        return self.columns[len(self.columns) - len(self.predictions)]

    @property
    def watched_series(self) -> int:
        """How many things can raise a false alarm: columns, also those of each segment, and pairs of them."""
        pairs = len(self.pairs.pairs) if self.pairs is not None else 0
        return len(self.columns) * (1 + len(self.segments)) + pairs

    def of_segment(self, name: str) -> Self | None:
        """The reference of a segment by itself, with the bins of the whole; None if it isn't watched."""
        found = next((one for one in self.segments if one.name == name), None)
        if found is None:
            return None
        columns = []
        for column, own in zip(self.columns, found.columns, strict=True):
            rows = sum(own.counts)
            shares = tuple(count / rows for count in own.counts) if rows else column.shares
            update = {"shares": shares, "rows": rows or column.rows, "stretches": own.stretches}
            columns.append(column.model_copy(update=update))
        return type(self)(columns=tuple(columns), rows=found.rows, predictions=self.predictions)

    def _correlations_of(self, columns: Mapping[str, Column]) -> Pairs | None:
        numeric = [column.shares if column.kind is Kind.NUMERIC else () for column in self.features]
        bins = self.bins(columns, None, self.rows)
        return Pairs.of(bins, numeric, stretch_starts(self.rows).tolist(), STRETCH)

    @property
    def names(self) -> tuple[str, ...]:
        """What each column is called in events, no two the same.

        A feature called `score` gives way to the predictions, and to a feature called `feature score`.
        """
        features = [column.name for column in self.features]
        taken = {*features, *self.predictions}
        return (
            *(_given_way(name, taken) if name in self.predictions else name for name in features),
            *self.predictions,
        )

    def bins(self, columns: Mapping[str, Column], scores: Floats | None, rows: int) -> NDArray[np.uint8]:
        """The bin of every value, shape (rows, columns); a column that is absent is all null.

        Raises:
            InvalidData: a column of another length.
        """
        matrix = np.empty((len(self.columns), rows), dtype=np.uint8)
        given = [(column, columns.get(column.name)) for column in self.features]
        for place, (column, values) in enumerate([*given, (self.columns[len(given)], scores)]):
            if values is None:
                matrix[place] = column.null
            else:
                _same_length(column.name, values, rows)
                matrix[place] = column.bins(values)
        for place in range(len(given) + 1, len(self.columns)):
            matrix[place] = _bins_of_score(self.columns[place], scores)
        return matrix.T


def _given_way(name: str, taken: Set[str]) -> str:
    """What a feature is called whose name the predictions have.

    >>> _given_way("score", {"score", "miles"}), _given_way("score", {"score", "feature score"})
    ('feature score', 'feature feature score')
    """
    while name in taken:
        name = f"feature {name}"
    return name


_CLASSES = ("0", "1", None)


def _confidence(scores: Floats) -> Floats:
    confidence: Floats = np.maximum(scores, 1.0 - scores)
    return confidence


def _codes(scores: Floats) -> NDArray[np.uint8]:
    """Places in `_CLASSES`."""
    codes: NDArray[np.uint8] = (scores >= 0.5).astype(np.uint8)
    codes[~(np.abs(scores) <= HUGE)] = 2
    return codes


def _bins_of_score(column: ColumnProfile, scores: Floats | None) -> NDArray[np.uint8] | int:
    """The bins of what follows from the scores."""
    if scores is None:
        return column.null
    if column.kind is Kind.NUMERIC:
        return column.bins(_confidence(scores))
    return column.bins(_CLASSES)[_codes(scores)]


def _is_float64(column: Column) -> TypeGuard[Floats]:
    return isinstance(column, np.ndarray) and column.dtype == np.float64


def _same_length(name: str, column: Column, rows: int) -> None:
    if len(column) != rows:
        raise InvalidData(f"column {name!r} has {len(column)} rows, expected {rows}")


def stretch_starts(rows: int, most: int = STRETCHES) -> NDArray[np.int64]:
    """The first row of each stretch, `most` of them."""
    return np.linspace(0, rows - STRETCH, min(rows // STRETCH, most)).astype(np.int64)


def stretches(bins: NDArray[np.uint8], size: int, most: int = STRETCHES) -> tuple[tuple[int, ...], ...]:
    """Counts of `size` bins in each quarter of each stretch, evenly spread over the rows."""
    quarters = (bins[start : start + STRETCH].reshape(4, -1) for start in stretch_starts(len(bins), most))
    return tuple(tuple(np.bincount(q, minlength=size).tolist()) for four in quarters for q in four)


def _edges(values: Floats) -> tuple[float, ...]:
    """Inner edges: quantiles, or halfway between the values where these are few."""
    values = values[~np.isnan(values)]
    distinct = np.unique(values)
    if not len(distinct):
        return ()
    if len(distinct) <= BINS - 2:
        return _between(distinct)
    cuts = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf")
    atoms, times = np.unique(cuts, return_counts=True)
    # A value that holds several quantiles gets a bin of its own, instead of sharing one with its neighbours.
    above = np.nextafter(atoms[times > 1], np.inf)
    return tuple(np.unique(np.concatenate([atoms, above])).tolist())


def _between(distinct: Floats) -> tuple[float, ...]:
    """Edges around each value, so that one below, between or above them shows, even if there was just one."""
    gaps = np.diff(distinct) if len(distinct) > 1 else 2 * _APART * np.maximum(1.0, np.abs(distinct))
    outer = distinct[0] - gaps[0] / 2, distinct[-1] + gaps[-1] / 2
    inner = distinct[:-1] + np.diff(distinct) / 2
    return tuple(np.unique([outer[0], *inner, outer[1]]).tolist())


def _fleeting(values: Sequence[str]) -> bool:
    """Whether values are timestamps, or mostly never come again; of few values nobody can tell.

    >>> _fleeting(["2026-03-01", "2026-03-01T06:00:00Z"] * 20), _fleeting(["JFK", "LGA"] * 20)
    (True, False)
    """
    if len(values) < TOP:
        return False
    once = sum(times == 1 for times in Counter(values).values())
    return once > FLEETING * len(values) or all(map(_TIME.fullmatch, values))


def _rank_categories(values: Iterable[str], rows: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Categories with a bin of their own, and the others; by frequency, then by name."""
    counts = Counter(values)
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    top = [value for value in ranked[:TOP] if counts[value] >= COMMON * rows]
    return tuple(top), tuple(ranked[len(top) : len(top) + OTHERS])

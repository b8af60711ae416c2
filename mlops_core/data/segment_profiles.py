"""A profile learns how each country, device, ... looks, from its own training rows."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Column, Floats, Kind
from driftloop.mlops_core.data.profile import ColumnProfile, Profile, stretches
from driftloop.mlops_core.data.segments import Segment, SegmentColumn

LEAST = 1000
"""Rows of the reference that make a segment, at least: a share in it has a standard error of 0.016."""
MOST = 24
"""Segments of a model, at most, the largest; each has a detector as the whole does. The others are watched as
part of the whole only. A column has no more than 12, as many as have a bin of their own."""
_STRETCHES = 8
"""Stretches of a segment, at most: with 24 segments a profile has five times its size."""


def with_segments(
    profile: Profile, names: Sequence[str], columns: Mapping[str, Column], scores: Floats
) -> Profile:
    """`profile` with the segments of the columns `names`; those that aren't text of categories have none.

    Args:
        profile: of these columns and scores.
        names: columns of the profile; others say nothing.
        columns: each of shape (rows,), in order of time.
        scores: of the newest rows, or of all, shape (scored,).

    >>> columns = {"country": ["FR"] * 3000 + ["DE"] * 1200 + ["IT"] * 800, "x": np.arange(5000)}
    >>> profile = with_segments(Profile.of(columns, np.ones(5000)), ["country"], columns, np.ones(5000))
    >>> [(segment.name, segment.rows) for segment in profile.segments]
    [('country=FR', 3000), ('country=DE', 1200)]
    """
    if not names:
        return profile
    bins = profile.bins(columns, None, profile.rows)
    own = profile.bins({}, scores, len(scores))
    features = len(profile.features)
    candidates = sorted(_candidates(profile, names, bins), key=lambda one: (-one.rows, one.name))[:MOST]
    return profile.model_copy(
        update={
            "segments": tuple(
                segment.model_copy(update={"columns": tuple(_within(segment, profile, bins, own, features))})
                for segment in candidates
            )
        }
    )


def segment_summary(profile: Profile, names: Sequence[str]) -> str:
    """What became of each column that segments were asked of, for a tag of the version.

    >>> profile = Profile.of({"country": ["FR"] * 900 + ["DE"] * 100, "x": np.arange(1000)}, np.ones(1000))
    >>> segment_summary(profile, ["country", "contry", "x"])
    'country: none has 1,000 rows; contry: no column of the model; x: numbers, no categories'
    """
    return "; ".join(f"{name}: {_became(profile, name)}" for name in names)


def _became(profile: Profile, name: str) -> str:
    column = next((one for one in profile.features if one.name == name), None)
    if column is None:
        return "no column of the model"
    if column.kind is Kind.NUMERIC:
        return "numbers, no categories"
    values = [segment.value for segment in profile.segments if segment.column == name]
    return ", ".join(values) or f"none has {LEAST:,} rows"


def _candidates(profile: Profile, names: Sequence[str], bins: NDArray[np.uint8]) -> Iterator[Segment]:
    for place, column in enumerate(profile.features):
        if column.name in names and column.kind is Kind.CATEGORICAL:
            rows = np.bincount(bins[:, place], minlength=column.null + 1).tolist()
            for code, value in enumerate(column.categories):
                if rows[code] >= LEAST:
                    yield Segment(
                        column=column.name, value=value, place=place, bin=code, rows=rows[code], columns=()
                    )


def _within(
    segment: Segment, profile: Profile, bins: NDArray[np.uint8], own: NDArray[np.uint8], features: int
) -> Iterator[SegmentColumn]:
    chosen = bins[:, segment.place] == segment.bin
    scored = chosen[len(chosen) - len(own) :]
    for place, column in enumerate(profile.columns):
        yield _segment_column(column, bins[chosen, place] if place < features else own[scored, place])


def _segment_column(column: ColumnProfile, bins: NDArray[np.uint8]) -> SegmentColumn:
    counts = np.bincount(bins, minlength=column.null + 1).tolist()
    return SegmentColumn(counts=tuple(counts), stretches=stretches(bins, column.null + 1, _STRETCHES))

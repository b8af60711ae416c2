"""A profile learns how the hours of the day or of the week differ, from the times of its training rows."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Column, Floats
from driftloop.mlops_core.data.profile import STRETCH, ColumnProfile, Profile, stretch_starts
from driftloop.mlops_core.data.seasons import HOUR_MS, ColumnSeason, Seasons, hours_of

PHASES_MAX = 168
"""Hours of a week; a longer period has longer phases."""
LEAST = 200
"""Rows of a phase, on average, at least: its means have a standard error of 0.07, under a third of the least
severity of an episode."""
PERIODS = 2
"""Periods that the rows must span: of one alone, nobody knows what comes again."""
_DAY = 24
_LONG = 12
"""Hours from which on phases are whole hours; a shorter or a broken period is cut as if it were a day."""


def phases_of(hours: float, rows: int) -> int:
    """Into how many phases a period is cut: as many as have rows enough.

    >>> phases_of(24, 20_000), phases_of(168, 20_000), phases_of(168, 100_000), phases_of(24, 1000)
    (24, 84, 168, 4)
    """
    whole = int(hours) if hours >= _LONG and hours == int(hours) else _DAY
    cuts = range(min(whole, PHASES_MAX), 0, -1)
    return next((cut for cut in cuts if whole % cut == 0 and rows >= cut * LEAST), 1)


def unlearnable(at: NDArray[np.int64], season: str | float) -> str | None:
    """Why rows that came `at`, in order, can't tell how the season goes; None where they can.

    >>> unlearnable(np.arange(30) * HOUR_MS, "day")
    'the rows span 29 hours, 48 are needed'
    """
    needed, spanned = PERIODS * hours_of(season), float(at[-1] - at[0]) / HOUR_MS
    if spanned < needed:
        return f"the rows span {spanned:.0f} hours, {needed:.0f} are needed"
    if phases_of(hours_of(season), len(at)) == 1:
        return f"there are {len(at):,} rows, {2 * LEAST:,} are needed"
    return None


def with_season(
    profile: Profile,
    season: str | float,
    columns: Mapping[str, Column],
    at: NDArray[np.int64],
    scores: Floats,
    scored_at: NDArray[np.int64],
) -> Profile:
    """`profile` with what its own rows, in order of time, tell of the season; as it was if they can't.

    Scores whose rows alone can't tell count as the same at all hours.

    Args:
        profile: of these columns and scores.
        season: `day`, `week` or a period in hours.
        columns: each of shape (rows,).
        at: when the rows came (UTC, ms), shape (rows,).
        scores: shape (scored,), perhaps of the newest rows only.
        scored_at: when these came, shape (scored,).

    >>> hour = np.arange(24 * 400) % 24.0
    >>> at = np.arange(24 * 400) * HOUR_MS
    >>> profile = with_season(Profile.of({"x": hour}, hour), "day", {"x": hour}, at, hour, at)
    >>> [row.index(400) for row in profile.season.columns[0].counts[:3]]
    [1, 2, 3]
    """
    if unlearnable(at, season):
        return profile
    bare = Seasons(hours=hours_of(season), phases=phases_of(hours_of(season), len(at)), columns=())
    own = profile.bins({}, scores, len(scores))[:, len(profile.features) :].T
    seen = [
        _column_season(bare, column, column.bins(columns[column.name]), at) for column in profile.features
    ]
    predictions = profile.columns[len(profile.features) :]
    seen += [
        _column_season(bare, column, bins, scored_at) for column, bins in zip(predictions, own, strict=True)
    ]
    return profile.model_copy(update={"season": bare.model_copy(update={"columns": tuple(seen)})})


def _column_season(
    season: Seasons, column: ColumnProfile, bins: NDArray[np.uint8], at: NDArray[np.int64]
) -> ColumnSeason:
    size, quarter = column.null + 1, STRETCH // 4
    known = slice(0 if unlearnable(at, season.hours) else None)
    places = (season.phases_at(at) * size + bins)[known]
    counts = np.bincount(places, minlength=season.phases * size).reshape(season.phases, size).tolist()
    firsts = (stretch_starts(len(at))[:, None] + quarter * np.arange(4)).ravel()
    spans = zip(at[firsts].tolist(), at[firsts + quarter - 1].tolist(), strict=True)
    return ColumnSeason(counts=tuple(map(tuple, counts)), stretches=tuple(spans))

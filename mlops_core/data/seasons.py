"""Hour by hour of a day, a week or another period: what is needed to compare Monday with Mondays."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

HOUR_MS = 3_600_000
_NAMED = {"day": 24.0, "week": 168.0}


def hours_of(season: str | float) -> float:
    """The period in hours of `day`, `week` or a number of hours.

    >>> hours_of("day"), hours_of("week"), hours_of(12)
    (24.0, 168.0, 12.0)
    """
    return _NAMED[season] if isinstance(season, str) else float(season)


class ColumnSeason(BaseModel):
    """One column of a profile, phase by phase."""

    model_config = ConfigDict(frozen=True)

    counts: tuple[tuple[int, ...], ...]
    """Rows in each bin, a tuple a phase."""
    stretches: tuple[tuple[int, int], ...] = ()
    """First and last `at` (UTC, ms) of each of the column's stretches."""


class Seasons(BaseModel):
    """Every column of a profile, phase by phase. Phases are equally long; the first begins 1970-01-01 UTC.

    >>> day = Seasons(hours=24, phases=24, columns=())
    >>> day.phases_at(np.array([0, HOUR_MS, 25 * HOUR_MS + 5])).tolist()
    [0, 1, 1]
    """

    model_config = ConfigDict(frozen=True)

    hours: float
    """The period."""
    phases: int
    columns: tuple[ColumnSeason, ...]

    @property
    def period_ms(self) -> int:
        """The period in milliseconds."""
        return round(self.hours * HOUR_MS)

    def phases_at(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """The phase of each time (UTC, ms)."""
        phases: NDArray[np.int64] = at % self.period_ms * self.phases // self.period_ms
        return phases

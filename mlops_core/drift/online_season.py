"""What is usual at a time of the day or of the week, learned while it goes on.

Each phase of the season has a running mean over about the last eight periods, and a value counts as it would
without its phase's deviation from the whole: a night that is always worse is no change. A phase is believed
as far as phases differ by more than chance: James and Stein's shrinkage, in the empirical Bayes form of Efron
and Morris ("Data analysis using Stein's estimator", JASA 70:350, 1975). A stream without a season stays as it
is, however few values a phase has.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.seasons import Seasons, hours_of

BLOCK = 32
"""Values between two looks at the means."""
PERIODS = 2
"""Periods before anything is said: of one alone, nobody knows what comes again."""
_KEPT = 8
"""Periods that a mean remembers: a change of the level now moves it by an eighth at most."""
_DAY, _WEEK = 24, 168
_TINY = 1e-300


class SeasonalBaseline:
    """Running means of `signals` series by phases of the season, which are hours of a day or week.

    Feed it blocks of 32 values.

    >>> night = np.arange(10_000) // 1000 % 2
    >>> at = np.arange(10_000) * 3600
    >>> phases = SeasonalBaseline(2.0, signals=1)
    >>> blocks = [phases.subtract(night[None, n : n + 32] * 1.0, at[n : n + 32]) for n in range(0, 9984, 32)]
    >>> sum(block is None for block in blocks), float(np.concatenate(blocks[-40:], axis=1).std().round(1))
    (125, 0.0)
    """

    def __init__(self, season: str | float, signals: int) -> None:
        """`season` is `day`, `week` or a period in hours."""
        phases = min(max(int(hours_of(season)), _DAY), _WEEK)
        self._season = Seasons(hours=hours_of(season), phases=phases, columns=())
        self._rows = np.zeros(phases)
        self._sums = np.zeros((signals, phases))
        self._squares = np.zeros(signals)
        """Sums of squares of all phases together."""
        self._began: int | None = None
        self._at = 0
        """Period of the newest block."""

    def subtract(self, values: Floats, at: NDArray[np.int64]) -> Floats | None:
        """The block's `values`, shape (signals, 32), without what their phases, by `at`, usually do.

        None as long as two periods haven't been seen. Then the block is learned from.
        """
        now = int(np.median(at))  # a few wrong dates move no clock
        if self._began is None:
            self._began = now
        places = self._season.phases_at(at)
        seen = now - self._began >= PERIODS * self._season.period_ms
        level = values - self.deviations()[:, places] if seen else None
        self._learn(values, places, now // self._season.period_ms)
        return level

    def deviations(self) -> Floats:
        """How far each phase lies from the whole, as far as it is believed, shape (signals, phases)."""
        total = max(float(self._rows.sum()), _TINY)
        whole = self._sums.sum(axis=1, keepdims=True) / total
        rows = np.maximum(self._rows, _TINY)
        off = np.where(self._rows > 0, self._sums / rows - whole, 0.0)
        between = np.square(off) @ self._rows / total
        within = np.maximum(self._squares / total - np.square(whole[:, 0]) - between, 0.0)
        chance = within[:, None] / rows
        # Weighted by their rows, the phases' means vary by chance by one row's variance in each phase.
        known = np.maximum(between - within * np.count_nonzero(self._rows) / total, 0.0)[:, None]
        believed: Floats = off * known / np.maximum(known + chance, _TINY)
        return believed

    def state(self) -> Mapping[str, NDArray[Any]]:
        """What changes over time."""
        began = -1 if self._began is None else self._began
        clock = np.array([began, self._at, self._season.period_ms], dtype=np.int64)
        return {"rows": self._rows, "sums": self._sums, "squares": self._squares, "clock": clock}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue where `state` was taken; with another season, begin anew."""
        began, at, *period = arrays["clock"].tolist()
        if period == [self._season.period_ms] and arrays["sums"].shape == self._sums.shape:
            self._rows, self._sums, self._squares = arrays["rows"], arrays["sums"], arrays["squares"]
            self._began, self._at = None if began < 0 else began, at

    def _learn(self, values: Floats, places: NDArray[np.int64], period: int) -> None:
        if period != self._at:
            keep = 1 - 1 / _KEPT
            self._rows, self._sums, self._squares = self._rows * keep, self._sums * keep, self._squares * keep
            self._at = period
        self._rows = self._rows + np.bincount(places, minlength=len(self._rows))
        self._sums = self._sums + np.stack([np.bincount(places, own, len(self._rows)) for own in values])
        self._squares = self._squares + np.square(values).sum(axis=1)

"""Estimated performance of one version before labels arrive, from its scores, and whether to trust it.

A table holds errors of labelled rows by bin of the score (see `poststratification`); predictions without
labels are expected to have the errors of their bins. That is right while P(label | score) stays the same, so
the table's expectation is compared with each window of labels that arrives. Two windows in a row that
contradict it make the estimate untrusted and halve the table's weights; two in a row that agree make it
trusted again.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats, Kind
from driftloop.mlops_core.data.profile import SCORE, ColumnProfile, HeldOut
from driftloop.mlops_core.drift import poststratification, serialization
from driftloop.mlops_core.drift.concept import usual_size
from driftloop.mlops_core.drift.microbatches import ROWS, Times
from driftloop.mlops_core.drift.poststratification import Sum
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.performance.metrics import is_classification, usable
from driftloop.mlops_core.ports import Task
from driftloop.schemas.events import PostStratified, Range
from driftloop.schemas.settings import PerformanceSettings

MEMORY = 10_000
"""Weight of the table in labels: a standard error of 0.003 at an error rate of 0.1."""
ENOUGH = 500
"""Labels before the first estimate: a standard error of 0.013 at an error rate of 0.1."""
PATIENCE = 2
"""Windows of labels in a row that change whether the estimate is trusted."""
SURE = 3.0
"""Standard errors between expected and realised that contradict: 0.3 % by chance, needed twice in a row."""
COVERED = 0.9
"""Least share of the predictions in bins that ever had labels, for an estimate to be trusted."""
_MIX = 16
"""Windows over which the distribution of scores is averaged (exponentially)."""
_95 = 1.96


@dataclass(frozen=True)
class Estimated:
    """Estimated performance on a window of predictions."""

    rows: int
    seen: int
    """Predictions of the version so far."""
    since: int
    until: int
    """Times of the predictions (UTC, ms)."""
    task: Task
    labelled: int
    """Effective number of labels in the table."""
    error: Range | None
    """Share of wrong classes, or the mean of |label - score|; None with too few labels."""
    loss: Range | None
    """Mean squared error of the score."""
    calibration_error: float | None
    trusted: bool
    sentence: str


class PerformanceEstimator:
    """Learns from labelled rows in the order of their arrival, and estimates rows without labels.

    >>> rng = np.random.default_rng(7)
    >>> score = ColumnProfile.of(SCORE, Kind.NUMERIC, rng.random(10_000))
    >>> estimator = PerformanceEstimator(score, PerformanceSettings())
    >>> scores = rng.random(20_000)
    >>> estimator.learn(labels=(rng.random(20_000) < scores).astype(float), scores=scores)
    >>> sure = np.where(rng.random(1024) < 0.5, 0.05, 0.95)  # more extreme than all scores so far
    >>> counts = np.apply_along_axis(np.bincount, 1, score.bins(sure).reshape(32, 32), minlength=33)
    >>> [estimated] = estimator.on_predictions(counts, np.zeros((32, 2), np.int64))
    >>> estimated.trusted, 0.03 < estimated.error.value < 0.07  # while the mean error was 0.25
    (True, True)
    """

    def __init__(
        self, score: ColumnProfile, settings: PerformanceSettings, held_out: HeldOut | None = None
    ) -> None:
        """Start with the table of the training's `held_out` rows, if there is one."""
        self._score = score
        self._settings = settings
        self._task: Task | None = None
        self._table = poststratification.empty(score.null)
        self._run = 0
        """Number of windows in a row that contradicted the table; negative: that agreed."""
        self._trusted = True
        self._waiting = np.empty((0, 2))
        """Labels and scores of the incomplete window."""
        self._mix = np.zeros(score.null)
        """Decayed predictions by bin, of the last windows."""
        self._counts = np.zeros(score.null)
        """Predictions by bin of the incomplete window."""
        self._seen = 0
        """Rows predicted so far."""
        self._since = self._until = 0
        if held_out is not None and len(held_out.sums) == score.null:
            self._task = Task(held_out.task)
            self._table = poststratification.limit_weight(np.array(held_out.sums, dtype=np.float64), MEMORY)

    @property
    def is_trusted(self) -> bool:
        """Whether there are enough labels and they agree with the estimate."""
        return self._trusted and self._enough

    @property
    def predictions(self) -> int:
        """Number of predictions so far."""
        return self._seen

    def learn(self, labels: Floats, scores: Floats) -> None:
        """Update the table with labelled rows, shape (rows,) each; rows that are not finite are ignored.

        The result does not depend on how rows are cut into calls.

        Raises:
            InvalidData: arrays of different lengths.
        """
        if labels.shape != scores.shape:
            raise InvalidData(f"labels {labels.shape} and scores {scores.shape} differ in length")
        self._waiting = np.concatenate([self._waiting, _rows(labels, scores)])
        size = self._settings.window_labels
        while len(self._waiting) >= size:
            window, self._waiting = self._waiting[:size], self._waiting[size:].copy()
            self._on_label_window(self._sum_rows(window[:, 0], window[:, 1]))

    def on_predictions(self, counts: NDArray[Any], at: Times) -> list[Estimated]:
        """Add predictions as micro-batches of the score's column: `counts` (k, bins), `at` (k, 2).

        Returns:
            An estimate for each window that they complete, however they are cut into calls.

        Raises:
            InvalidData: another number of bins.
        """
        if counts.ndim != 2 or counts.shape[1] <= self._score.null or at.shape != (len(counts), 2):
            expected = f"counts (k, > {self._score.null}) and at (k, 2)"
            raise InvalidData(f"expected {expected}, got {counts.shape} and {at.shape}")
        found: list[Estimated] = []
        start = 0
        while start < len(counts):
            end = start + (self._window - self._seen % self._window) // ROWS
            self._see(counts[start:end, : self._score.null], at[start:end])
            start = end
            if self._seen % self._window == 0:
                found.append(self._estimate())
                self._mix = self._mix * (1 - 1 / _MIX) + self._counts
                self._counts = np.zeros_like(self._counts)
        return found

    def poststratify(self, labels: Floats, scores: Floats) -> PostStratified | None:
        """Performance on all recent predictions of the version, from labelled rows of shape (rows,).

        None without such rows, without predictions, or with too few labels in the table.
        """
        rows = _rows(labels, scores)
        mix = self._mix + self._counts
        if not (len(rows) and mix.any() and self._enough):
            return None
        sample = self._sum_rows(rows[:, 0], rows[:, 1])
        error = poststratification.poststratify(sample, self._table, mix, Sum.ERROR)
        return PostStratified(
            error_rate=error if self._task is Task.BINARY else None,
            absolute_error=error if self._task is Task.REGRESSION else None,
            loss=poststratification.poststratify(sample, self._table, mix, Sum.LOSS),
            covered=float(mix @ (sample[:, Sum.ROWS] > 0) / mix.sum()),
        )

    def dump(self) -> bytes:
        """The state as bytes, bins included, so that `load` needs no registry."""
        meta = {
            "edges": self._score.edges,
            "task": self._task,
            "run": self._run,
            "trusted": self._trusted,
            "seen": self._seen,
            "span": [self._since, self._until],
        }
        return serialization.dump_state(meta, {name: getattr(self, name) for name in _ARRAYS})

    @classmethod
    def load(cls, data: bytes, settings: PerformanceSettings) -> Self:
        """The estimator from the bytes of `dump`.

        Raises:
            InvalidData: the bytes are not such a state.
        """
        meta, arrays = serialization.load_state(data)
        loaded = cls(ColumnProfile(name=SCORE, kind=Kind.NUMERIC, edges=tuple(meta["edges"])), settings)
        loaded._task = None if meta["task"] is None else Task(meta["task"])
        loaded._run, loaded._trusted, loaded._seen = meta["run"], meta["trusted"], meta["seen"]
        loaded._since, loaded._until = meta["span"]
        for name in _ARRAYS:
            setattr(loaded, name, arrays[name])
        return loaded

    @property
    def _window(self) -> int:
        return max(self._settings.estimate_rows // ROWS, 1) * ROWS

    @property
    def _label_count(self) -> int:
        return int(self._table[:, Sum.ROWS].sum())

    @property
    def _enough(self) -> bool:
        return self._label_count >= ENOUGH

    def _see(self, counts: NDArray[Any], at: Times) -> None:
        """Add micro-batches of the present window."""
        first, last = int(at[:, 0].min()), int(at[:, 1].max())
        fresh = self._seen % self._window == 0
        self._since = first if fresh else min(self._since, first)
        self._until = last if fresh else max(self._until, last)
        self._counts = self._counts + counts.sum(axis=0, dtype=np.float64)
        self._seen += len(counts) * ROWS

    def _sum_rows(self, labels: Floats, scores: Floats) -> Floats:
        if self._task is None:
            self._task = Task.BINARY if is_classification(labels, scores) else Task.REGRESSION
        errors, residuals = poststratification.residuals(labels, scores, self._task)
        if self._task is Task.BINARY:
            residuals = np.clip(residuals, -1.0, 1.0)
        else:
            errors, residuals = poststratification.winsorise(errors, residuals, self._usual(errors))
        return poststratification.sum_by_bin(self._score.bins(scores), errors, residuals, self._score.null)

    def _usual(self, errors: Floats) -> float:
        """The usual size of a regression's error: from the table, or with few labels the 68 % quantile."""
        if self._enough:
            return float(np.sqrt(self._table[:, Sum.LOSS].sum() / self._table[:, Sum.ROWS].sum()))
        return usual_size(errors)

    def _on_label_window(self, arrived: Floats) -> None:
        """Compare a full window of labels with the table, then add it."""
        contradicted = self._enough and self._contradicts(arrived)
        if self._enough:
            self._run = max(self._run, 0) + 1 if contradicted else min(self._run, 0) - 1
        if contradicted and self._run % PATIENCE == 0:
            # A bad day halves the old weights once; concept drift halves them until little is left.
            self._trusted, self._table = False, poststratification.halve_weight(self._table)
        elif self._run <= -PATIENCE:
            self._trusted = True
        self._table = poststratification.decay_update(self._table, arrived, MEMORY)

    def _contradicts(self, arrived: Floats) -> bool:
        return any(
            abs(poststratification.surprise(self._table, arrived, what)) > SURE
            for what in (Sum.ERROR, Sum.LOSS)
        )

    def _estimate(self) -> Estimated:
        known = self._enough and bool(self._counts.any())
        error, loss = (self._range(Sum.ERROR), self._range(Sum.LOSS)) if known else (None, None)
        covered = self._coverage()
        return Estimated(
            rows=int(self._counts.sum()),
            seen=self._seen,
            since=self._since,
            until=self._until,
            task=self._task or Task.BINARY,
            labelled=self._label_count,
            error=error,
            loss=loss,
            calibration_error=poststratification.calibration_error(self._table, self._counts)
            if known
            else None,
            trusted=self.is_trusted and covered >= COVERED,
            sentence=self._sentence(error, covered),
        )

    def _range(self, what: Sum) -> Range:
        """The expected mean of the window's rows with its 95 % interval."""
        mean = poststratification.expected_mean(self._table, self._counts, what)
        half_width = _95 * mean.deviation(max(int(self._counts.sum()), 1))
        largest = 1.0 if self._task is Task.BINARY else np.inf
        low, high = max(mean.value - half_width, 0.0), min(mean.value + half_width, largest)
        return Range(value=mean.value, low=low, high=high)

    def _coverage(self) -> float:
        """Share of the window's predictions in bins that had labels."""
        return float(self._counts @ (self._table[:, Sum.ROWS] >= 1)) / max(float(self._counts.sum()), 1.0)

    def _sentence(self, error: Range | None, covered: float) -> str:
        if not self._counts.any():
            return "none of these predictions has a score"
        if error is None:
            return f"no estimate yet: {self._label_count} of {ENOUGH} labels"
        figure = _error_in_words(error, self._task or Task.BINARY)
        if not self._trusted:
            return f"not trusted: labels contradicted the estimate of {figure}"
        if covered < COVERED:
            unlabelled = f"no labels arrived for scores like {100 * (1 - covered):.0f} % of these"
            return f"not trusted: {figure}, but {unlabelled}"
        return f"{figure}, estimated from {self._label_count:,} labels"


def _rows(labels: Floats, scores: Floats) -> Floats:
    """Labels and scores of the rows in which both are finite, shape (rows, 2)."""
    known = usable(labels, scores)
    return np.stack([labels[known], scores[known]], axis=1)


def _error_in_words(error: Range, task: Task) -> str:
    """An estimate in words.

    >>> _error_in_words(Range(value=0.123, low=0.108, high=0.138), Task.BINARY)
    'about 12.3 % wrong answers (10.8 to 13.8 %)'
    """
    if task is Task.REGRESSION:
        return f"a mean error of about {error.value:.3g} ({error.low:.3g} to {error.high:.3g})"
    value, low, high = (f"{100 * rate:.1f}" for rate in (error.value, error.low, error.high))
    return f"about {value} % wrong answers ({low} to {high} %)"


_ARRAYS = ("_table", "_waiting", "_mix", "_counts")

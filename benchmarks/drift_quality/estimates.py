"""Performance without labels: how near the estimate is to what labels say, and when they end its trust.

Streams of a score, and of labels that are as likely as it says, or less so where a model is too sure of
itself. Labels come late and for few rows, and refresh the estimate, as in
`driftloop.mlops_core.performance.estimates`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.drift_quality.cases import Random
from benchmarks.drift_quality.measures import Trial
from driftloop.mlops_core.data.features import Floats, Kind
from driftloop.mlops_core.data.profile import SCORE, ColumnProfile
from driftloop.mlops_core.drift.estimation import MEMORY, Estimated, PerformanceEstimator
from driftloop.mlops_core.drift.microbatches import ROWS
from driftloop.schemas.settings import PerformanceSettings

SETTINGS = PerformanceSettings()
WINDOW, LABELS = SETTINGS.estimate_rows, SETTINGS.window_labels
"""Rows of an estimate, and labels that are compared with it at a time."""
WINDOWS = 100
"""Windows of a stable stream: realised is known to 0.0016 over as many, and to 0.016 over one."""
LATE, LABELLED = 2, 0.2
"""Windows that a label comes after its row, and the share of the rows that ever get one."""
FLIPPED = 0.2
"""Share of the labels that turn to the other class."""
BEFORE, AFTER = 40, 20
"""Windows of labels before they turn, and after."""


class Model(NamedTuple):
    """What a model's scores are like."""

    name: str
    ends: float
    """Beta(ends, ends): the smaller, the fewer scores in the middle."""
    slope: float = 1.0
    """1: labels are as likely as the score says; less: the model is too sure of itself."""


GOOD, POOR = Model("10 % wrong", 0.184), Model("30 % wrong", 1.68)
MODELS = (GOOD, POOR, Model("too sure, 16 % wrong", 0.184, 0.85))


@dataclass(frozen=True)
class Stable:
    """One stream on which scores mean what they meant."""

    model: str
    estimated: float
    realised: float
    """Share of wrong classes, over all its rows."""
    trusted: float
    """Share of its windows."""

    @property
    def difference(self) -> float:
        """How far apart the two are."""
        return abs(self.estimated - self.realised)


@dataclass(frozen=True)
class Estimates:
    """All that is measured of them."""

    stable: Sequence[Stable]
    contradicted: Sequence[Trial]
    """Of a model that is 10 % wrong; an event is a window of labels, an alarm one that ends without trust."""
    contradicted_poor: Sequence[Trial]
    """Of one that is 30 % wrong."""


def measured(seed: int, streams: int) -> Estimates:
    """So many streams of each kind."""
    random = np.random.default_rng((seed, 0))
    return Estimates(
        [stable(random, model) for _ in range(streams) for model in MODELS],
        [contradicted(random, GOOD) for _ in range(streams)],
        [contradicted(random, POOR) for _ in range(streams)],
    )


def stable(random: Random, model: Model) -> Stable:
    """Estimates over `WINDOWS` windows, refreshed by labels of some of their rows."""
    estimator, score = _begun(random, model)
    labels, scores = _drawn(random, model, WINDOWS * WINDOW)
    found: list[Estimated] = []
    for first in range(0, len(scores), WINDOW):
        found += estimator.on_predictions(*_counted(score, scores[first : first + WINDOW], first))
        ago = slice(max(first - LATE * WINDOW, 0), max(first - (LATE - 1) * WINDOW, 0))
        come = random.random(len(scores[ago])) < LABELLED
        estimator.learn(labels[ago][come], scores[ago][come])
    rates = [estimate.error.value for estimate in found if estimate.error is not None]
    trusted = float(np.mean([estimate.trusted for estimate in found]))
    return Stable(model.name, float(np.mean(rates)), _wrong(labels, scores), trusted)


def contradicted(random: Random, model: Model) -> Trial:
    """Windows of labels, of which some turn from one window on."""
    estimator, _ = _begun(random, model)
    return Trial(list(_untrusted(random, model, estimator)), BEFORE + AFTER, BEFORE)


def _untrusted(random: Random, model: Model, estimator: PerformanceEstimator) -> Iterator[int]:
    for window in range(1, BEFORE + AFTER + 1):
        labels, scores = _drawn(random, model, LABELS)
        turned = (random.random(LABELS) < FLIPPED) & (window > BEFORE)
        estimator.learn(np.where(turned, 1 - labels, labels), scores)
        if not estimator.is_trusted:
            yield window


def _begun(random: Random, model: Model) -> tuple[PerformanceEstimator, ColumnProfile]:
    """An estimator that has seen as many labels as it remembers."""
    labels, scores = _drawn(random, model, MEMORY)
    score = ColumnProfile.of(SCORE, Kind.NUMERIC, scores)
    estimator = PerformanceEstimator(score, SETTINGS)
    estimator.learn(labels, scores)
    return estimator, score


def _drawn(random: Random, model: Model, rows: int) -> tuple[Floats, Floats]:
    """Labels and scores."""
    scores = random.beta(model.ends, model.ends, rows)
    likely = 0.5 + model.slope * (scores - 0.5)
    return (random.random(rows) < likely).astype(np.float64), scores


def _counted(
    score: ColumnProfile, scores: Floats, first: int
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    """Their micro-batches, as stage one counts them, and the times of these."""
    bins = score.bins(scores).reshape(-1, ROWS)
    counts = np.stack([np.bincount(own, minlength=score.null + 1) for own in bins])
    at = first + np.arange(len(scores)).reshape(-1, ROWS)
    return counts, at[:, [0, -1]]


def _wrong(labels: Floats, scores: Floats) -> float:
    return float(((scores >= 0.5) != (labels == 1)).mean())

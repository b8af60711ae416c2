"""Losses of several versions on the same labelled rows, and agreement of a canary with recomputed scores."""

from collections.abc import Callable, Mapping

import numpy as np

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Column, Floats
from driftloop.mlops_core.ports import Task
from driftloop.schemas.events import Agreement, Span
from driftloop.schemas.summaries import CanaryScores, PairedLosses

Score = Callable[[Mapping[str, Column], int], Floats]
"""Columns and how many rows -> scores of shape (rows,)."""
ROUNDING = 1e-4
"""Difference of two scores, relative to max(1, |score|), that is rounding: models compute in float32."""
FEATURELESS = "its labelled rows come without features"


def paired_losses(
    model: str,
    span: Span,
    examples: Examples,
    scorers: Mapping[str, tuple[Task, Score]],
    unscored: Mapping[str, str],
) -> PairedLosses:
    """Sums of losses and of their products over the rows; versions whose scores are not finite are left out.

    The loss is the squared error of the score for a binary model, |label - score| for a regression.
    """
    rows = examples[np.isfinite(examples.labels)]
    reasons = dict(unscored)
    if not rows.features:
        reasons |= dict.fromkeys(scorers, FEATURELESS)
        rows = rows[:0]
    regression = any(task is Task.REGRESSION for task, _ in scorers.values())
    found: dict[str, Floats] = {}
    for version, (_, score) in scorers.items() if len(rows) else ():
        scores = score(rows.features, len(rows))
        if np.isfinite(scores).all():
            residuals = np.abs(rows.labels - scores)
            found[version] = residuals if regression else residuals**2
        else:
            reasons[version] = "it gave a score that is not a finite number"
    losses = np.array(list(found.values())).reshape(len(found), len(rows))
    times = rows.labelled_at if len(rows) else examples.labelled_at
    return PairedLosses(
        model=model,
        span=span,
        loss="absolute error" if regression else "squared error",
        versions=list(found),
        rows=len(rows) if found else 0,
        sums=losses.sum(axis=1).tolist(),
        products=(losses @ losses.T).ravel().tolist(),
        since=int(times.min()) if len(times) else 0,
        until=int(times.max()) if len(times) else 0,
        unscored=reasons,
    )


def score_agreement(span: Span, canary: CanaryScores, score: Score) -> PairedLosses:
    """How far the scores of a canary's replica are from `score` of the same features; no losses."""
    recomputed = score(canary.features, len(canary.at))
    differences = np.abs(np.asarray(canary.scores, dtype=np.float64) - recomputed)
    beyond = differences > ROUNDING * np.maximum(1.0, np.abs(recomputed))
    agreement = Agreement(
        rows=len(canary.at), disagreeing=int(beyond.sum()), largest=float(differences.max(initial=0))
    )
    return PairedLosses(
        model=canary.model,
        span=span,
        loss="squared error",
        versions=(),
        rows=0,
        sums=(),
        products=(),
        since=min(canary.at),
        until=max(canary.at),
        agreement={canary.version: agreement},
    )

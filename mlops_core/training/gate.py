"""The gate: a challenger that is surely worse than the champion on the newest labelled rows is refused.

What passes gets no traffic yet: labels that come later have to prove it.

Both score the same rows, so their losses are compared row by row: what makes a row hard is hard for both
and cancels out, which a comparison of two averages would leave in.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).
"""

from dataclasses import dataclass

import numpy as np

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.errors import InvalidData
from driftloop.schemas.events import GateEvidence
from driftloop.schemas.settings import GATE_ROWS, TrainingSettings

RESAMPLES = 2000
"""Fifty of them lie beyond each end of a 95 % interval."""
_AT_ONCE = 50_000
"""Draws at a time: so few stay in the processor's cache, which is twice as quick as a million."""


@dataclass(frozen=True)
class Incumbent:
    """The champion's answer to the same rows."""

    version: str
    scores: Floats


def compare(
    labels: Floats,
    challenger: Floats,
    champion: Incumbent | None,
    settings: TrainingSettings,
    seed: int = 0,
) -> GateEvidence:
    """Whether the challenger may pass; all arrays of shape (rows,), the loss is the squared error.

    It passes unless the upper end of the interval of champion loss - challenger loss is below -margin.

    Raises:
        InvalidData: nothing can be compared: fewer than 100 rows, or a score that is not finite.
    """
    _refuse(labels, challenger, champion)
    rows, loss = len(labels), (labels - challenger) ** 2
    mean = float(loss.mean())
    if champion is None:
        sentence = f"there is no champion to beat: loss {mean:.4f} on {rows:,} rows"
        return GateEvidence(passed=True, sentence=sentence, rows=rows, challenger_loss=mean)
    gain = (labels - champion.scores) ** 2 - loss
    low, high = interval(gain, settings.confidence, seed)
    return GateEvidence(
        passed=high >= -settings.margin,
        sentence=_sentence(float(gain.mean()), low, high, champion.version, rows, settings),
        rows=rows,
        champion=champion.version,
        champion_loss=mean + float(gain.mean()),
        challenger_loss=mean,
        low=low,
        high=high,
        margin=settings.margin,
        squares=float(np.square(gain).sum()),
    )


def incomparable(labels: Floats, scores: Floats, champion: str, new: int) -> GateEvidence:
    """The challenger passes, since the champion has learned from too many of the rows to be compared on them.

    `new` is the number of rows that it hasn't learned from.

    Raises:
        InvalidData: fewer than 100 rows, or a score that is not finite.
    """
    _refuse(labels, scores, None)
    loss = float(((labels - scores) ** 2).mean())
    return GateEvidence(
        passed=True,
        sentence=f"labels have to tell: champion {champion} has learned from all but {new} of the newest "
        f"{len(labels):,} rows; the challenger's loss on them is {loss:.4f}",
        rows=len(labels),
        champion=champion,
        challenger_loss=loss,
    )


def interval(values: Floats, confidence: float, seed: int = 0) -> tuple[float, float]:
    """Both ends of the bootstrap interval of the mean of `values`, shape (rows,)."""
    random, rows = np.random.default_rng(seed), len(values)
    means = np.empty(RESAMPLES)
    step = max(1, _AT_ONCE // rows)
    for start in range(0, RESAMPLES, step):
        part = means[start : start + step]
        places = random.integers(0, rows, size=(len(part), rows))
        part[:] = values.take(places).mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _refuse(labels: Floats, challenger: Floats, champion: Incumbent | None) -> None:
    if len(labels) < GATE_ROWS:
        raise InvalidData(f"the gate compares on at least {GATE_ROWS} rows; there are {len(labels)}")
    asked = [("challenger", challenger)]
    if champion is not None:
        asked.append((f"champion {champion.version}", champion.scores))
    for who, scores in asked:
        broken = int((~np.isfinite(scores)).sum())
        if broken:
            raise InvalidData(f"the {who} gave no finite score for {broken} of {len(labels)} rows")


def _sentence(
    gain: float, low: float, high: float, champion: str, rows: int, settings: TrainingSettings
) -> str:
    side = "lower" if gain >= 0 else "higher"
    measured = (
        f"loss {abs(gain):.4f} {side} than champion {champion}'s on {rows:,} rows "
        f"({settings.confidence:.0%} interval of the gain {low:+.4f} to {high:+.4f})"
    )
    if low > 0:
        return f"surely better: {measured}"
    if high < -settings.margin:
        return f"surely worse by more than {settings.margin:g}: {measured}"
    if high < 0:
        return f"worse, by {settings.margin:g} at most: {measured}"
    return f"labels have to tell: {measured}"

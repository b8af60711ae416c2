"""Is the canary worse than stable? Judged after every window of labels, with one error rate for the rollout.

The difference of mean losses is taken within each step, where both versions saw the same span of time,
and averaged over steps with inverse-variance weights. Pooling the rows of all steps instead would be
Simpson's paradox: the canary has most of its rows in the last, perhaps harder hours. The lower bound is a
one-sided asymptotic confidence sequence, so that a look after every window costs nothing.

Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic
confidence sequences", Annals of Statistics 52 (2024).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from driftloop.schemas.events import Outcome, Part, VerdictEvidence
from driftloop.schemas.settings import RolloutSettings

VerdictOutcome = Literal["pass", "fail", "hold", "error"]
FLOOR = 30
"""Rows of each version before a canary can be called worse: with fewer, no variance can be trusted."""
SMALLEST_SPREAD = 1e-6
"""The least variance, as a share of the mean squared loss: rounding must not look like proof."""


class StepLabels(Part):
    """Labelled outcomes of both versions at one step: rows, and sums of the loss and of its square."""

    share: int
    """The canary's percent of traffic."""
    canary: Outcome = Outcome()
    stable: Outcome = Outcome()

    def plus(self, canary: Outcome, stable: Outcome) -> "StepLabels":
        """The sums with another window's outcomes."""
        return StepLabels(
            share=self.share,
            canary=_add(self.canary, canary),
            stable=_add(self.stable, stable),
        )

    @property
    def finite(self) -> bool:
        """Whether all its sums are finite numbers."""
        sums = (self.canary.loss, self.canary.loss_squared, self.stable.loss, self.stable.loss_squared)
        return all(map(math.isfinite, sums))

    @property
    def has_both(self) -> bool:
        """Whether both versions have rows to compare."""
        return self.canary.rows > 0 and self.stable.rows > 0


@dataclass(frozen=True)
class Difference:
    """Canary loss - stable loss per prediction, over all steps."""

    canary: float
    stable: float
    radius: float
    """Half the width of the always-valid interval; either end alone holds with confidence 1 - alpha."""
    canary_rows: int
    stable_rows: int

    @property
    def estimate(self) -> float:
        """The estimated difference of the mean losses."""
        return self.canary - self.stable

    @property
    def surely_worse(self) -> bool:
        """The lower end is above 0, on enough rows to trust the variance."""
        return min(self.canary_rows, self.stable_rows) >= FLOOR and self.estimate > self.radius


def judge(
    steps: Sequence[StepLabels], canary: str, stable: str, settings: RolloutSettings
) -> VerdictEvidence:
    """The verdict on `canary` at the last of `steps`, of which there is at least one.

    `fail`: surely worse. `hold`: fewer than `min_labels` rows at this step, or the estimate is above the
    tolerance and not yet sure. `pass`: enough rows, and the estimate is within the tolerance. `error`:
    enough rows, and no step has rows of both versions; or a sum of losses is not finite.
    """
    names = (version_name(canary), version_name(stable))
    if not all(step.finite for step in steps):
        return _no_difference(
            steps, "error", f"{names[0]} cannot be measured: a sum of its losses is not a finite number"
        )
    short = shortage(steps[-1], *names, settings.min_labels)
    found = difference(steps, settings)
    if found is None:
        missing = f"{names[0]} cannot be compared with {names[1]}: no step has labels of both"
        return _no_difference(steps, "hold" if short else "error", short or missing)
    if found.surely_worse:
        return _verdict_of(found, "fail", _comparison_sentence(found, names))
    if short:
        return _verdict_of(found, "hold", short)
    if found.estimate > settings.tolerance:
        doubt = f"above the {settings.tolerance:g} allowed, and not yet sure"
        return _verdict_of(found, "hold", f"{_comparison_sentence(found, names)}: {doubt}")
    return _verdict_of(found, "pass", _comparison_sentence(found, names))


def shortage(step: StepLabels, canary: str, stable: str, min_labels: int) -> str:
    """Which version has too few labels at this step, as a sentence; empty where both have enough."""
    wanted = [(canary, step.canary), *([(stable, step.stable)] if step.share < 100 else [])]
    for name, outcome in wanted:
        if outcome.rows < min_labels:
            return f"{name} has {outcome.rows:,} of {min_labels:,} labels with the canary at {step.share} %"
    return ""


def difference(steps: Sequence[StepLabels], settings: RolloutSettings) -> Difference | None:
    """Difference of the mean losses within steps, averaged over them; None where no step has rows of both."""
    paired = [step for step in steps if step.has_both]
    if not paired:
        return None
    spread_stable = _spread([step.stable for step in paired])
    # The variance of few canary rows may be underestimated; it is taken as no less than stable's.
    spread = max(_spread([step.canary for step in paired]), spread_stable)
    weights = [1 / (1 / step.canary.rows + spread_stable / spread / step.stable.rows) for step in paired]
    rows = sum(weights)
    return Difference(
        canary=_mean([step.canary for step in paired], weights),
        stable=_mean([step.stable for step in paired], weights),
        radius=math.sqrt(spread) * radius(rows, settings.alpha, settings.min_labels),
        canary_rows=sum(step.canary.rows for step in paired),
        stable_rows=sum(step.stable.rows for step in paired),
    )


def radius(rows: float, alpha: float, sharpest: int) -> float:
    """Half-width of the one-sided sequence for the mean of `rows` values of variance 1.

    Equation for one-sided boundaries in the paper's appendix; its free parameter is chosen so that the
    bound is tightest near `sharpest` rows.

    >>> round(radius(300, alpha=0.01, sharpest=300), 3)
    0.194
    >>> round(radius(3000, alpha=0.01, sharpest=300), 3)
    0.065
    """
    luck = -2 * math.log(min(2 * alpha, 1.0))
    rho = (luck + math.log(luck + 1)) / sharpest if luck else 1 / sharpest
    grown = rows * rho + 1
    return math.sqrt(2 * grown / (rows * rows * rho) * math.log1p(math.sqrt(grown) / (2 * alpha)))


def version_name(version: str) -> str:
    """The name of a version in sentences.

    >>> version_name("8"), version_name("blue")
    ('v8', 'blue')
    """
    return f"v{version}" if version[:1].isdigit() else version


def _add(sums: Outcome, window: Outcome) -> Outcome:
    return Outcome(
        rows=sums.rows + window.rows,
        loss=sums.loss + window.loss,
        loss_squared=sums.loss_squared + window.loss_squared,
    )


def _mean(outcomes: Sequence[Outcome], weights: Sequence[float]) -> float:
    means = (outcome.loss / outcome.rows for outcome in outcomes)
    return sum(weight * mean for weight, mean in zip(weights, means, strict=True)) / sum(weights)


def _spread(outcomes: Sequence[Outcome]) -> float:
    """Variance of the loss within steps, pooled over them; never quite 0."""
    squares = sum(outcome.loss_squared for outcome in outcomes)
    within = squares - sum(outcome.loss**2 / outcome.rows for outcome in outcomes)
    rows = sum(outcome.rows for outcome in outcomes)
    least = max(SMALLEST_SPREAD * squares / rows, 1e-300)
    return max(within / max(rows - len(outcomes), 1), least)


def _comparison_sentence(found: Difference, names: tuple[str, str]) -> str:
    low, high = found.estimate - found.radius, found.estimate + found.radius
    word = "higher" if found.estimate > 0 else "lower"
    bound = f"at least {low:.3f} higher" if low > 0 else f"at most {high:.3f} higher"
    return (
        f"{names[0]}'s loss per prediction is {abs(found.estimate):.3f} {word} than {names[1]}'s "
        f"({bound}, on {found.canary_rows:,} and {found.stable_rows:,} labels)"
    )


def _verdict_of(found: Difference, outcome: VerdictOutcome, sentence: str) -> VerdictEvidence:
    return VerdictEvidence(
        outcome=outcome,
        sentence=sentence,
        canary_rows=found.canary_rows,
        stable_rows=found.stable_rows,
        canary_loss=found.canary,
        stable_loss=found.stable,
        low=found.estimate - found.radius,
        high=found.estimate + found.radius,
    )


def _no_difference(steps: Sequence[StepLabels], outcome: VerdictOutcome, sentence: str) -> VerdictEvidence:
    return VerdictEvidence(
        outcome=outcome,
        sentence=sentence,
        canary_rows=sum(step.canary.rows for step in steps),
        stable_rows=sum(step.stable.rows for step in steps),
    )

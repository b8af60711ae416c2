import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from driftloop.mlops_core.rollout.label_verdict import StepLabels, difference, judge
from driftloop.schemas.events import Outcome, VerdictEvidence
from driftloop.schemas.settings import RolloutSettings

SETTINGS = RolloutSettings(steps=(1, 5, 10, 25, 50, 100))
Losses = Callable[[np.random.Generator, int], NDArray[np.float64]]


def outcome(rows: int, loss: float) -> Outcome:
    """`rows` losses of 0 or 1 with mean `loss`."""
    return Outcome(rows=rows, loss=rows * loss, loss_squared=rows * loss)


def verdict(*steps: tuple[int, Outcome, Outcome]) -> VerdictEvidence:
    evidence = [StepLabels(share=share, canary=canary, stable=stable) for share, canary, stable in steps]
    return judge(evidence, "8", "7", SETTINGS)


def test_enough_labels_and_a_small_difference_pass() -> None:
    told = verdict((10, outcome(300, 0.11), outcome(2700, 0.10)))
    assert told.outcome == "pass"
    assert told.sentence.startswith("v8's loss per prediction is 0.010 higher than v7's (at most ")
    assert told.sentence.endswith(" higher, on 300 and 2,700 labels)")


def test_one_label_short_holds_and_says_so() -> None:
    told = verdict((10, outcome(299, 0.0), outcome(2700, 0.10)))
    assert (told.outcome, told.sentence) == ("hold", "v8 has 299 of 300 labels with the canary at 10 %")


def test_a_stable_version_that_still_gets_traffic_needs_labels_too() -> None:
    told = verdict((90, outcome(2700, 0.1), outcome(299, 0.1)))
    assert (told.outcome, told.sentence) == ("hold", "v7 has 299 of 300 labels with the canary at 90 %")


def test_the_last_step_needs_no_labels_of_a_stable_version_without_traffic() -> None:
    before = (50, outcome(300, 0.1), outcome(300, 0.1))
    assert verdict(before, (100, outcome(300, 0.1), Outcome())).outcome == "pass"


def test_a_canary_that_looks_worse_than_tolerated_is_held_until_it_is_sure() -> None:
    told = verdict((10, outcome(300, 0.12), outcome(2700, 0.10)))
    assert told.outcome == "hold"
    assert told.sentence.endswith("above the 0.01 allowed, and not yet sure")


def test_surely_worse_fails_before_there_are_enough_labels_to_pass() -> None:
    told = verdict((10, outcome(100, 0.6), outcome(900, 0.1)))
    assert told.outcome == "fail"
    assert told.low is not None
    assert told.low > 0
    assert f"at least {told.low:.3f} higher, on 100 and 900 labels" in told.sentence


def test_a_handful_of_rows_proves_nothing() -> None:
    assert verdict((10, outcome(29, 1.0), outcome(900, 0.0))).outcome == "hold"


def test_a_rounding_error_between_constant_losses_is_no_proof() -> None:
    canary = Outcome(rows=500, loss=500 * 0.04 * (1 + 1e-12), loss_squared=500 * 0.0016)
    stable = Outcome(rows=500, loss=500 * 0.04, loss_squared=500 * 0.0016)
    assert verdict((50, canary, stable)).outcome == "pass"


def test_no_labels_at_all_hold() -> None:
    assert verdict((1, Outcome(), Outcome())).outcome == "hold"


def test_a_canary_that_never_met_its_stable_version_cannot_be_measured() -> None:
    assert verdict((100, outcome(5000, 0.1), Outcome())).outcome == "error"


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_losses_that_are_no_numbers_cannot_be_measured(loss: float) -> None:
    assert verdict((10, outcome(300, loss), outcome(300, 0.1))).outcome == "error"


def test_hours_that_grew_harder_with_the_canarys_share_are_not_held_against_it() -> None:
    easy = (1, outcome(300, 0.05), outcome(29_700, 0.05))
    hard = (50, outcome(5000, 0.30), outcome(5000, 0.30))
    pooled = outcome(5300, (15 + 1500) / 5300).loss / 5300 - (1485 + 1500) / 34_700
    assert pooled > 0.19, "rows of all steps in one pot make the same model look far worse"
    assert verdict(easy, hard).outcome == "pass"


def test_the_interval_narrows_as_labels_arrive() -> None:
    widths = [
        found.radius
        for rows in (50, 500, 5000, 50_000)
        if (
            found := difference(
                [StepLabels(share=50, canary=outcome(rows, 0.1), stable=outcome(rows, 0.1))], SETTINGS
            )
        )
    ]
    assert widths == sorted(widths, reverse=True)


def roll_out(rng: np.random.Generator, canary: Losses, stable: Losses, window: int = 1000) -> str:
    """Through the default steps with a look after every window; the outcome that ended it."""
    shares = iter(SETTINGS.steps)
    steps = [StepLabels(share=next(shares))]
    for _ in range(20_000):
        rows = int(rng.binomial(window, steps[-1].share / 100))
        steps[-1] = steps[-1].plus(summed(canary(rng, rows)), summed(stable(rng, window - rows)))
        match judge(steps, "8", "7", SETTINGS).outcome:
            case "pass" if share := next(shares, None):
                steps.append(StepLabels(share=share))
            case "pass" | "fail" | "error" as end:
                return end
    return "hold"


def summed(losses: NDArray[np.float64]) -> Outcome:
    return Outcome(rows=len(losses), loss=float(losses.sum()), loss_squared=float((losses**2).sum()))


def wrong(rate: float) -> Losses:
    """A share of predictions is plainly wrong: loss 1, else 0."""
    return lambda rng, rows: (rng.random(rows) < rate).astype(np.float64)


def brier(base: float) -> Losses:
    """A calibrated model of a class with share `base`: small losses, seldom a large one."""

    def losses(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
        score = rng.beta(2 * base, 2 * (1 - base), rows)
        return np.asarray(((rng.random(rows) < score) - score) ** 2)

    return losses


def heavy(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    """Squared residuals of a regression with heavy tails, whose variance does not exist."""
    return np.asarray(0.01 * rng.standard_t(4, rows) ** 2)


@pytest.mark.parametrize(
    "losses", [wrong(0.15), brier(0.02), heavy], ids=["zero or one", "rare class", "heavy tails"]
)
def test_an_equal_canary_is_called_worse_in_at_most_2_percent_of_rollouts(losses: Losses) -> None:
    rng = np.random.default_rng(8)
    ends = [roll_out(rng, losses, losses) for _ in range(500)]
    assert ends.count("fail") <= 10
    assert ends.count("fail") + ends.count("pass") == 500


@pytest.mark.parametrize("rate", [0.01, 0.15, 0.40])
def test_five_points_more_errors_are_rolled_back_in_at_least_99_percent(rate: float) -> None:
    rng = np.random.default_rng(8)
    ends = [roll_out(rng, wrong(rate + 0.05), wrong(rate)) for _ in range(300)]
    assert ends.count("fail") >= 297

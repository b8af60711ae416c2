"""Performance without labels: right while scores mean what they meant, and knowing when they don't."""

from collections.abc import Sequence

import numpy as np
import pytest

from driftloop.mlops_core.data.features import Kind
from driftloop.mlops_core.data.profile import SCORE, ColumnProfile, HeldOut
from driftloop.mlops_core.drift import poststratification
from driftloop.mlops_core.drift.estimation import ENOUGH, MEMORY, Estimated, PerformanceEstimator
from driftloop.mlops_core.drift.poststratification import Sum
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Task
from driftloop.mlops_core.training import fit
from driftloop.schemas.settings import PerformanceSettings

SETTINGS = PerformanceSettings()
WINDOW = SETTINGS.window_labels
Rows = tuple[np.ndarray, np.ndarray]
"""Labels and scores."""


def classes(rng: np.random.Generator, rows: int, sure: float = 0.2) -> Rows:
    """Labels as likely as their scores say; the smaller `sure`, the fewer scores in the middle."""
    scores = rng.beta(sure, sure, rows)
    return (rng.random(rows) < scores).astype(float), scores


def numbers(rng: np.random.Generator, rows: int, wide: float = 1.0) -> Rows:
    """Numbers whose error grows with what was predicted."""
    scores = rng.normal(0, wide, rows)
    return scores + rng.normal(size=rows) * (0.5 + np.abs(scores)), scores


def turned(rng: np.random.Generator, rows: Rows, share: float) -> Rows:
    labels, scores = rows
    return np.where(rng.random(len(labels)) < share, 1 - labels, labels), scores


def profiled(scores: np.ndarray) -> ColumnProfile:
    return ColumnProfile.of(SCORE, Kind.NUMERIC, scores)


def begun(score: ColumnProfile, rows: Rows, task: Task = Task.BINARY) -> PerformanceEstimator:
    """An estimator that begins with what training kept from fitting."""
    table = poststratification.sum_by_bin(
        score.bins(rows[1]), *poststratification.residuals(*rows, task), score.null
    )
    kept = HeldOut(task=task.value, sums=tuple(map(tuple, table.tolist())))
    return PerformanceEstimator(score, SETTINGS, HeldOut.model_validate_json(kept.model_dump_json()))


def predicted(estimator: PerformanceEstimator, score: ColumnProfile, scores: np.ndarray) -> list[Estimated]:
    bins = score.bins(scores).reshape(-1, 32)
    counts = np.stack([np.bincount(own, minlength=33) for own in bins])
    at = np.arange(len(scores)).reshape(-1, 32)
    return estimator.on_predictions(counts, at[:, [0, -1]])


def mean(estimates: Sequence[Estimated], what: str = "error") -> float:
    values = [getattr(one, what) for one in estimates]
    return float(np.mean([one.value for one in values if one is not None]))


def wrong(rows: Rows) -> float:
    labels, scores = rows
    return float(((scores >= 0.5) != (labels == 1)).mean())


def test_on_stable_data_the_estimate_is_within_a_hundredth_of_what_labels_say(
    rng: np.random.Generator,
) -> None:
    learned, later = classes(rng, 2 * MEMORY, sure=0.15), classes(rng, 102_400, sure=0.15)
    score = profiled(learned[1])
    estimator = PerformanceEstimator(score, SETTINGS)
    estimator.learn(*learned)
    estimates = predicted(estimator, score, later[1])
    assert len(estimates) == 100
    assert abs(mean(estimates) - wrong(later)) < 0.01
    assert abs(mean(estimates, "loss") - np.square(later[0] - later[1]).mean()) < 0.01


def test_when_inputs_change_the_estimate_follows_without_a_label(rng: np.random.Generator) -> None:
    learned, unsure = classes(rng, 2 * MEMORY), classes(rng, 102_400, sure=5.0)
    score = profiled(learned[1])
    estimator = PerformanceEstimator(score, SETTINGS)
    estimator.learn(*learned)
    assert wrong(unsure) > wrong(learned) + 0.2
    assert abs(mean(predicted(estimator, score, unsure[1])) - wrong(unsure)) < 0.06


def test_the_error_of_numbers_is_expected_by_what_was_predicted(rng: np.random.Generator) -> None:
    learned, wider = numbers(rng, 2 * MEMORY), numbers(rng, 102_400, wide=1.5)
    score = profiled(learned[1])
    estimator = PerformanceEstimator(score, SETTINGS)
    estimator.learn(*learned)
    before, now = (np.abs(labels - scores).mean() for labels, scores in (learned, wider))
    found = mean(predicted(estimator, score, wider[1]))
    assert now > before + 0.25
    assert abs(found - now) < 0.14  # a bin has no end outside: what lies far out is taken to be at its edge


def test_most_windows_turn_out_between_the_ends_that_were_told(rng: np.random.Generator) -> None:
    learned, later = classes(rng, 2 * MEMORY), classes(rng, 204_800)
    score = profiled(learned[1])
    estimator = PerformanceEstimator(score, SETTINGS)
    estimator.learn(*learned)
    windows = zip(*(column.reshape(-1, 1024) for column in later), strict=True)
    told = [
        (one.error, wrong(rows))
        for one, rows in zip(predicted(estimator, score, later[1]), windows, strict=True)
    ]
    inside = [error is not None and error.low <= realised <= error.high for error, realised in told]
    assert np.mean(inside) > 0.75  # 0.95, less what all windows share: the table's own error


def test_labels_that_contradict_the_estimate_end_trust_within_two_windows(rng: np.random.Generator) -> None:
    held_out = classes(rng, MEMORY)
    estimator = begun(profiled(held_out[1]), held_out)
    estimator.learn(*turned(rng, classes(rng, WINDOW), 0.3))
    assert estimator.is_trusted, "one window may be chance"
    estimator.learn(*turned(rng, classes(rng, WINDOW), 0.3))
    assert not estimator.is_trusted


def test_a_wild_label_among_those_kept_from_fitting_ruins_no_estimate(rng: np.random.Generator) -> None:
    labels, scores = numbers(rng, MEMORY)
    wild = np.where(np.arange(MEMORY) == 7, 1e12, labels)
    score = profiled(scores)
    clean, dirty = (
        mean(predicted(PerformanceEstimator(score, SETTINGS, kept), score, scores[:1024]))
        for kept in (fit.held_out(one, scores, Task.REGRESSION) for one in (labels, wild))
    )
    assert dirty == pytest.approx(clean, rel=0.05)


def test_numbers_that_are_further_off_end_trust_too(rng: np.random.Generator) -> None:
    held_out, (labels, scores) = numbers(rng, MEMORY), numbers(rng, 2 * WINDOW)
    estimator = begun(profiled(held_out[1]), held_out, Task.REGRESSION)
    estimator.learn(scores + 3 * (labels - scores), scores)
    assert not estimator.is_trusted


def test_it_is_trusted_again_once_it_has_learned_how_things_are_now(rng: np.random.Generator) -> None:
    held_out, later = classes(rng, MEMORY), turned(rng, classes(rng, 102_400), 0.3)
    score = profiled(held_out[1])
    estimator = begun(score, held_out)
    estimator.learn(*turned(rng, classes(rng, 40 * WINDOW), 0.3))
    assert abs(mean(predicted(estimator, score, later[1])) - wrong(later)) < 0.045
    assert any(trust_over(rng, estimator, windows=10, share=0.3))


def trust_over(
    rng: np.random.Generator, estimator: PerformanceEstimator, windows: int, share: float
) -> list[bool]:
    trust = []
    for _ in range(windows):
        estimator.learn(*turned(rng, classes(rng, WINDOW), share))
        trust.append(estimator.is_trusted)
    return trust


def test_stable_data_are_hardly_ever_distrusted(rng: np.random.Generator) -> None:
    held_out = classes(rng, MEMORY)
    trust = trust_over(rng, begun(profiled(held_out[1]), held_out), windows=40, share=0.0)
    assert sum(trust) >= 36  # one lapse; 1 in 10,000 runs has any


def test_what_training_kept_from_fitting_is_where_estimates_begin(rng: np.random.Generator) -> None:
    held_out, later = classes(rng, MEMORY), classes(rng, 102_400)
    score = profiled(held_out[1])
    estimator = begun(score, held_out)
    assert estimator.is_trusted
    assert abs(mean(predicted(estimator, score, later[1])) - wrong(later)) < 0.015


def test_without_enough_labels_it_says_so_and_nothing_else(rng: np.random.Generator) -> None:
    labels, scores = classes(rng, ENOUGH - 1)
    score = profiled(scores)
    estimator = PerformanceEstimator(score, SETTINGS)
    estimator.learn(labels, scores)
    [found] = predicted(estimator, score, classes(rng, 1024)[1])
    assert (found.error, found.loss, found.trusted) == (None, None, False)
    assert found.sentence.startswith("no estimate yet")
    assert estimator.poststratify(labels, scores) is None


def test_a_sample_that_is_not_a_fair_one_is_weighted_to_all_predictions(rng: np.random.Generator) -> None:
    everybody = classes(rng, 102_400, sure=0.5)
    score = profiled(everybody[1])
    estimator = PerformanceEstimator(score, SETTINGS)
    predicted(estimator, score, everybody[1])
    labelled = rng.random(102_400) < np.where(np.abs(everybody[1] - 0.5) > 0.4, 0.5, 0.05)  # mostly sure ones
    sample = everybody[0][labelled], everybody[1][labelled]
    estimator.learn(*sample)
    weighted = estimator.poststratify(*sample)
    assert weighted is not None
    assert weighted.error_rate is not None
    assert wrong(sample) < wrong(everybody) - 0.04
    assert abs(weighted.error_rate - wrong(everybody)) < 0.025
    assert weighted.covered == pytest.approx(1.0)


def test_scores_that_never_got_labels_are_not_vouched_for(rng: np.random.Generator) -> None:
    labels, scores = classes(rng, MEMORY)
    score = profiled(scores)
    estimator = PerformanceEstimator(score, SETTINGS)
    estimator.learn(labels[scores > 0.5], scores[scores > 0.5])
    [found] = predicted(estimator, score, scores[:1024])
    assert not found.trusted
    assert "no labels arrived" in found.sentence


def test_a_bin_keeps_what_it_knows_while_labels_come_for_others(rng: np.random.Generator) -> None:
    table = poststratification.empty(2)
    table[:, :3] = [[100, 100, 10], [100, 100, 50]]
    for _ in range(100):
        arrived = poststratification.empty(2)
        arrived[1, :3] = [100, 100, 0]
        table = poststratification.decay_update(table, arrived, MEMORY)
    assert table[0].tolist() == [100, 100, 10, 0, 0, 0, 0]
    assert table[1, Sum.ROWS] == pytest.approx(MEMORY / 2, rel=0.15)
    assert table[1, Sum.ERROR] < 10


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e308, 1e99])
def test_bad_values_ruin_nothing(rng: np.random.Generator, bad: float) -> None:
    for make in (classes, numbers):
        clean, dirty = (make(np.random.default_rng(3), MEMORY) for _ in range(2))
        score = profiled(clean[1])
        figures = []
        for labels, scores in (clean, dirty):
            estimator = PerformanceEstimator(score, SETTINGS)
            if labels is dirty[0] and (make is numbers or not np.isfinite(bad)):
                labels[rng.integers(5000, MEMORY, 3)] = bad
            if labels is dirty[0] and not abs(bad) <= 1e100:
                scores[rng.integers(5000, MEMORY, 3)] = bad
            estimator.learn(labels, scores)
            assert estimator.is_trusted
            figures.append(mean(predicted(estimator, score, make(np.random.default_rng(4), 1024)[1])))
        assert figures[1] == pytest.approx(figures[0], rel=0.05)


def test_predictions_without_a_score_are_no_estimate(rng: np.random.Generator) -> None:
    labels, scores = classes(rng, MEMORY)
    score = profiled(scores)
    estimator = PerformanceEstimator(score, SETTINGS)
    estimator.learn(labels, scores)
    [found] = predicted(estimator, score, np.full(1024, np.nan))
    assert (found.error, found.trusted, found.rows) == (None, False, 0)


def test_neither_chunks_nor_a_restart_change_anything(rng: np.random.Generator) -> None:
    labels, scores = turned(rng, classes(rng, 20_000), 0.1)
    score = profiled(scores)
    whole = PerformanceEstimator(score, SETTINGS)
    whole.learn(labels, scores)
    pieces = PerformanceEstimator(score, SETTINGS)
    first = 0
    while first < len(labels):
        size = int(rng.integers(1, 700))
        pieces.learn(labels[first : first + size], scores[first : first + size])
        pieces = PerformanceEstimator.load(pieces.dump(), SETTINGS)
        first += size
    assert pieces.dump() == whole.dump()
    later = classes(rng, 5 * 1024)[1]
    in_pieces = []
    for batch in later.reshape(-1, 32):
        in_pieces += predicted(pieces, score, batch)
        pieces = PerformanceEstimator.load(pieces.dump(), SETTINGS)
    assert [one.error for one in in_pieces] == [one.error for one in predicted(whole, score, later)]


def test_a_figure_of_calibration_leaves_out_what_chance_adds(rng: np.random.Generator) -> None:
    labels, scores = classes(rng, 2 * MEMORY, sure=1.0)
    score = profiled(scores)
    honest, off = PerformanceEstimator(score, SETTINGS), PerformanceEstimator(score, SETTINGS)
    honest.learn(labels, scores)
    off.learn((rng.random(2 * MEMORY) < scores**2).astype(float), scores)
    [calibrated], [too_high] = (predicted(one, score, scores[:1024]) for one in (honest, off))
    assert calibrated.calibration_error is not None
    assert too_high.calibration_error is not None
    assert calibrated.calibration_error < 0.05
    assert too_high.calibration_error == pytest.approx(0.18, abs=0.03)  # root mean square of p - p^2


def test_arrays_that_do_not_fit_are_refused() -> None:
    estimator = PerformanceEstimator(profiled(np.linspace(0, 1, 1000)), SETTINGS)
    with pytest.raises(InvalidData, match="differ in length"):
        estimator.learn(np.zeros(3), np.zeros(2))
    with pytest.raises(InvalidData, match="expected counts"):
        estimator.on_predictions(np.zeros((1, 5)), np.zeros((1, 2), dtype=np.int64))

"""The gate: what is surely worse by more than the margin is refused, nothing else is; simulated."""

from collections.abc import Callable

import numpy as np
import pytest

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.training.gate import Incumbent, compare, incomparable
from driftloop.schemas.settings import TrainingSettings

SETTINGS = TrainingSettings()
Random = np.random.Generator


def answers(random: Random, labels: Floats, accuracy: float) -> Floats:
    """Scores that are on the right side of 0.5 in this share of the rows, surer where they are right."""
    right = random.random(len(labels)) < accuracy
    sure = np.where(right, random.uniform(0.5, 0.95, len(labels)), random.uniform(0.5, 0.75, len(labels)))
    return np.where(right == (labels > 0.5), sure, 1 - sure)


def passes(rows: int, pairs: int, challenger: float, champion: float) -> float:
    """Share of simulated pairs in which the challenger passes."""
    passed = 0
    for seed in range(pairs):
        random = np.random.default_rng(seed)
        labels = (random.random(rows) < 0.4).astype(float)
        incumbent = Incumbent("1", answers(random, labels, champion))
        passed += compare(labels, answers(random, labels, challenger), incumbent, SETTINGS, seed).passed
    return passed / pairs


def test_an_equal_model_passes() -> None:
    assert passes(rows=200, pairs=300, challenger=0.8, champion=0.8) >= 0.98


def test_a_model_that_is_worse_by_less_than_the_margin_is_left_to_labels() -> None:
    assert passes(rows=1000, pairs=60, challenger=0.78, champion=0.80) >= 0.98


def test_a_model_15_points_worse_is_refused_in_99_of_100() -> None:
    assert passes(rows=5000, pairs=60, challenger=0.65, champion=0.80) <= 0.01


def test_a_model_four_points_better_passes() -> None:
    assert passes(rows=5000, pairs=20, challenger=0.84, champion=0.80) == 1


def pair(rows: int = 1000) -> tuple[Floats, Floats, Floats]:
    random = np.random.default_rng(1)
    labels = (random.random(rows) < 0.4).astype(float)
    return labels, answers(random, labels, 0.9), answers(random, labels, 0.7)


def test_the_evidence_is_a_sentence_with_its_numbers() -> None:
    labels, better, worse = pair()
    evidence = compare(labels, better, Incumbent("7", worse), SETTINGS)
    assert evidence.sentence.startswith("surely better: loss 0.")
    assert "lower than champion 7's on 1,000 rows (95% interval of the gain +0." in evidence.sentence
    assert evidence.low is not None
    assert evidence.high is not None
    assert evidence.champion_loss is not None
    assert evidence.low < evidence.champion_loss - evidence.challenger_loss < evidence.high


def test_a_refusal_says_how_much_worse() -> None:
    labels, better, worse = pair()
    evidence = compare(labels, worse, Incumbent("7", better), SETTINGS)
    assert not evidence.passed
    assert evidence.sentence.startswith("surely worse by more than 0.02 (training.margin): loss 0.")


def test_a_margin_forgives_as_much_as_it_says() -> None:
    labels, better, worse = pair()
    found = compare(labels, worse, Incumbent("7", better), SETTINGS)
    assert found.high is not None
    for margin, passed in ((-found.high - 0.001, False), (-found.high + 0.001, True)):
        settings = TrainingSettings(margin=margin)
        assert compare(labels, worse, Incumbent("7", better), settings).passed is passed


@pytest.mark.parametrize(
    ("margin", "says"),
    [
        (0.5, "surely worse, but by 0.5 (training.margin) at most: "),
        (0.0, "surely worse by more than 0 (training.margin): "),
    ],
)
def test_a_sentence_never_says_better_of_what_is_surely_worse(margin: float, says: str) -> None:
    labels, better, worse = pair()
    found = compare(labels, worse, Incumbent("7", better), TrainingSettings(margin=margin))
    assert found.sentence.startswith(says)


def test_too_few_rows_that_the_champion_has_not_learned_from_are_no_reason_against_a_challenger() -> None:
    labels, better, _ = pair()
    evidence = incomparable(labels, better, "7", new=40)
    assert evidence.passed
    assert evidence.sentence.startswith(
        "passed without comparison: champion 7 was trained on all but 40 of the newest 1,000 rows"
    )
    assert (evidence.champion_loss, evidence.low, evidence.squares) == (None, None, None)


def test_without_a_champion_the_challenger_passes_and_the_evidence_says_so() -> None:
    labels, better, _ = pair()
    evidence = compare(labels, better, None, SETTINGS)
    assert evidence.passed
    assert evidence.sentence.startswith("passed without comparison: there is no champion; loss 0.")


def test_the_same_rows_lead_to_the_same_evidence() -> None:
    labels, better, worse = pair()
    first = compare(labels, better, Incumbent("7", worse), SETTINGS)
    assert compare(labels, better, Incumbent("7", worse), SETTINGS) == first


Spoil = Callable[[Floats, Floats, Floats], tuple[Floats, Floats, Floats]]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda y, a, b: (y[:99], a[:99], b[:99]), "at least 100 labelled rows; there are 99"),
        (lambda y, a, b: (y, np.where(a > 0.9, np.nan, a), b), "the challenger gave no finite score for"),
        (lambda y, a, b: (y, a, np.full_like(b, np.inf)), "champion 7 gave no finite score for 1000 of 1000"),
    ],
)
def test_what_cannot_be_compared_is_no_evidence(spoil: Spoil, says: str) -> None:
    labels, challenger, champion = spoil(*pair())
    with pytest.raises(InvalidData, match=says):
        compare(labels, challenger, Incumbent("7", champion), SETTINGS)

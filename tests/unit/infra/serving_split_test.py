"""The split: deterministic, sticky, and only ever moving entities the way the weights move."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.infra.serving.split import Split, place

KEYS = [f"entity-{number}" for number in range(2000)]
weight = st.integers(0, 100)
model = st.text(min_size=1, max_size=20)


@given(model, st.text())
def test_a_key_lies_within_the_hundred(model: str, key: str) -> None:
    assert 0 <= place(model, key) < 100


@given(model, weight, weight)
def test_raising_the_canary_only_moves_entities_from_stable_to_canary(model: str, one: int, two: int) -> None:
    lower, higher = sorted((one, two))
    before = Split.of({"7": 100 - lower, "8": lower})
    after = Split.of({"7": 100 - higher, "8": higher})
    moves = {(before.version(model, key), after.version(model, key)) for key in KEYS[:300]}
    assert ("8", "7") not in moves


@given(model, weight, weight)
def test_raising_an_older_canary_only_moves_entities_to_it(model: str, one: int, two: int) -> None:
    lower, higher = sorted((one, two))
    before = Split.of({"8": 100 - lower, "7": lower})
    after = Split.of({"8": 100 - higher, "7": higher})
    moves = {(before.version(model, key), after.version(model, key)) for key in KEYS[:300]}
    assert ("7", "8") not in moves


@given(model, st.lists(st.integers(0, 50), min_size=1, max_size=4))
def test_every_row_is_answered_by_exactly_one_version_with_weight(model: str, others: list[int]) -> None:
    shares = [share * 50 // max(sum(others), 1) for share in others]
    weights = {"first": 100 - sum(shares)} | {str(number): share for number, share in enumerate(shares)}
    groups = Split.of(weights).rows(model, KEYS[:200])
    assert sorted(row for rows in groups.values() for row in rows) == list(range(200))
    assert all(weights[version] > 0 for version in groups)


def test_shares_of_entities_follow_the_weights() -> None:
    split = Split.of({"7": 90, "8": 10})
    counts = Counter(split.version("flights", key) for key in KEYS)
    assert counts["8"] == pytest.approx(200, abs=60)  # four and a half standard deviations


def test_models_do_not_share_their_guinea_pigs() -> None:
    split = Split.of({"7": 90, "8": 10})
    first, second = ({key for key in KEYS if split.version(name, key) == "8"} for name in ("fraud", "churn"))
    assert len(first & second) < len(first) / 3


def test_all_of_the_weight_takes_everybody() -> None:
    split = Split.of({"7": 0, "8": 100})
    assert split.whole
    assert split.stable == "8"
    assert split.rows("flights", KEYS) == {"8": list(range(len(KEYS)))}


@pytest.mark.parametrize("weights", [{}, {"7": 99}, {"7": 110, "8": -10}, {"7": 100, "8": 1}])
def test_weights_that_are_no_shares_are_refused(weights: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sum to 100"):
        Split.of(weights)

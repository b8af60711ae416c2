"""What a profile promises of any column that training data may hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.data.features import Kind
from driftloop.mlops_core.data.profile import BINS_MAX, ColumnProfile, Profile
from driftloop.mlops_core.errors import InvalidData

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**400), 10**400), st.floats(), st.sampled_from(["a", "b", ""])
)


def numeric(values: object) -> ColumnProfile:
    return ColumnProfile.of("x", Kind.NUMERIC, np.asarray(values, dtype=np.float64))


@given(st.lists(ANYTHING, min_size=1, max_size=200))
def test_any_column_can_be_profiled_and_its_own_shares_come_back(column: list[object]) -> None:
    profile = Profile.of({"x": column}, np.zeros(len(column)))  # type: ignore[dict-item]  # any mixture
    bins = profile.bins({"x": column}, np.zeros(len(column)), len(column))  # type: ignore[dict-item]  # the same
    own = profile.columns[0]
    counted = np.bincount(bins[:, 0], minlength=own.null + 1) / len(column)
    assert counted.tolist() == list(own.shares)
    assert len(own.shares) <= BINS_MAX
    assert list(own.edges) == sorted(set(own.edges))


@given(st.lists(ANYTHING, min_size=1, max_size=50))
def test_a_profile_survives_json(column: list[object]) -> None:
    profile = Profile.of({"x": column}, np.linspace(0, 1, len(column)))  # type: ignore[dict-item]  # any mixture
    again = Profile.model_validate_json(profile.model_dump_json())
    assert again == profile


def test_a_continuous_column_has_equally_full_bins(rng: np.random.Generator) -> None:
    shares = numeric(rng.normal(size=32_000)).shares
    assert len(shares) == BINS_MAX
    assert shares[:-1] == pytest.approx([1 / 32] * 32, abs=1e-3)


def test_each_of_few_values_has_a_bin_and_so_has_what_lies_beyond() -> None:
    weekday = numeric([0, 1, 2, 3, 4, 5, 6])
    assert weekday.bins([-1, 0, 3, 6, 7]).tolist() == [0, 1, 4, 7, 8]


def test_a_constant_column_tells_below_equal_and_above() -> None:
    constant = numeric([0.1] * 50)
    assert constant.bins([0.0, 0.1, float(np.float32(0.1)), 0.2, None]).tolist() == [0, 1, 1, 2, 3]


def test_a_value_that_fills_several_bins_has_one_of_its_own(rng: np.random.Generator) -> None:
    column = numeric(np.where(rng.random(10_000) < 0.6, 0.0, rng.exponential(size=10_000)))
    assert column.shares[int(column.bins([0.0])[0])] == pytest.approx(0.6, abs=0.03)


def test_what_is_no_number_counts_as_missing() -> None:
    column = numeric(np.arange(100))
    odd = [None, float("nan"), float("inf"), -float("inf"), 1e308, "many"]
    assert column.bins(odd).tolist() == [column.null] * len(odd)


def test_rare_categories_are_other_and_new_ones_unseen() -> None:
    values = ["UA"] * 700 + ["AA"] * 295 + ["HA"] * 5
    column = ColumnProfile.of("carrier", Kind.CATEGORICAL, values)
    assert column.categories == ("UA", "AA")
    assert column.bins(["UA", "AA", "HA", "??", None]).tolist() == [0, 1, 2, 3, 4]
    assert column.bin_names == ("UA", "AA", "(other)", "(unseen)")


def test_of_timestamps_and_identifiers_only_the_presence_counts() -> None:
    days = [f"2026-03-{day:02}" for day in range(1, 31)]
    names = [f"id-{n}" for n in range(100)]
    for known in (days, names, [f"{day}T06:00:00.5+01:00" for day in days], [f"{day} 06:00" for day in days]):
        column = ColumnProfile.of("when", Kind.CATEGORICAL, [*known, None])
        assert column.fleeting
        assert column.bins(["2031-12-24", "anything", None, float("nan"), 5, True]).tolist() == [
            0,
            0,
            2,
            2,
            1,
            1,
        ]
        assert column.bins(np.array([1.0, np.nan])).tolist() == [1, 2]


def test_an_absent_column_is_all_null() -> None:
    profile = Profile.of({"a": [1, 2], "b": ["x", "y"]}, np.array([0.1, 0.9]))
    bins = profile.bins({}, None, 3)
    assert bins.tolist() == [[column.null for column in profile.columns]] * 3


def test_a_feature_called_score_does_not_hide_the_predictions() -> None:
    profile = Profile.of({"score": [1.0, 2.0]}, np.array([0.1, 0.9]))
    assert profile.names == ("feature score", "score")


@given(
    st.sets(st.from_regex(r"\A(feature ){0,3}(score|class|confidence|miles)\Z"), min_size=1, max_size=9),
    st.booleans(),
)
def test_no_two_columns_have_one_visible_name(features: set[str], classes: bool) -> None:
    columns = {name: [1.0, 2.0] for name in sorted(features)}
    profile = Profile.of(columns, np.array([0.1, 0.9])).predicting(np.array([0.1, 0.9]), classes=classes)
    assert len(set(profile.names)) == len(profile.columns)
    kept = [name for name in columns if name not in profile.predictions]
    assert {*kept} <= {*profile.names}, "only whoever is called like a prediction gives way"


def test_features_called_as_what_is_derived_from_scores_give_way_only_where_it_is() -> None:
    profile = Profile.of({"class": ["a", "b"], "confidence": [1.0, 2.0]}, np.array([0.1, 0.9]))
    assert profile.names == ("class", "confidence", "score")
    told = profile.predicting(np.array([0.1, 0.9]), classes=True)
    assert told.names == ("feature class", "feature confidence", "score", "confidence", "class")
    assert told.predicting(np.array([3.0]), classes=False).names == profile.names


def test_confidence_and_class_follow_from_the_scores() -> None:
    scores = np.array([0.1, 0.4, 0.5, 0.95, np.nan, np.inf])
    profile = Profile.of({"x": np.arange(6.0)}, np.zeros(6)).predicting(scores[:4], classes=True)
    _, confidence, predicted = profile.columns[1:]
    bins = profile.bins({}, scores, 6)
    assert bins[:, 2].tolist() == confidence.bins([0.9, 0.6, 0.5, 0.95, None, None]).tolist()
    assert bins[:, 3].tolist() == predicted.bins(["0", "0", "1", "1", None, None]).tolist()
    assert profile.bins({}, None, 1)[0, 1:].tolist() == [column.null for column in profile.columns[1:]]


def test_a_profile_from_before_confidence_was_watched_is_read_as_it_was_written() -> None:
    old = Profile.of({"class": ["a", "b"]}, np.array([0.1, 0.9]))
    written = old.model_dump_json(exclude={"predictions"})
    assert Profile.model_validate_json(written) == old


def test_a_column_of_another_length_is_named() -> None:
    with pytest.raises(InvalidData, match="column 'a' has 1 rows, expected 2"):
        Profile.of({"a": [1]}, np.zeros(2))


def test_no_rows_make_no_profile() -> None:
    with pytest.raises(InvalidData, match="at least one row"):
        Profile.of({}, np.zeros(0))

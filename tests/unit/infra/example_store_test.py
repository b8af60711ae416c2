"""What every store of labelled examples promises, in memory and in Parquet files."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from driftloop.infra.adapters.memory import MemoryExampleStore
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.mlops_core.data.examples import Examples, backfill
from driftloop.mlops_core.ports import ExampleStore


@pytest.fixture(params=["memory", "parquet"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ExampleStore:
    return MemoryExampleStore() if request.param == "memory" else ParquetStore(tmp_path)


def rows(start: int, count: int, **features: NDArray[np.generic]) -> Examples:
    """Rows `start`, `start` + 1, ...: predicted at 1000 and the number, labelled at 2000 and the number."""
    numbers = np.arange(start, start + count)
    return Examples(
        ids=numbers.astype(str).astype(object),
        at=1000 + numbers,
        labels=(numbers % 2).astype(np.float64),
        labelled_at=2000 + numbers,
        scores=numbers / 1e6,
        versions=np.full(count, "3", dtype=object),
        features=features or {"miles": numbers.astype(np.float64)},
    )


def texts(*values: str | None) -> NDArray[np.object_]:
    return np.array(values, dtype=object)


def test_what_is_written_comes_back(store: ExampleStore) -> None:
    written = rows(0, 3, miles=np.array([1.0, np.nan, 3.5]), origin=texts("JFK", None, "LGA"))
    store.append("churn", "a", written)
    read = store.newest("churn", 10)
    for name in ("ids", "at", "labels", "labelled_at", "scores", "versions"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert list(read.features) == ["miles", "origin"]
    np.testing.assert_array_equal(read.features["miles"], written.features["miles"])
    np.testing.assert_array_equal(read.features["origin"], written.features["origin"])


def test_a_row_that_was_never_predicted_keeps_its_missing_score(store: ExampleStore) -> None:
    store.append("churn", "a", backfill(["1"], [5], [1.0], {}))
    read = store.newest("churn", 10)
    assert np.isnan(read.scores).all()
    assert read.versions.tolist() == [""]


def test_a_segment_that_is_there_stays_as_it_is(store: ExampleStore) -> None:
    store.append("churn", "a", rows(0, 3))
    store.append("churn", "a", rows(100, 5))
    assert store.newest("churn", 10).ids.tolist() == ["0", "1", "2"]


def test_a_model_without_segments_has_no_examples(store: ExampleStore) -> None:
    assert store.count("churn") == 0
    assert len(store.newest("churn", 10)) == 0


def test_the_newest_are_newest_by_label_and_ordered_by_prediction(store: ExampleStore) -> None:
    late = rows(0, 4)
    store.append("churn", "a", Examples(**{**vars(late), "labelled_at": np.array([9, 8, 7, 6])}))
    assert store.newest("churn", 2).ids.tolist() == ["0", "1"]
    assert store.newest("churn", 3, since=8).ids.tolist() == ["0", "1"]


def test_any_number_of_rows_over_any_segments_equals_sorting_them_all(store: ExampleStore) -> None:
    rng = np.random.default_rng(7)
    labelled_at = rng.permutation(400) + np.repeat(np.arange(40), 10) * 20
    every = rows(0, 400)
    for segment in range(40):
        part = slice(segment * 10, segment * 10 + 10)
        whole = Examples(**{**vars(every), "labelled_at": labelled_at})
        store.append("churn", f"{segment % 7}-{segment}", whole[part])
    for wanted in (0, 1, 17, 399, 400, 1000):
        for since in (None, int(np.median(labelled_at))):
            kept = labelled_at[labelled_at >= (since or 0)]
            newest = np.sort(kept)[::-1][:wanted]
            read = store.newest("churn", wanted, since)
            np.testing.assert_array_equal(np.sort(read.labelled_at)[::-1], newest)
            assert (np.diff(read.at) > 0).all()


def test_a_feature_that_a_segment_lacks_is_missing_there(store: ExampleStore) -> None:
    store.append("churn", "a", rows(0, 1, miles=np.array([5.0])))
    store.append("churn", "b", rows(1, 1, origin=texts("JFK")))
    features = store.newest("churn", 10).features
    assert features["origin"].tolist() == [None, "JFK"]
    np.testing.assert_array_equal(features["miles"], [5.0, np.nan])


def test_a_feature_that_is_text_anywhere_is_text_everywhere(store: ExampleStore) -> None:
    store.append("churn", "a", rows(0, 3, gate=np.array([7.0, 7.5, np.nan])))
    store.append("churn", "b", rows(3, 2, gate=texts("B12", None)))
    assert store.newest("churn", 10).features["gate"].tolist() == ["7", "7.5", None, "B12", None]


def test_a_feature_that_was_always_missing_before_it_was_text_stays_missing(store: ExampleStore) -> None:
    store.append("churn", "a", rows(0, 2, gate=texts(None, None)))
    store.append("churn", "b", rows(2, 1, gate=texts("B12")))
    assert store.newest("churn", 10).features["gate"].tolist() == [None, None, "B12"]


def test_features_may_be_called_like_the_columns_of_the_store(store: ExampleStore) -> None:
    names = ("score", "Label", "feature:score")
    store.append("churn", "a", rows(0, 1, **{name: np.array([9.0]) for name in names}))
    read = store.newest("churn", 1)
    assert {name: column.tolist() for name, column in read.features.items()} == {key: [9.0] for key in names}
    assert (read.scores.tolist(), read.labels.tolist()) == ([0.0], [0.0])


def test_a_row_written_twice_in_different_segments_comes_once(store: ExampleStore) -> None:
    store.append("churn", "0-99", rows(0, 100))
    store.append("churn", "0-149", rows(0, 150))
    assert len(store.newest("churn", 1000)) == 150


def test_appending_no_examples_changes_nothing(store: ExampleStore) -> None:
    store.append("churn", "a", rows(0, 0))
    store.append("churn", "a", rows(0, 2))
    assert store.count("churn") == 2


def test_housekeeping_keeps_all_rows(store: ExampleStore) -> None:
    for segment in range(5):
        store.append("churn", f"000-{segment:012d}-{segment:012d}", rows(segment, 1))
    store.tend("churn")
    assert store.newest("churn", 10).ids.tolist() == ["0", "1", "2", "3", "4"]
    assert store.count("churn") == 5


def test_models_are_kept_apart(store: ExampleStore) -> None:
    store.append("churn", "a", rows(0, 2))
    assert store.count("fraud") == 0
    assert len(store.newest("fraud", 10)) == 0

"""The same values in any container are the same column, and one odd value costs that value only."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # it has no types of its own
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.data.any_column import plain_column
from driftloop.mlops_core.data.features import FeatureSpec, Kind, categories, numbers
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift import Batch, OnlineDrift, Opened
from driftloop.mlops_core.errors import InvalidData

Make = Callable[[list[Any]], Any]
NUMBERS: dict[str, Make] = {
    "list": list,
    "tuple": tuple,
    "numpy": lambda values: np.array([np.nan if v is None else v for v in values]),
    "numpy objects": lambda values: np.array(values, dtype=object),
    "numpy scalars": lambda values: [None if v is None else np.float64(v) for v in values],
    "decimals": lambda values: [None if v is None else Decimal(repr(v)) for v in values],
    "pandas": lambda values: pd.Series(values, dtype="float64"),
    "pandas nullable": lambda values: pd.Series(values, dtype="Float64"),
    "pandas objects with NA": lambda values: pd.Series(
        [pd.NA if v is None else v for v in values], dtype=object
    ),
    "Arrow": lambda values: pa.array(values, pa.float64()),
    "Arrow chunks": lambda values: pa.chunked_array([pa.array(values, pa.float64())]),
}
TEXTS: dict[str, Make] = {
    "list": list,
    "numpy objects": lambda values: np.array(values, dtype=object),
    "pandas": lambda values: pd.Series(values, dtype=object),
    "pandas strings": lambda values: pd.Series(values, dtype="string"),
    "pandas categories": lambda values: pd.Series(values, dtype="category"),
    "Arrow": lambda values: pa.array(values, pa.string()),
    "Arrow dictionary": lambda values: pa.array(values, pa.string()).dictionary_encode(),
}


@pytest.mark.parametrize("make", NUMBERS.values(), ids=NUMBERS)
@given(values=st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_numbers_are_the_same_in_every_container(make: Make, values: list[float | None]) -> None:
    found = numbers(plain_column("x", make(values)))
    assert np.array_equal(found, numbers(values), equal_nan=True)


@pytest.mark.parametrize("make", TEXTS.values(), ids=TEXTS)
@given(values=st.lists(st.none() | st.sampled_from(["JFK", "LGA", "é"]), min_size=1, max_size=20))
def test_texts_are_the_same_in_every_container(make: Make, values: list[str | None]) -> None:
    assert categories(plain_column("x", make(values))) == categories(values)


@pytest.mark.parametrize(
    "values",
    [
        np.array(["2026-01-01", "NaT"], dtype="datetime64[us]"),
        [datetime(2026, 1, 1, tzinfo=UTC), None],
        [datetime(2026, 1, 1), None],
        [date(2026, 1, 1), None],
        pd.Series(["2026-01-01", None], dtype="datetime64[ns]"),
        pd.Series([pd.Timestamp("2026-01-01", tz="UTC"), pd.NaT]),
        pa.array([datetime(2026, 1, 1, tzinfo=UTC), None]),
        pa.array([date(2026, 1, 1), None], pa.date32()),
    ],
    ids=lambda values: type(values).__name__,
)
def test_times_are_ms_since_1970(values: Any) -> None:
    assert np.array_equal(numbers(plain_column("x", values)), [1_767_225_600_000, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    "odd", [[1.0], {"a": 1}, b"x", {1}, object(), 1j], ids=lambda odd: type(odd).__name__
)
def test_a_value_that_is_no_feature_is_refused_with_column_and_row(odd: object) -> None:
    with pytest.raises(InvalidData, match=rf"column 'size', row 2: a {type(odd).__name__} .* is possible"):
        Profile.of({"size": [1.0, 2.0, odd, 4.0]}, np.ones(4))  # type: ignore[list-item]  # on purpose


@pytest.mark.parametrize("columns", ["text", b"bytes", 5, {"a": 1}, np.ones((2, 2))])
def test_what_is_no_column_is_refused(columns: Any) -> None:
    with pytest.raises(InvalidData, match="column 'size' "):
        plain_column("size", columns)


@pytest.mark.parametrize("odd", ["n/a", None, pd.NA, float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize("make", [Decimal, np.float32, float], ids=lambda make: make.__name__)
def test_one_odd_value_in_a_hundred_blanks_no_column(
    rng: np.random.Generator, make: Callable[[float], Any], odd: Any
) -> None:
    def column(mean: float, rows: int) -> list[Any]:
        drawn = rng.normal(mean, 1, rows).tolist()
        return [odd if row % 100 == 7 else make(value) for row, value in enumerate(drawn)]

    trained = column(0, 10_000)
    assert FeatureSpec.infer({"x": plain_column("x", trained)}).features[0].kind is Kind.NUMERIC
    drift = OnlineDrift(Profile.of({"x": trained}, rng.random(10_000)))
    rows, minute = 2000, 60_000
    steady = Batch({"x": column(0, rows)}, rng.random(rows), np.arange(rows) * minute)
    moved = Batch({"x": column(1, rows)}, rng.random(rows), (rows + np.arange(rows)) * minute)
    assert not [one for one in drift.update(steady) if isinstance(one, Opened)]
    assert [one.columns for one in drift.update(moved) if isinstance(one, Opened)] == [("x",)]

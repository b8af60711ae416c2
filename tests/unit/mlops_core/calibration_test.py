"""A budget of false alarms in plain words becomes a delta, and what can't be promised is said."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.infra.wiring import plugins
from driftloop.infra.wiring.plugins import detector_factory
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift import OnlineDrift
from driftloop.mlops_core.drift.calibration import MEASURED, calibrate, settings_for_model
from driftloop.mlops_core.drift.cusum_bank import CusumBank
from driftloop.mlops_core.errors import Conflict
from driftloop.schemas.alarm_budget import Budget
from driftloop.schemas.settings import DriftSettings, Settings, SettingsError

THREE_MILLION = [
    "1 in 30 days at 100,000 rows a day",
    "one false alarm in 30 days at 100k rows a day",
    "1 a month at 100 000 rows/day",
    "  ONE   alarm every month, at 0.1M rows per day ",
    "12 a year at 98_630.136986301 rows a day",
    "1 per week at 428571.428571428 rows each day",
    "1 in 3M rows",
    "2 in 6 million rows",
    "once a month at 100,000 rows a day",
    "twice in 60 days at 100,000 rows a day",
    "nine in 27M rows",
]


@pytest.mark.parametrize("text", THREE_MILLION)
def test_many_ways_to_say_the_same(text: str) -> None:
    assert Budget.parse(text).rows_per_alarm == pytest.approx(3_000_000, rel=0.02)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "often",
        "1 in 30 days",
        "none at all",
        "0 in 30 days at 5 rows a day",
        "1 a day at 0 rows a day",
        f"1 in {10**400} rows",
    ],
)
def test_what_tells_no_budget_is_refused_with_what_was_possible(text: str) -> None:
    with pytest.raises(
        ValueError, match="no budget of false alarms; say `1 in 30 days at 100,000 rows a day`"
    ):
        Budget.parse(text)


@given(st.text(max_size=60))
def test_no_text_is_misread(text: str) -> None:
    try:
        assert Budget.parse(text).rows_per_alarm > 0
    except ValueError as error:
        assert "is no budget" in str(error)


def test_settings_refuse_at_the_door_and_know_exceptions_by_model() -> None:
    with pytest.raises(SettingsError, match=r"drift.false_alarms: .*'seldom' is no budget"):
        Settings.load(drift={"false_alarms": {"churn": "seldom"}})
    settings = DriftSettings(false_alarms={"churn": "1 in 5M rows", "*": "1 in 3M rows"})
    assert [settings.budget_of(model) for model in ("churn", "flights")] == [
        Budget.parse("1 in 5M rows"),
        Budget.parse("1 in 3M rows"),
    ]
    assert DriftSettings(false_alarms={"churn": "1 in 5M rows"}).budget_of("flights") is None


def test_the_environment_can_say_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_DRIFT__FALSE_ALARMS", "1 in 3M rows")
    assert Settings.load().drift.budget_of("churn") == Budget.parse("1 in 3M rows")


def test_without_a_budget_delta_stays_as_it_is() -> None:
    settings = DriftSettings(delta=1e-5)
    assert settings_for_model(settings, "churn", 20) == (settings, None)


BUDGET = DriftSettings(false_alarms="1 in 3M rows")


class Unmeasured(CusumBank):
    """Nobody knows what its deltas promise."""


class Measured(CusumBank):
    """Its author counted."""

    false_episodes = ((1e-2, 40.0), (1e-6, 0.01))


def test_a_budget_is_refused_for_a_detector_that_nobody_measured() -> None:
    profile = Profile.of({"x": np.arange(100.0)}, np.linspace(0, 1, 100))
    why = r"the detector Unmeasured nobody measured .*possible: `drift.delta` .* `adwin`, .* `false_episodes`"
    with pytest.raises(Conflict, match=why):
        settings_for_model(BUDGET, "churn", 20, Unmeasured)
    with pytest.raises(Conflict, match=why):
        OnlineDrift(profile, drift=BUDGET, detector=Unmeasured)
    with pytest.raises(Conflict, match="of the detector cusum nobody measured"):
        detector_factory(BUDGET.model_copy(update={"detector": "cusum"}))
    assert settings_for_model(DriftSettings(), "churn", 20, Unmeasured)[1] is None, "a delta it may have"
    assert detector_factory(DriftSettings(detector="cusum")) is CusumBank


def test_a_budget_is_refused_before_anything_is_started() -> None:
    settings = Settings.load(drift={"detector": "cusum", "false_alarms": {"churn": "1 in 3M rows"}})
    with pytest.raises(Conflict, match="drift.false_alarms"):
        plugins.check(settings)


def test_a_detector_may_say_what_its_author_measured() -> None:
    found, calibration = settings_for_model(BUDGET, "churn", 20, Measured)
    assert calibration is not None
    assert calibration.kept
    assert 1e-6 < found.delta < 1e-5, "1 / 60 false episodes of a column in a million rows"


@given(st.floats(1e3, 1e10), st.integers(1, 5000))
def test_a_kept_budget_is_kept_by_the_table(rows: float, columns: int) -> None:
    found = calibrate(Budget(text="so many", rows_per_alarm=rows), columns)
    assert MEASURED[-1][0] * 0.999 <= found.delta <= MEASURED[0][0] * 1.001
    if found.kept:
        assert found.rows_per_alarm >= rows * 0.999
    else:
        assert found.delta == pytest.approx(MEASURED[-1][0])
        assert "can't be promised" in found.sentence


@pytest.mark.parametrize("more", [lambda b, c: (b * 3, c), lambda b, c: (b, c * 3)])
def test_a_stricter_budget_or_more_columns_ask_for_a_smaller_delta(
    more: Callable[[float, int], tuple[float, int]],
) -> None:
    rows, columns = 1e5, 20
    loose = calibrate(Budget(text="", rows_per_alarm=rows), columns)
    rows, columns = more(rows, columns)
    assert calibrate(Budget(text="", rows_per_alarm=rows), columns).delta < loose.delta


@pytest.mark.parametrize(("delta", "rate"), MEASURED)
def test_what_was_measured_is_found_again(delta: float, rate: float) -> None:
    found = calibrate(Budget(text="", rows_per_alarm=1e6 / rate), columns=1)
    assert found.delta == pytest.approx(delta)
    assert found.kept

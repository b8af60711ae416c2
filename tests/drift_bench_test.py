"""The evaluation of drift: figures follow from alarms, rivals are river's own, restarts are real."""

import numpy as np
import pytest

from infra.drift_bench import cases, page, plain, real, restarts, suite
from infra.drift_bench.measures import Figures, Trial


@pytest.fixture
def rng() -> np.random.Generator:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"seed {seed}")  # noqa: T201  # shown when a test fails, to run it again
    return np.random.default_rng(seed)


def test_an_alarm_before_the_change_is_false_and_the_first_after_it_is_the_delay() -> None:
    figures = Figures.of([Trial([10, 90, 130, 150], 200, 100), Trial([], 200, 100), Trial([], 300)])
    assert figures.false_alarm_rate == pytest.approx(2 / 500 * 1e6)
    assert figures.missed_detection_rate == 0.5
    assert figures.detection_delay == (30, np.inf)


def test_an_alarm_at_the_last_event_before_the_change_is_false() -> None:
    assert (Trial([100], 200, 100).false_alarms, Trial([100], 200, 100).delay) == (1, None)
    assert (Trial([101], 200, 100).false_alarms, Trial([101], 200, 100).delay) == (0, 1)


@pytest.mark.parametrize("case", suite.CASES.values(), ids=list(suite.CASES))
def test_a_stream_changes_where_it_says(case: cases.Case, rng: np.random.Generator) -> None:
    stream = case.stream(rng, 3, 700, 300)
    assert stream.shape == (3, 700 if case.after is None else 1000)


def test_humps_keep_mean_and_deviation(rng: np.random.Generator) -> None:
    values = cases.humps(rng, 1, 400_000)
    assert (values.mean(), values.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))


def test_plain_adwin_hears_a_large_shift_and_is_deaf_to_missing_values(rng: np.random.Generator) -> None:
    adwin = plain.detectors()["river ADWIN"]
    shift = cases.Case("", cases.normal(), cases.normal(2.0))
    assert all(trial.delay is not None for trial in plain.trials(adwin, shift, rng))
    gone = cases.Case("", cases.missing(0.01), cases.missing(0.5))
    assert sum(trial.delay is not None for trial in plain.trials(adwin, gone, rng)) < 5


def test_a_killed_run_says_what_an_uninterrupted_one_says(rng: np.random.Generator) -> None:
    said, same = restarts.same_alarms(rng, 12_000)
    assert said >= 2
    assert same


def test_rows_drawn_from_a_table_keep_their_columns_together(rng: np.random.Generator) -> None:
    values = np.arange(50.0)
    drawn = real._drawn({"x": values, "twice": 2 * values}, rng, 200)
    assert np.array_equal(2 * drawn["x"], drawn["twice"])


def test_the_same_seed_is_the_same_run() -> None:
    task = suite.Task(suite.OURS, "mean + 0.5 sd", (7, 1), 6000)
    assert suite.run(task) == suite.run(task)


def test_the_page_says_which_goals_were_missed() -> None:
    late = [Trial([1900], 11_000, 1000)]
    found = {(who, name): late for who in (suite.OURS, *plain.detectors()) for name in suite.CASES}
    special = (suite.SHUFFLED, suite.MANY, suite.SPOILED, suite.STEADY, suite.RISING, suite.RESTARTED)
    found |= {(suite.OURS, name): late for name in (*special, suite.SEASONAL, suite.UNTOLD)}
    text = page.page(found, {}, seed=5, quick=False)
    assert "| mean + 0.5 sd | p50 <= 400, none missed | p50 900, p95 900; 0 of 1 missed | **no** |" in text
    assert "| rounded to tens | p50 <= 1,500, none missed | p50 900, p95 900; 0 of 1 missed | yes |" in text
    assert "--seed 5" in text

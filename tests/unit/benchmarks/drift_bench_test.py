"""The evaluation of drift: figures follow from alarms, rivals are river's own, restarts are real."""

from math import exp, lgamma, log
from pathlib import Path

import numpy as np
import pytest

from benchmarks.drift_quality import budget, cases, estimates, page, plain, real, restarts, suite, windowed
from benchmarks.drift_quality.measures import Figures, Trial
from driftloop.mlops_core.data.profile import Profile


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


def test_an_estimate_is_near_while_scores_mean_what_they_meant(rng: np.random.Generator) -> None:
    # Over 100 windows estimate and labels differ by 0.0016 (a standard deviation).
    found = estimates.stable(rng, estimates.GOOD)
    assert found.difference < 0.01
    assert found.trusted > 0.8  # chance may end it for three of the windows


def test_flipped_labels_end_trust_after_they_flip_and_not_before(rng: np.random.Generator) -> None:
    # A window in 200 is far off by chance, before and after: two in a row are rare, four are none.
    trial = estimates.contradicted(rng, estimates.GOOD)
    assert trial.delay is not None
    assert trial.delay <= 4
    assert trial.false_alarms < 10


def test_all_deltas_hear_one_stream_as_each_would_alone(rng: np.random.Generator) -> None:
    profile = Profile.of(*budget.drawn(rng, 2_000))
    features, scores = budget.drawn(rng, 40_000)
    features = {**features, "normal 1": features["normal 1"] + np.where(np.arange(40_000) < 20_000, 0, 1)}
    together = budget.opened(profile, features, scores, (1e-1, 1e-6))
    assert together[1e-6]["normal 1"] >= 1
    for delta in together:
        assert budget.opened(profile, features, scores, [delta]) == {delta: together[delta]}


def test_a_measurement_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    kept = tmp_path / "tallies"
    first = list(budget.measured(7, streams=1, rows=4_000, kept=kept))
    both = list(budget.measured(7, streams=2, rows=4_000, kept=kept))
    assert (len(first), len(both)) == (1, 2)
    assert both == list(budget.measured(7, streams=2, rows=4_000))
    assert both == list(budget.measured(8, streams=0, kept=kept))


@pytest.mark.parametrize("seen", [0, 1, 3, 30, 300])
def test_a_rate_is_below_its_bound_in_95_of_100_measurements(seen: int) -> None:
    rate = budget.Rate(1e-5, seen, column_rows=1_000_000, streams=10, dispersion=1.0)
    chance = sum(exp(n * log(rate.at_most) - rate.at_most - lgamma(n + 1)) for n in range(seen + 1))
    assert chance == pytest.approx(0.05, abs=0.002)


def test_what_comes_together_is_known_less_well() -> None:
    def tally(stream: int, episodes: int) -> budget.Tally:
        return budget.Tally(1, stream, 1_000_000, 17, {"1e-5": {"x": episodes}} if episodes else {"1e-5": {}})

    [even] = budget.rates([tally(stream, 2) for stream in range(10)])
    [uneven] = budget.rates([tally(stream, 20 if stream == 3 else 0) for stream in range(10)])
    assert (even.episodes, uneven.episodes) == (20, 20)
    assert even.dispersion == 1
    assert uneven.dispersion == pytest.approx(20)
    assert uneven.at_most > 2 * even.at_most


def test_the_table_promises_only_what_was_heard_and_gets_no_worse_with_a_smaller_delta() -> None:
    tallies = [
        budget.Tally(1, 0, 1_000_000, 17, {"1e-1": {"x": 60}, "1e-5": {"x": 1}, "1e-6": {}}),
        budget.Tally(1, 1, 1_000_000, 17, {"1e-5": {}, "1e-6": {"y": 1}}),
    ]
    table = budget.promised(budget.rates(tallies))
    assert [delta for delta, _ in table] == [1e-1, 1e-5]
    assert table[-1][1] >= 3 / 34
    assert "(1e-5, 0.14)," in budget.report(tallies)


def test_each_value_of_a_wandering_column_is_some_of_the_one_before_and_news(
    rng: np.random.Generator,
) -> None:
    values = cases.wandering(0.9)(rng, 2, 200_000)
    news = values[:, 1:] - 0.9 * values[:, :-1]
    assert np.allclose(values.std(axis=1), 1, atol=0.1)
    assert np.allclose(news.std(axis=1), np.sqrt(1 - 0.81), atol=0.02)
    assert np.abs([np.corrcoef(own[1:], own[:-1])[0, 1] for own in news]).max() < 0.02


def test_a_tool_that_cannot_be_installed_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "nothing"))
    beside = windowed.measured(int(rng.integers(2**32)), tmp_path / "envs")
    assert beside.tools == ["driftloop"]
    assert set(beside.missing) == {"Evidently", "alibi-detect", "NannyML"}
    assert all(beside.missing.values())
    assert all(trial.delay is not None for trial in beside.found["driftloop", "mean + 0.5 sd"])


def test_a_column_that_drifted_in_a_window_is_an_alarm_at_its_end(rng: np.random.Generator) -> None:
    whole = windowed.Stream.of(windowed.CASES[1], rng)
    stream = whole.judged
    assert stream.change == 2_000
    assert np.array_equal(stream.rows[:, 2_000:], whole.rows[:, 20_000:])
    found = stream.trials(windowed.ended([[4], [], [], [2, 4], []]))
    assert [(trial.false_alarms, trial.delay) for trial in found[2:5]] == [(0, 2_000), (0, None), (1, 2_000)]


def test_the_page_says_which_goals_were_missed() -> None:
    late = [Trial([1900], 11_000, 1000)]
    found = {(who, name): late for who in (suite.OURS, *plain.detectors()) for name in suite.CASES}
    special = (suite.SHUFFLED, suite.MANY, suite.SPOILED, suite.STEADY, suite.RISING, suite.RESTARTED)
    found |= {(suite.OURS, name): late for name in (*special, suite.SEASONAL, suite.UNADJUSTED)}
    near = [estimates.Stable(model.name, 0.1, 0.1, 1.0) for model in estimates.MODELS]
    near[0] = estimates.Stable(estimates.GOOD.name, 0.1, 0.1101, 0.5)
    told = estimates.Estimates(near, [Trial([43], 60, 40)], [Trial([43], 60, 40)])
    here = {("driftloop", case.name): late for case in windowed.CASES}
    beside = windowed.Beside(here, {"NannyML": "no route to the registry"})
    text = page.page(page.Results(found, told, beside, {}), seed=5, quick=False)
    assert "| mean + 0.5 sd | p50 <= 400, none missed | p50 900, p95 900; 0 of 1 missed | **no** |" in text
    assert "| rounded to tens | p50 <= 1,500, none missed | p50 900, p95 900; 0 of 1 missed | yes |" in text
    far = "0.0101 at most in 1 streams, trusted in 50% of the windows"
    assert f"| estimate without labels: 10 % wrong | <= 0.01 | {far} | **no** |" in text
    slow = "p50 3, p95 3 windows; 0.0% of the windows before"
    assert f"10 % wrong | untrusted within 2 windows | {slow} | **no** |" in text
    assert "| missing 1 -> 5 % | 900 (0.00) |" in text
    assert "NannyML isn't there: no route to the registry" in text
    assert "--seed 5" in text

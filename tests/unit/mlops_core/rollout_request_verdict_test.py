"""A canary that fails requests, is slow, or serves other scores than its model gives is called worse."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.rollout.request_statistics import StepRequests, log_evidence
from driftloop.mlops_core.rollout.request_verdict import Judgement, judge
from driftloop.schemas.events import LATENCY_BOUNDS, Agreement, Traffic, TrafficMeasured, latency_bucket
from driftloop.schemas.settings import RolloutSettings
from tests.support.simulated_rollouts import NAMES, Ended, Version, heavy, heavy_tail, roll_out, twice

SETTINGS = RolloutSettings()
MINUTE = 60_000
SEED = 9
ROLLOUTS = 200


def traffic(calls: int, errors: int = 0, milliseconds: float = 10.0, timeouts: int = 0) -> Traffic:
    latency = [0] * latency_bucket(milliseconds) + [calls - errors]
    return Traffic(
        predictions=calls - errors - timeouts, calls=calls, errors=errors, timeouts=timeouts, latency=latency
    )


def judged(
    canary: Traffic, stable: Traffic, agreement: Agreement | None = None, minutes: int = 6
) -> Judgement:
    """The verdict on one step at 10 % that began so many minutes ago."""
    step = StepRequests(share=10, since=0, canary=canary, stable=stable, last_call=minutes * MINUTE)
    return judge([step], agreement or Agreement(), NAMES, SETTINGS, minutes * MINUTE)


def test_enough_requests_without_a_difference_pass_with_the_numbers() -> None:
    found = judged(traffic(150), traffic(1350), Agreement(rows=60, disagreeing=0))
    assert found.evidence.outcome == "pass"
    assert found.evidence.sentence == (
        "v8 served 150 requests at 10 %: v8 failed 0 of 150 calls (0.0%), v7 0 of 1,350 calls (0.0%); "
        "p95 11.2 ms against 11.2 ms; 60 of 60 scores agree"
    )


def test_too_few_requests_are_held_with_the_time_that_they_take() -> None:
    found = judged(traffic(60), traffic(540), minutes=3)
    assert found.evidence.outcome == "hold"
    assert found.evidence.sentence == (
        "v8 has 60 of 150 requests at 10 %: about 90 more requests, 4 minutes at today's traffic"
    )
    assert (found.requests_left, found.seconds_left, found.overdue) == (90, 270, False)


def test_no_request_at_all_is_held_and_overdue_after_the_step_minutes() -> None:
    step = StepRequests(share=10, since=1_767_225_600_000, stable=traffic(500))
    for minutes, overdue in ((5, False), (59, False), (60, True), (100_000, True)):
        found = judge([step], Agreement(), NAMES, SETTINGS, step.since + minutes * MINUTE)
        assert (found.evidence.outcome, found.overdue) == ("hold", overdue)
        assert "no request since 2026-01-01 00:00:00 UTC" in found.evidence.sentence
        assert found.seconds_left is None


def test_requests_that_stop_are_reported_with_the_time_of_the_last() -> None:
    step = StepRequests(share=10, since=0, canary=traffic(60), stable=traffic(540), last_call=3 * MINUTE)
    found = judge([step], Agreement(), NAMES, SETTINGS, 33 * MINUTE)
    assert "no request since 1970-01-01 00:03:00 UTC (30 minutes): held" in found.evidence.sentence


def test_failed_calls_fail_the_canary_before_it_has_its_requests() -> None:
    found = judged(traffic(20, errors=4), traffic(180))
    assert found.evidence.outcome == "fail"
    assert found.evidence.sentence == (
        "v8 failed 4 of 20 calls (20.0%), v7 0 of 180 calls (0.0%): surely more"
    )


def test_timeouts_count_as_failures_and_are_named() -> None:
    found = judged(traffic(20, timeouts=4), traffic(180))
    assert found.evidence.outcome == "fail"
    assert "4 of 20 calls (20.0%, 4 by timeout)" in found.evidence.sentence


def test_failures_that_stable_has_too_do_not_fail_the_canary() -> None:
    assert judged(traffic(150, errors=15), traffic(1350, errors=135)).evidence.outcome != "fail"


def test_failures_beyond_the_tolerance_that_may_be_chance_are_held_until_they_are_sure() -> None:
    found = judged(traffic(151, errors=1), traffic(1350))
    assert found.evidence.outcome == "hold"
    assert "passes after about 49 more requests" in found.evidence.sentence
    assert judged(traffic(202, errors=1), traffic(1350)).evidence.outcome == "pass"


def test_a_canary_twice_as_slow_fails() -> None:
    found = judged(traffic(150, milliseconds=20), traffic(1350, milliseconds=10))
    assert found.evidence.outcome == "fail"
    assert found.evidence.sentence == "p95 latency of v8 is 22.4 ms, of v7 11.2 ms: surely slower"


def test_a_canary_that_is_slower_within_the_ratio_passes() -> None:
    assert judged(traffic(1500, milliseconds=14), traffic(13500, milliseconds=10)).evidence.outcome == "pass"


@pytest.mark.parametrize(
    ("rows", "disagreeing", "outcome"), [(50, 7, "fail"), (49, 49, "pass"), (5000, 50, "pass")]
)
def test_scores_that_the_model_does_not_give_fail_the_canary(
    rows: int, disagreeing: int, outcome: str
) -> None:
    agreement = Agreement(rows=rows, disagreeing=disagreeing, largest=0.25)
    found = judged(traffic(150), traffic(1350), agreement)
    assert found.evidence.outcome == outcome
    if outcome == "fail":
        assert found.evidence.sentence == (
            "v8 serves scores that differ from those recomputed from the same features: "
            "7 of 50 differ, by up to 0.25"
        )


def test_a_canary_without_anything_to_compare_with_is_held_and_later_an_error() -> None:
    assert judged(traffic(500), Traffic(), minutes=59).evidence.outcome == "hold"
    found = judged(traffic(500), Traffic(), minutes=60)
    assert found.evidence.outcome == "error"
    assert "v7 has had no request since" in found.evidence.sentence


def test_failures_of_an_earlier_step_still_count() -> None:
    before = StepRequests(share=10, since=0, canary=traffic(150, errors=2), stable=traffic(1350))
    now = StepRequests(share=50, since=1, canary=traffic(60, errors=6), stable=traffic(60))
    assert judge([now], Agreement(), NAMES, SETTINGS, MINUTE).evidence.outcome == "hold"
    assert judge([before, now], Agreement(), NAMES, SETTINGS, MINUTE).evidence.outcome == "fail"


def test_an_hour_in_which_everybody_fails_is_not_the_canarys_fault() -> None:
    """Pooled over steps, the canary would have failed 10 % of its calls and stable 1.9 %."""
    calm = StepRequests(share=10, since=0, canary=traffic(150), stable=traffic(13_500))
    outage = StepRequests(
        share=50, since=1, canary=traffic(1500, errors=165), stable=traffic(1500, errors=165)
    )
    assert judge([calm, outage], Agreement(), NAMES, SETTINGS, MINUTE).evidence.outcome == "pass"


def test_a_span_that_began_before_the_share_was_set_does_not_count() -> None:
    step = StepRequests(share=10, since=1000)
    versions = {"8": traffic(5), "7": traffic(45), "6": traffic(7)}
    early, span = (
        TrafficMeasured(id="t", at=2000, model="m", since=since, until=2000, versions=versions)
        for since in (999, 1000)
    )
    assert step.plus(early, *NAMES) == step
    counted = step.plus(span, *NAMES).plus(span, *NAMES)
    assert (counted.canary.calls, counted.stable.calls, counted.last_call) == (10, 90, 2000)


counts = st.integers(0, 1000)
some = st.builds(
    Traffic,
    predictions=counts,
    calls=counts,
    errors=counts,
    timeouts=counts,
    latency=st.lists(counts, max_size=len(LATENCY_BOUNDS) + 1),
)


@given(some, some, some)
def test_traffic_adds_up_in_any_order(one: Traffic, two: Traffic, three: Traffic) -> None:
    def sums(found: Traffic) -> object:
        return found.model_dump(exclude={"latency"}), [found.slower(place) for place in range(-1, 66)]

    assert sums((one + two) + three) == sums(three + (two + one))


@given(some, st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_has_no_more_than_its_share_above_it(found: Traffic, quantile: float) -> None:
    if found.timed_calls:
        assert found.slower(found.bucket(quantile)) <= (1 - quantile) * found.timed_calls + 1e-6
        assert found.quantile(quantile) <= LATENCY_BOUNDS[min(found.bucket(quantile), 64)]


@given(st.lists(st.tuples(some, some), min_size=1, max_size=3), counts, counts, st.integers(0, 1 << 45))
def test_whatever_is_counted_has_a_verdict(
    spans: list[tuple[Traffic, Traffic]], rows: int, disagreeing: int, now: int
) -> None:
    steps = [StepRequests(share=10, since=0, canary=canary, stable=stable) for canary, stable in spans]
    agreement = Agreement(rows=rows, disagreeing=min(rows, disagreeing))
    assert judge(steps, agreement, NAMES, SETTINGS, now).evidence.sentence


def test_the_evidence_of_equal_versions_grows_beyond_one_in_alpha_as_seldom_as_it_says() -> None:
    """Looked at after each of 2,000 failures, in 2,000 sequences."""
    rng, alpha, share = np.random.default_rng(SEED), 0.05, 0.1
    hits = np.cumsum(rng.random((2000, 2000)) < share, axis=1)
    crossed = sum(
        any(log_evidence(int(hits[row, n]), n + 1, share) > np.log(1 / alpha) for n in range(0, 2000, 7))
        for row in range(400)
    )
    assert crossed <= 0.05 * 400


def rolled_out(canary: Version, stable: Version, settings: RolloutSettings = SETTINGS) -> list[Ended]:
    seeds = ([SEED, number] for number in range(ROLLOUTS))
    return [roll_out(np.random.default_rng(seed), canary, stable, settings) for seed in seeds]


@pytest.mark.parametrize("version", [Version(), Version(errors=0.01), Version(latency=heavy)])
def test_of_200_rollouts_of_equal_versions_at_most_2_percent_are_called_worse(version: Version) -> None:
    ended = Counter(one.outcome for one in rolled_out(version, version))
    print(f"seed {SEED}, {version}: {dict(ended)}")  # noqa: T201
    assert ended["fail"] <= 0.02 * ROLLOUTS
    assert ended["pass"] >= 0.98 * ROLLOUTS


@pytest.mark.parametrize(
    ("canary", "stable", "settings"),
    [
        (Version(errors=0.05), Version(), SETTINGS),
        (Version(latency=twice), Version(), SETTINGS),
        (Version(errors=0.01), Version(), RolloutSettings(min_requests=1000)),
        (Version(latency=heavy_tail), Version(), RolloutSettings(min_requests=1000)),
    ],
)
def test_of_200_rollouts_of_a_worse_version_99_percent_are_called_worse_within_the_steps_requests(
    canary: Version, stable: Version, settings: RolloutSettings
) -> None:
    ended = rolled_out(canary, stable, settings)
    found = [one.asked for one in ended if one.outcome == "fail"]
    print(f"seed {SEED}, {canary}: {len(found)} of {ROLLOUTS}, requests p50 {np.median(found):.0f}")  # noqa: T201
    assert sum(asked <= 2 * settings.min_requests for asked in found) >= 0.99 * ROLLOUTS


def test_of_200_rollouts_with_5_points_more_errors_than_stable_has_99_percent_are_called_worse() -> None:
    ended = rolled_out(Version(errors=0.06), Version(errors=0.01))
    found = [one.asked for one in ended if one.outcome == "fail"]
    print(f"seed {SEED}: {len(found)} of {ROLLOUTS}, requests p50 {np.median(found):.0f}, {max(found)}")  # noqa: T201
    assert len(found) >= 0.99 * ROLLOUTS


def test_a_rollout_without_traffic_is_held() -> None:
    ended = roll_out(np.random.default_rng(SEED), Version(), Version(), SETTINGS, per_second=0.0)
    assert (ended.outcome, ended.asked) == ("hold", 0)

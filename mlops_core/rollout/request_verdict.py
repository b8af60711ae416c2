"""Does the canary run as well as stable? Judged from requests: failures, latency, and agreement of scores.

Judged about every second, with one error rate for the whole rollout: a canary that runs like stable fails
with a probability of at most `rollout.alpha` (0.01), of which failures get half and p95, p99 and agreement a
sixth each. The four tests are always valid (`request_statistics`). Evidence is taken within each step, where
both versions have the same span of time, and multiplied over steps.

- Failures: of all failed calls, more are the canary's than its share of the calls explains.
- Latency: of all calls slower than stable's p95 (or p99), more are the canary's than its share explains,
  and its own quantile is more than `rollout.latency_ratio` times stable's.
- Agreement: more than 1 % of the scores served differ from the scores recomputed from the same features.

A canary fails as soon as one test is sure. A step passes with `min_requests` predictions and estimates within
the tolerances; an estimate beyond its tolerance that is not yet sure holds the step. Two biases are known and
accepted: latency is per call, so where a request is split into many rows for stable and few for the canary
the canary looks faster; and the calls of one entity count as independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from driftloop.mlops_core.rollout import durations, request_statistics
from driftloop.mlops_core.rollout.label_verdict import VerdictOutcome, version_name
from driftloop.mlops_core.rollout.request_statistics import StepRequests
from driftloop.schemas.events import Agreement, Traffic, VerdictEvidence
from driftloop.schemas.records import Millis
from driftloop.schemas.settings import RolloutSettings

IDLE_MS = 60_000
"""A shorter pause between two requests is not reported."""


@dataclass(frozen=True)
class Judgement:
    """A verdict, and how many requests the step still needs."""

    evidence: VerdictEvidence
    requests_left: int = 0
    """Predictions of the canary that are missing (estimated)."""
    seconds_left: float | None = None
    """Seconds that they take at the rate of the step so far; None where the rate is unknown."""
    overdue: bool = False
    """Whether the step has lasted `rollout.step_minutes` and lacks requests, which raises one alert."""


def judge(
    steps: Sequence[StepRequests],
    agreement: Agreement,
    names: tuple[str, str],
    settings: RolloutSettings,
    now: Millis,
) -> Judgement:
    """The verdict at the last of `steps`, of which there is at least one.

    `names`: version of canary and stable. `now`: wall clock (UTC, ms). `fail`: surely worse. `hold`: too
    few requests, or an estimate beyond the tolerance that may be chance. `error`: after
    `rollout.step_minutes`, the canary has its requests, and stable has none to compare with.
    """
    called = (version_name(names[0]), version_name(names[1]))
    worse = _worse(steps, agreement, called, settings)
    if worse:
        return Judgement(_evidence(steps, "fail", worse))
    return (
        _short(steps, called, settings, now)
        or _incomparable(steps, called, settings, now)
        or _doubtful(steps, called, settings, now)
        or Judgement(_evidence(steps, "pass", _summary(steps[-1], agreement, called)))
    )


def _worse(
    steps: Sequence[StepRequests], agreement: Agreement, names: tuple[str, str], settings: RolloutSettings
) -> str:
    """The sentence that says why the canary is surely worse; empty where no test is sure."""
    if sum(request_statistics.failures(step) for step in steps) > math.log(2 / settings.alpha):
        return f"{_failing(steps, names)}: surely more"
    sure = math.log(6 / settings.alpha)
    for quantile in request_statistics.QUANTILES:
        slower = _slower(steps[-1], quantile, names, settings)
        if slower and sum(request_statistics.slow_calls(step, quantile) for step in steps) > sure:
            return f"{slower}: surely slower"
    if agreement.rows >= request_statistics.COMPARED and request_statistics.disagreement(agreement) > sure:
        return (
            f"{names[0]} serves scores that differ from those recomputed from the same features: "
            f"{agreement.disagreeing:,} of {agreement.rows:,} differ, by up to {agreement.largest:.3g}"
        )
    return ""


def _short(
    steps: Sequence[StepRequests], names: tuple[str, str], settings: RolloutSettings, now: Millis
) -> Judgement | None:
    step = steps[-1]
    missing = settings.min_requests - step.canary.predictions
    if missing <= 0:
        return None
    overdue = now - step.since >= settings.step_minutes * 60_000
    count = (
        f"{names[0]} has {step.canary.predictions:,} of {settings.min_requests:,} requests at {step.share} %"
    )
    left = _seconds(step, missing, now)
    wait = _idle(step, now) or durations.eta(missing, left)
    sentence = f"{count}: {wait}"
    if overdue:
        sentence += f"; the step has lasted longer than {settings.step_minutes:g} minutes"
    return Judgement(_evidence(steps, "hold", sentence), missing, left, overdue)


def _incomparable(
    steps: Sequence[StepRequests], names: tuple[str, str], settings: RolloutSettings, now: Millis
) -> Judgement | None:
    step = steps[-1]
    if step.stable.calls or step.share == 100:
        return None
    late = now - step.since >= settings.step_minutes * 60_000
    sentence = (
        f"{names[0]} can't be compared: {names[1]} has had no request since {durations.clock(step.since)}, "
        f"when the canary got {step.share} %; the canary has served {step.canary.predictions:,} requests"
    )
    return Judgement(_evidence(steps, "error" if late else "hold", sentence))


def _doubtful(
    steps: Sequence[StepRequests], names: tuple[str, str], settings: RolloutSettings, now: Millis
) -> Judgement | None:
    """A hold where an estimate is beyond its tolerance; None where none is."""
    excess = request_statistics.excess(steps)
    if excess > settings.error_tolerance:
        calls = sum(step.canary.calls for step in steps)
        left = math.ceil(calls * (excess / max(settings.error_tolerance, 1e-4) - 1))
        seconds = _seconds(steps[-1], left, now)
        sentence = (
            f"{_failing(steps, names)}: the difference is above the {settings.error_tolerance:.2%} allowed "
            f"(rollout.error_tolerance), but may be chance; it passes after {durations.eta(left, seconds)} "
            f"if it fails no more often than {names[1]}"
        )
        return Judgement(_evidence(steps, "hold", sentence), left, seconds)
    for quantile in request_statistics.QUANTILES:
        slower = _slower(steps[-1], quantile, names, settings)
        if slower:
            left = max(steps[-1].canary.calls // 4, 1)
            seconds = _seconds(steps[-1], left, now)
            sentence = (
                f"{slower}: above the {settings.latency_ratio:g} times allowed (rollout.latency_ratio), but "
                f"not yet sure; it is held for {durations.eta(left, seconds)}"
            )
            return Judgement(_evidence(steps, "hold", sentence), left, seconds)
    return None


def _slower(step: StepRequests, quantile: float, names: tuple[str, str], settings: RolloutSettings) -> str:
    """The sentence that compares both quantiles; empty where the ratio is allowed or calls are too few."""
    if min(step.canary.timed_calls, step.stable.timed_calls) < round(
        request_statistics.TAIL / (1 - quantile)
    ):
        return ""
    canary, stable = step.canary.quantile(quantile), step.stable.quantile(quantile)
    if canary <= settings.latency_ratio * stable:
        return ""
    return f"p{quantile * 100:g} latency of {names[0]} is {canary:.3g} ms, of {names[1]} {stable:.3g} ms"


def _failing(steps: Sequence[StepRequests], names: tuple[str, str]) -> str:
    canary = sum((step.canary for step in steps), Traffic())
    stable = sum((step.stable for step in steps), Traffic())
    return f"{names[0]} failed {_failure_rate(canary)}, {names[1]} {_failure_rate(stable)}"


def _failure_rate(traffic: Traffic) -> str:
    late = f", {traffic.timeouts:,} by timeout" if traffic.timeouts else ""
    share = traffic.failures / traffic.calls if traffic.calls else 0.0
    return f"{traffic.failures:,} of {traffic.calls:,} calls ({share:.1%}{late})"


def _summary(step: StepRequests, agreement: Agreement, names: tuple[str, str]) -> str:
    sentence = (
        f"{names[0]} served {step.canary.predictions:,} requests at {step.share} %: {_failing([step], names)}"
    )
    if step.canary.timed_calls and step.stable.timed_calls:
        canary, stable = step.canary.quantile(0.95), step.stable.quantile(0.95)
        sentence += f"; p95 {canary:.3g} ms against {stable:.3g} ms"
    if agreement.rows:
        sentence += f"; {agreement.rows - agreement.disagreeing:,} of {agreement.rows:,} scores agree"
    return sentence


def _idle(step: StepRequests, now: Millis) -> str:
    """The sentence that says since when the canary got no request; empty for a usual pause."""
    last = step.since if step.last_call is None else step.last_call
    usual = (now - step.since) / max(step.canary.calls, 1)
    if step.canary.calls and now - last < max(IDLE_MS, 10 * usual):
        return ""
    return f"no request since {durations.clock(last)} ({durations.duration((now - last) / 1000)}): held"


def _seconds(step: StepRequests, requests: int, now: Millis) -> float | None:
    """Seconds that `requests` more predictions of the canary take; None where the rate is unknown."""
    if not step.canary.predictions:
        return None
    return max(now - step.since, 1) / 1000 * requests / step.canary.predictions


def _evidence(steps: Sequence[StepRequests], outcome: VerdictOutcome, sentence: str) -> VerdictEvidence:
    return VerdictEvidence(
        outcome=outcome,
        sentence=sentence,
        canary_rows=sum(step.canary.predictions for step in steps),
        stable_rows=sum(step.stable.predictions for step in steps),
    )

"""Rollouts of simulated traffic, judged every second as the deployment agent would."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.rollout.request_statistics import StepRequests
from driftloop.mlops_core.rollout.request_verdict import judge
from driftloop.schemas.events import LATENCY_BOUNDS, Agreement, Traffic, TrafficMeasured
from driftloop.schemas.settings import RolloutSettings

Milliseconds = Callable[[np.random.Generator, int], NDArray[np.float64]]
BUCKETS = len(LATENCY_BOUNDS) + 1
NAMES = ("8", "7")


def usual(rng: np.random.Generator, calls: int) -> NDArray[np.float64]:
    """Latencies of most services: lognormal, p50 10 ms, p95 23 ms, p99 32 ms."""
    return rng.lognormal(np.log(10), 0.5, calls)


def twice(rng: np.random.Generator, calls: int) -> NDArray[np.float64]:
    """Everything takes twice as long."""
    return 2 * usual(rng, calls)


def heavy(rng: np.random.Generator, calls: int) -> NDArray[np.float64]:
    """A heavy tail: p50 2 ms, p95 8 ms, p99 20 ms."""
    return 1 + rng.pareto(1.5, calls)


def heavy_tail(rng: np.random.Generator, calls: int) -> NDArray[np.float64]:
    """One call in thirty takes five times as long: p99 twice the usual, p95 about as usual."""
    return usual(rng, calls) * np.where(rng.random(calls) < 1 / 30, 5, 1)


@dataclass(frozen=True)
class Version:
    """How a version behaves."""

    errors: float = 0.0
    """Share of failed calls."""
    latency: Milliseconds = usual


@dataclass(frozen=True)
class Ended:
    """How a rollout ended: `fail`, `pass`, or `hold` where it was still held at the horizon."""

    outcome: str
    asked: int
    """Predictions of the canary until then."""
    sentence: str


def traffic(rng: np.random.Generator, version: Version, calls: int) -> Traffic:
    """One second's calls of one row each."""
    failed = int(rng.binomial(calls, version.errors))
    places = np.searchsorted(LATENCY_BOUNDS, version.latency(rng, calls - failed))
    latency = np.bincount(places, minlength=BUCKETS).tolist()
    return Traffic(predictions=calls - failed, calls=calls, errors=failed, latency=latency)


def roll_out(
    rng: np.random.Generator,
    canary: Version,
    stable: Version,
    settings: RolloutSettings,
    per_second: float = 20.0,
    horizon: int = 3_600,
) -> Ended:
    """Through all steps with a look every second, for at most `horizon` seconds."""
    shares = list(settings.steps)
    steps, judged = [StepRequests(share=shares.pop(0), since=0)], None
    for second in range(horizon):
        since, until = second * 1000, (second + 1) * 1000
        share = steps[-1].share / 100
        calls = int(rng.poisson(per_second))
        mine = int(rng.binomial(calls, share))
        versions = {"8": traffic(rng, canary, mine), "7": traffic(rng, stable, calls - mine)}
        span = TrafficMeasured(id="t", at=until, model="m", since=since, until=until, versions=versions)
        steps[-1] = steps[-1].plus(span, *NAMES)
        judged = judge(steps, Agreement(), NAMES, settings, until).evidence
        if judged.outcome == "pass" and shares:
            steps.append(StepRequests(share=shares.pop(0), since=until))
        elif judged.outcome != "hold":
            break
    assert judged is not None
    return Ended(judged.outcome, judged.canary_rows, judged.sentence)

"""Requests counted while the canary had a share of the traffic, and the evidence in them.

Do events fall on the canary more often than its share of the calls explains? The functions return logarithms
of evidence, valid at any time, that add up over steps.

Failed calls (or slow ones) of canary and stable come one after the other. If both versions fail equally
often, each next failure is the canary's with probability `share`, its part of the calls, however the common
rate rises and falls with the hours: a failing database hits both. If the canary's odds of failing are r times
stable's, the probability is r share / (r share + 1 - share). The evidence is the likelihood ratio of that
against `share`, averaged over the odds ratios `RATIOS`. Under equality (or a better canary) it is a
nonnegative supermartingale that begins at 1, so the probability that it ever exceeds 1 / alpha is at most
alpha (Ville's inequality): a look every second costs nothing.

Source: Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022; Netflix uses it
for canaries. It assumes that failures are independent: entities are spread over versions by a hash,
so an entity that always fails counts as many.
"""

import math
from collections.abc import Sequence

from driftloop.schemas.events import Agreement, Part, Traffic, TrafficMeasured
from driftloop.schemas.records import Millis

QUANTILES = (0.95, 0.99)
TAIL = 5
"""Calls above a quantile that its estimate rests on: p95 is judged from 100 calls, p99 from 500."""
DISAGREEING = 0.01
"""Share of scores that may differ from the recomputed ones: rows whose features were corrected meanwhile."""
COMPARED = 50
"""Rows needed before disagreement fails a canary."""
RATIOS = (2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0)
"""Odds of the canary against stable's: a mixture over them loses at most log 7 against the best of them."""


class StepRequests(Part):
    """Requests while the canary had one share of the traffic. Times are wall clock (UTC, ms)."""

    share: int
    """The canary's percent of the traffic."""
    since: Millis
    """When that share was set."""
    canary: Traffic = Traffic()
    stable: Traffic = Traffic()
    last_call: Millis | None = None
    """End of the newest span with a call to the canary."""

    def plus(self, measured: TrafficMeasured, canary: str, stable: str) -> "StepRequests":
        """The counts with another span; unchanged where the span began before the share was set."""
        if measured.since < self.since:
            return self
        canary_traffic = measured.versions.get(canary, Traffic())
        stable_traffic = measured.versions.get(stable, Traffic())
        last_call = max(self.last_call or 0, measured.until) if canary_traffic.calls else self.last_call
        sums = {"canary": self.canary + canary_traffic, "stable": self.stable + stable_traffic}
        return self.model_copy(update={**sums, "last_call": last_call})


def failures(step: StepRequests) -> float:
    """Log of the evidence that the canary fails more calls than stable."""
    calls = step.canary.calls + step.stable.calls
    failures = step.canary.failures + step.stable.failures
    return log_evidence(step.canary.failures, failures, step.canary.calls / calls) if calls else 0.0


def slow_calls(step: StepRequests, quantile: float) -> float:
    """Log of the evidence that the canary has more calls above stable's quantile than stable has."""
    if not (step.canary.timed_calls and step.stable.timed_calls):
        return 0.0
    bucket = step.stable.bucket(quantile)
    slow = step.canary.slower(bucket)
    share = step.canary.timed_calls / (step.canary.timed_calls + step.stable.timed_calls)
    return log_evidence(slow, slow + step.stable.slower(bucket), share)


def disagreement(agreement: Agreement) -> float:
    """Log of the evidence that more than 1 % of the rows disagree."""
    return log_evidence(agreement.disagreeing, agreement.rows, DISAGREEING)


def excess(steps: Sequence[StepRequests]) -> float:
    """Canary's share of failed calls minus stable's, within steps, weighted by the canary's calls."""
    compared = [step for step in steps if step.canary.calls and step.stable.calls]
    calls = sum(step.canary.calls for step in compared)
    expected = sum(step.stable.failures / step.stable.calls * step.canary.calls for step in compared)
    return (sum(step.canary.failures for step in compared) - expected) / calls if calls else 0.0


def log_evidence(hits: int, total: int, share: float) -> float:
    """Logarithm of the evidence that more than `share` of the `total` events are hits.

    >>> round(math.exp(log_evidence(4, 4, share=0.1)))  # all four failures are the canary's
    3031
    >>> round(math.exp(log_evidence(4, 40, share=0.1)), 2)
    0.06
    """
    if not total or not 0 < share < 1:
        return 0.0
    logs = [_log_ratio(hits, total - hits, share, ratio) for ratio in RATIOS]
    largest = max(logs)
    return largest + math.log(sum(math.exp(log - largest) for log in logs) / len(logs))


def _log_ratio(hits: int, others: int, share: float, ratio: float) -> float:
    """Log of (theta / share)^hits ((1 - theta) / (1 - share))^others."""
    return hits * math.log(ratio) - (hits + others) * math.log1p(share * (ratio - 1))

"""What was counted while the canary had a share of the traffic, and the evidence that is in it.

The functions return logarithms of evidence (`sequential_test`), valid at any time, that add up over steps.
"""

from collections.abc import Sequence

from driftloop.mlops_core.rollout.sequential_test import log_evidence
from driftloop.schemas.events import Agreement, Part, Traffic, TrafficMeasured
from driftloop.schemas.records import Millis

QUANTILES = (0.95, 0.99)
TAIL = 5
"""Calls above a quantile that its estimate rests on: p95 is judged from 100 calls, p99 from 500."""
DISAGREEING = 0.01
"""Share of scores that may differ from the recomputed ones: rows whose features were corrected meanwhile."""
COMPARED = 50
"""Rows before a disagreement is called."""


class StepRequests(Part):
    """Requests while the canary had one share of the traffic. Times are wall clock (UTC, ms)."""

    share: int
    """The canary's percent of the traffic."""
    since: Millis
    """When that share was set."""
    canary: Traffic = Traffic()
    stable: Traffic = Traffic()
    asked: Millis | None = None
    """End of the newest span with a call to the canary."""

    def plus(self, measured: TrafficMeasured, canary: str, stable: str) -> "StepRequests":
        """With another span; the same where the span began before the share was set."""
        if measured.since < self.since:
            return self
        mine = measured.versions.get(canary, Traffic())
        theirs = measured.versions.get(stable, Traffic())
        asked = max(self.asked or 0, measured.until) if mine.calls else self.asked
        sums = {"canary": self.canary + mine, "stable": self.stable + theirs}
        return self.model_copy(update={**sums, "asked": asked})


def failures(step: StepRequests) -> float:
    """Log of the evidence that the canary fails more calls than stable."""
    calls = step.canary.calls + step.stable.calls
    failures = step.canary.failures + step.stable.failures
    return log_evidence(step.canary.failures, failures, step.canary.calls / calls) if calls else 0.0


def slow_calls(step: StepRequests, quantile: float) -> float:
    """Log of the evidence that the canary has more calls above stable's quantile than stable has."""
    if not (step.canary.timed_calls and step.stable.timed_calls):
        return 0.0
    place = step.stable.place(quantile)
    slow = step.canary.slower(place)
    share = step.canary.timed_calls / (step.canary.timed_calls + step.stable.timed_calls)
    return log_evidence(slow, slow + step.stable.slower(place), share)


def disagreement(agreement: Agreement) -> float:
    """Log of the evidence that more than 1 % of the rows disagree."""
    return log_evidence(agreement.disagreeing, agreement.rows, DISAGREEING)


def excess(steps: Sequence[StepRequests]) -> float:
    """Share of failed calls of the canary - stable's, within steps, weighted by the canary's calls."""
    compared = [step for step in steps if step.canary.calls and step.stable.calls]
    calls = sum(step.canary.calls for step in compared)
    expected = sum(step.stable.failures / step.stable.calls * step.canary.calls for step in compared)
    return (sum(step.canary.failures for step in compared) - expected) / calls if calls else 0.0

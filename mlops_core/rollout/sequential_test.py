"""Do events fall on the canary more often than its share of the calls explains? Looked at at any time.

Failed calls (or slow ones) of canary and stable come one after the other. If both versions fail equally
often, each next failure is the canary's with probability `share`, its part of the calls, however the common
rate rises and falls with the hours: a failing database hits both. If the canary's odds of failing are r times
stable's, the probability is r share / (r share + 1 - share). The evidence is the likelihood ratio of that
against `share`, averaged over the odds ratios `RATIOS`. Under equality (or a better canary) it is a
nonnegative supermartingale that begins at 1, so the probability that it ever exceeds 1 / alpha is at most
alpha (Ville's inequality): looking every second costs nothing.

Source: Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022; Netflix uses it
for canaries. It takes for granted that failures are independent: entities are spread over versions by a hash,
so an entity that always fails counts as many.
"""

import math

RATIOS = (2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0)
"""Odds of the canary against stable's: a mixture over them loses at most log 7 against the best of them."""


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
    return largest + math.log(sum(math.exp(one - largest) for one in logs) / len(logs))


def _log_ratio(hits: int, others: int, share: float, ratio: float) -> float:
    """Log of (theta / share)^hits ((1 - theta) / (1 - share))^others."""
    return hits * math.log(ratio) - (hits + others) * math.log1p(share * (ratio - 1))

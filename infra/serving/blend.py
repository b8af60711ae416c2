"""Blends: a score that is the weighted average of several versions' scores. Pure.

The router sends a blend with each call, as a header: `x-driftloop-blend: 1=0.25,3=0.75`. A blend is the
champion's answer whichever replica computes it, so a call to another version carries the champion's name as
well: `x-driftloop-answers-as: 3`. The replica publishes and returns the score under that version.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, unquote

BLEND_HEADER = "x-driftloop-blend"
ANSWERS_AS_HEADER = "x-driftloop-answers-as"
CANARY_HEADER = "x-driftloop-canary"
"""Of a call to a version that has a part of the traffic: its replica publishes what its own model scores."""
MAX_VERSIONS = 8
"""Versions in a blend, at most: a replica keeps that many models in memory."""


def normalise(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights that sum to 1; versions without weight are left out, and no weights at all stay none.

    >>> normalise({"1": 1, "3": 3, "4": 0})
    {'1': 0.25, '3': 0.75}

    Raises:
        ValueError: a weight is negative or no finite number, all are 0, or too many versions have one.
    """
    if any(not math.isfinite(weight) or weight < 0 for weight in weights.values()):
        raise ValueError(f"weights of a blend are numbers from 0, not {dict(weights)}")
    total = math.fsum(weights.values())
    if weights and not 0 < total < math.inf:
        raise ValueError(f"weights of a blend sum to more than 0, not {dict(weights)}")
    found = {version: weight / total for version, weight in weights.items() if weight / total}
    if len(found) > MAX_VERSIONS:
        raise ValueError(f"a blend has at most {MAX_VERSIONS} versions, not {len(found)}")
    return found


def to_header(weights: Mapping[str, float]) -> str:
    """The header's value.

    >>> to_header({"1": 0.25, "a,b": 0.75})
    '1=0.25,a%2Cb=0.75'
    """
    return ",".join(f"{quote(version, safe='')}={weight!r}" for version, weight in weights.items())


@lru_cache(maxsize=16)
def from_header(header: bytes) -> Mapping[str, float]:
    """Weights of a header's value; empty where it can't be read, so that no client sees an error for it.

    >>> from_header(b"1=0.25,a%2Cb=0.75"), from_header(b"nonsense")
    ({'1': 0.25, 'a,b': 0.75}, {})
    """
    try:
        pairs = (part.rsplit("=", 1) for part in header.decode("ascii").split(","))
        return normalise({unquote(version): float(weight) for version, weight in pairs})
    except ValueError:
        return {}

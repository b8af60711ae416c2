"""Who answers whom: a sticky split of entities over versions by percent.

An entity's place in [0, 100) follows from a hash of (model, entity), the versions lie side by side on that
line, oldest last, as wide as their weights. So an entity stays on its version while the weights stay, and
raising the canary's weight moves its border into stable: entities go from stable to canary, never back.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import Self

WHOLE = 100
_STEPS = 1 << 64


def place(model: str, key: str) -> float:
    """Where a key lies in [0, 100), evenly spread; other for each model, so that nobody is always first.

    >>> 0 <= place("flights", "AA11") < 100
    True
    >>> place("flights", "AA11") == place("flights", "AA11") != place("delays", "AA11")
    True
    """
    digest = blake2b(f"{model}\x00{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return min(int.from_bytes(digest) / _STEPS, 1 - 2**-53) * WHOLE


@dataclass(frozen=True)
class Split:
    """Versions with a share of the traffic, and the upper ends of their stretches."""

    versions: tuple[str, ...]
    ends: tuple[int, ...]
    stable: str
    """The version that had all traffic before it was split."""

    @classmethod
    def of(cls, weights: Mapping[str, int], stable: str | None = None) -> Self:
        """The split by percent; versions without weight get nobody.

        Without `stable`, or where that has no weight, the version with the largest weight counts as stable.

        >>> Split.of({"1": 90, "2": 10})
        Split(versions=('2', '1'), ends=(10, 100), stable='1')

        Raises:
            ValueError: a weight is negative, or they don't sum to 100.
        """
        if any(weight < 0 for weight in weights.values()) or sum(weights.values()) != WHOLE:
            said = ", ".join(f"{version}: {weight}" for version, weight in weights.items())
            raise ValueError(f"weights are percent from 0 and sum to 100, not {{{said}}}")
        versions = tuple(sorted((v for v, weight in weights.items() if weight), key=newest_first))
        ends = tuple(accumulate(weights[version] for version in versions))
        largest = max(versions, key=lambda version: weights[version])
        return cls(versions, ends, stable if stable in versions else largest)

    @property
    def whole(self) -> bool:
        """Whether one version answers everybody."""
        return len(self.versions) == 1

    def version(self, model: str, key: str) -> str:
        """Who answers this key."""
        return self.versions[bisect_right(self.ends, place(model, key))]

    def rows(self, model: str, keys: Sequence[str]) -> dict[str, list[int]]:
        """Row numbers by the version that answers them."""
        if self.whole:
            return {self.versions[0]: list(range(len(keys)))}
        chosen: dict[str, list[int]] = {}
        for row, key in enumerate(keys):
            chosen.setdefault(self.version(model, key), []).append(row)
        return chosen


def newest_first(version: str) -> tuple[int, str]:
    """Sort key: numbered versions by number, the largest first; other names after them.

    >>> sorted(["9", "10", "blue"], key=newest_first)
    ['10', '9', 'blue']
    """
    return (-int(version), "") if version.isdecimal() else (1, version)

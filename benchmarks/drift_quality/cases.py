"""Streams whose change is known: what they look like before it, and after.

A draw gives columns of shape (columns, rows), each independent of the others, so that one run of 20 columns
is 20 trials. Numbers are float64, categories objects.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = NDArray[Any]
"""Shape (columns, rows)."""
Table = Mapping[str, NDArray[Any]]
"""Columns of shape (rows,) by name."""
Random = np.random.Generator
Draw = Callable[[Random, int, int], Columns]
"""Columns and rows asked for -> columns."""

CATEGORIES = {"UA": 0.4, "AA": 0.3, "DL": 0.15, "B6": 0.1, "HA": 0.05}
RAREST, RARE = 5e-4, 0.02
"""Shares of rare binaries: from one in 2,000, which no reference of 10,000 rows knows well, to 2 %."""
BAD = (float("nan"), float("inf"), -float("inf"), 1e308, -1e308)
"""What is no value, whatever the column."""
_NOTHING = 1e-17
"""What is lost when it is added to 1."""
HUMP = 0.9
"""Two humps at 0.9 deviations on either side of the mean; mean and deviation stay."""


@dataclass(frozen=True)
class Case:
    """One line of the table: a stream, and what becomes of it."""

    name: str
    before: Draw
    after: Draw | None = None
    """None: nothing changes, and any alarm is false."""
    within: int | None = None
    """Events within which half of all changes must be found; None: no goal."""

    def stream(self, random: Random, columns: int, stable: int, after: int) -> Columns:
        """`stable` events, then `after` events of what it becomes, if it does."""
        before = self.before(random, columns, stable)
        if self.after is None:
            return before
        return np.concatenate([before, self.after(random, columns, after)], axis=1)


def named(columns: Columns) -> Table:
    """Columns as a table: x0, x1, ..."""
    return {f"x{place}": column for place, column in enumerate(columns)}


def normal(mean: float = 0.0, deviation: float = 1.0) -> Draw:
    """Normal columns."""
    return lambda random, columns, rows: random.normal(mean, deviation, (columns, rows))


def lognormal(random: Random, columns: int, rows: int) -> Columns:
    """Skewed: the mean lies at the 69th percentile."""
    return random.lognormal(0.0, 1.0, (columns, rows))


def t3(random: Random, columns: int, rows: int) -> Columns:
    """Heavy tails: Student's t of 3 degrees of freedom."""
    return random.standard_t(3, (columns, rows))


def poisson(mean: float) -> Draw:
    """Counts around the mean."""
    return lambda random, columns, rows: random.poisson(mean, (columns, rows)).astype(np.float64)


def wandering(phi: float) -> Draw:
    """An AR(1) process: each value is `phi` of the one before and something new."""

    def draw(random: Random, columns: int, rows: int) -> Columns:
        values = random.normal(0.0, np.sqrt(1 - phi**2), (columns, rows))
        values[:, 0] = random.normal(size=columns)
        lag = 1
        while lag < rows and phi**lag > _NOTHING:  # each value holds what its last `lag` rows brought
            values[:, lag:] += phi**lag * values[:, :-lag]
            lag *= 2
        return values

    return draw


def shared(shares: Mapping[str, float]) -> Draw:
    """Categories with these shares, brought to add up to 1."""
    names = np.array(list(shares), dtype=object)
    ends = np.cumsum(list(shares.values())) / sum(shares.values())

    def draw(random: Random, columns: int, rows: int) -> Columns:
        return names[np.searchsorted(ends[:-1], random.random((columns, rows)), side="right")]

    return draw


def zipf(names: int = 200) -> Draw:
    """Many categories, the n-th as frequent as 1/n."""
    return shared({f"c{n}": 1 / n for n in range(1, names + 1)})


def rare(random: Random, columns: int, rows: int) -> Columns:
    """Flags that are 1 in 0.05 % to 2 % of the rows, each column with a share of its own.

    A reference and its stream are drawn apart, so the shares are spread evenly instead of drawn.
    """
    shares = np.geomspace(RAREST, RARE, columns)
    return (random.random((columns, rows)) < shares[:, None]).astype(np.float64)


def binary(share: float) -> Draw:
    """Flags that are 1 in this share of the rows."""
    return lambda random, columns, rows: (random.random((columns, rows)) < share).astype(np.float64)


def missing(share: float) -> Draw:
    """Normal, with some values missing."""

    def draw(random: Random, columns: int, rows: int) -> Columns:
        values = random.normal(size=(columns, rows))
        values[random.random((columns, rows)) < share] = np.nan
        return values

    return draw


def humps(random: Random, columns: int, rows: int) -> Columns:
    """Mean 0 and deviation 1 as before, in two humps."""
    sides = random.choice([-HUMP, HUMP], (columns, rows))
    return sides + random.normal(0.0, np.sqrt(1 - HUMP**2), (columns, rows))


def rounded(random: Random, columns: int, rows: int) -> Columns:
    """What `normal(100, 25)` gives, to tens: neither mean nor deviation tell."""
    return np.round(random.normal(100.0, 25.0, (columns, rows)), -1)


def raised(shares: Mapping[str, float], name: str, share: float) -> Mapping[str, float]:
    """One category comes to `share` at the cost of all others.

    >>> raised({"a": 0.9, "b": 0.1}, "b", 0.4)
    {'a': 0.6, 'b': 0.4}
    """
    others = {other: old for other, old in shares.items() if other != name}
    left = (1 - share) / sum(others.values())
    return {other: round(old * left, 12) for other, old in others.items()} | {name: share}


STILL: Sequence[Case] = (
    Case("normal", normal()),
    Case("lognormal", lognormal),
    Case("Student's t, 3 degrees", t3),
    Case("Poisson(3)", poisson(3.0)),
    Case("5 categories", shared(CATEGORIES)),
    Case("200 categories (Zipf)", zipf()),
    Case("rare binaries (.05-2 %)", rare),
    Case("1 % missing", missing(0.01)),
    Case("AR(1) .5", wandering(0.5)),
    Case("AR(1) .9", wandering(0.9)),
)
"""Nothing changes."""

CHANGES: Sequence[Case] = (
    Case("mean + 0.5 sd", normal(), normal(0.5), 400),
    Case("mean + 0.25 sd", normal(), normal(0.25), 900),
    Case("variance x 2", normal(), normal(0.0, np.sqrt(2.0)), 500),
    Case("category share .05 -> .15", shared(CATEGORIES), shared(raised(CATEGORIES, "HA", 0.15)), 400),
    Case("new category, 3 %", shared(CATEGORIES), shared(raised(CATEGORIES, "ZZ", 0.03)), 150),
    Case("missing 1 -> 5 %", missing(0.01), missing(0.05), 500),
    Case("two humps, same mean and variance", normal(), humps, 600),
    Case("rounded to tens", normal(100.0, 25.0), rounded, 1500),
)
"""One change, at once."""

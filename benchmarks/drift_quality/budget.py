"""How many false episodes each delta has: what a budget of false alarms is turned into delta by.

`python -m benchmarks.drift_quality --budget` measures it on 17 columns that don't change
(table in docs/drift.md) and prints what `mlops_core.drift.calibration.MEASURED` should be. All
deltas see the same streams and differ by delta alone; what is frequent is known from fewer of them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from math import ceil, floor, log10, sqrt
from pathlib import Path

import numpy as np

from benchmarks.drift_quality import cases
from benchmarks.drift_quality.cases import Random, Table
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.verdicts import Opened
from driftloop.schemas.settings import DriftSettings

DELTAS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6)
"""Those of the table, and 1e-4 between."""
RARE = 1e-3
"""Up to this delta every stream counts; of larger ones, one stream in `FREQUENT`: 17M column-rows have ten of
their episodes and more, and these take the most time."""
FREQUENT = 6
REFERENCE = 20_000
"""Rows of a reference; each stream has one of its own, because an unlucky one has more false episodes."""
ROWS = 1_000_000
CHUNK = 8_192
"""Rows that are judged at a time; changes nothing but memory."""
_95 = 1.645


@dataclass(frozen=True)
class Tally:
    """Episodes of one stream, by delta and column."""

    seed: int
    stream: int
    """Which of this seed."""
    rows: int
    columns: int
    episodes: Mapping[str, Mapping[str, int]]
    """Delta, as text, -> column -> episodes, of the columns that had any."""

    def count(self, delta: float) -> int | None:
        """Episodes of all columns; None where this delta wasn't measured."""
        found = self.episodes.get(_text(delta))
        return None if found is None else sum(found.values())


@dataclass(frozen=True)
class Rate:
    """Episodes of all streams at one delta."""

    delta: float
    episodes: int
    column_rows: int
    streams: int
    dispersion: float
    """Variance of the streams' counts over their mean, at least 1: those of one reference come together."""

    @property
    def per_million(self) -> float:
        """Episodes per column and 1M rows, as counted."""
        return self.episodes / self.column_rows * 1e6

    @property
    def at_most(self) -> float:
        """The same, surely at most (95 %); 3 over the exposure where none was seen.

        Byar's approximation of the exact bound for Poisson counts (Breslow and Day, "Statistical methods in
        cancer research" II, 1987, page 69), of counts that vary `dispersion` times as much.

        >>> [round(Rate(1e-6, seen, 1_000_000, 5, 1.0).at_most, 1) for seen in (0, 1, 10, 100)]
        [3.0, 4.7, 17.0, 118.1]
        """
        seen = self.episodes / self.dispersion + 1
        bound = seen * (1 - 1 / (9 * seen) + _95 / (3 * sqrt(seen))) ** 3
        return self.dispersion * bound / self.column_rows * 1e6


def measured(
    seed: int, streams: int, rows: int = ROWS, processes: int = 1, kept: Path | None = None
) -> Iterator[Tally]:
    """Tallies of so many streams of this seed, in order.

    Those in the file `kept`, of whatever seed, come first and are not measured again; new ones are added.
    """
    old = [] if kept is None or not kept.exists() else [_read(line) for line in kept.read_text().splitlines()]
    yield from old
    known = {(tally.seed, tally.stream) for tally in old}
    missing = [stream for stream in range(streams) if (seed, stream) not in known]
    with ProcessPoolExecutor(processes) as pool:
        for tally in pool.map(tallied, repeat(seed), missing, repeat(rows)):
            if kept is not None:
                with kept.open("a") as file:
                    file.write(json.dumps(asdict(tally)) + "\n")
            yield tally


def tallied(seed: int, stream: int, rows: int) -> Tally:
    """One stream under all deltas that it is for."""
    random = np.random.default_rng((seed, stream))
    profile = Profile.of(*drawn(random, REFERENCE))
    deltas = [delta for delta in DELTAS if delta <= RARE or stream % FREQUENT == 0]
    episodes = opened(profile, *drawn(random, rows), deltas)
    return Tally(seed, stream, rows, len(profile.columns), {_text(d): episodes[d] for d in deltas})


def opened(
    profile: Profile, features: Table, scores: Floats, deltas: Iterable[float]
) -> dict[float, dict[str, int]]:
    """Delta -> column -> episodes that open on a stream, which is binned and counted once for all."""
    detectors = {delta: DistributionDrift(profile, DriftSettings(delta=delta)) for delta in deltas}
    found: dict[float, dict[str, int]] = {delta: {} for delta in detectors}
    summariser = Summariser(len(profile.columns))
    for first in range(0, len(scores), CHUNK):
        until = min(first + CHUNK, len(scores))
        part = {name: column[first:until] for name, column in features.items()}
        bins = profile.bins(part, scores[first:until], until - first)
        counts, times, _ = summariser.add(bins, np.arange(first, until))
        for delta, detector in detectors.items():
            for verdict in detector.update(counts, times):
                if isinstance(verdict, Opened):
                    found[delta][verdict.column] = found[delta].get(verdict.column, 0) + 1
    return found


def drawn(random: Random, rows: int) -> tuple[Table, Floats]:
    """16 features that never change, and scores: with them 17 columns."""
    columns = {name: draw(random, 1, rows)[0] for name, draw in _FEATURES.items()}
    return columns, random.beta(2.0, 5.0, rows)


def rates(tallies: Iterable[Tally]) -> list[Rate]:
    """All tallies together, the largest delta first; without the deltas that nobody measured."""
    collected = list(tallies)
    return [rate for rate in (_rate(delta, collected) for delta in DELTAS) if rate is not None]


def promised(found: Sequence[Rate]) -> tuple[tuple[float, float], ...]:
    """The table: delta, and the most false episodes per column and 1M rows, both falling.

    A delta that can be promised no fewer than a larger one is left out: it was measured on too few rows.

    >>> rates = [Rate(1e-3, 40, 100_000_000, 6, 1.0), Rate(1e-4, 0, 100_000_000, 6, 1.0)]
    >>> promised([*rates, Rate(1e-5, 0, 90_000_000, 6, 1.0)])
    ((0.001, 0.53), (0.0001, 0.03))
    """
    table: list[tuple[float, float]] = []
    for rate in found:
        most = _up(rate.at_most)
        if not table or most < table[-1][1]:
            table.append((rate.delta, most))
    return tuple(table)


def report(tallies: Sequence[Tally]) -> str:
    """The measurement as Markdown, and the tuple for `calibration.MEASURED`."""
    found = rates(tallies)
    table = promised(found)
    lines = [
        f"{len(tallies)} streams; " + "; ".join(_seeds(tallies)),
        "",
        "| delta | episodes | column-rows | per column and 1M rows | x Poisson | at most (95 %) | where |",
        "|---|---|---|---|---|---|---|",
        *(_line(rate, tallies) for rate in found),
        "",
        "MEASURED: tuple[tuple[float, float], ...] = (",
        *(f"    ({_text(delta)}, {most:g})," for delta, most in table),
        ")",
    ]
    return "\n".join(lines)


def _rate(delta: float, tallies: Sequence[Tally]) -> Rate | None:
    counted = [(tally, count) for tally in tallies if (count := tally.count(delta)) is not None]
    if not counted:
        return None
    counts = np.array([count for _, count in counted])
    mean = float(counts.mean())
    dispersion = max(float(counts.var(ddof=1)) / mean, 1.0) if len(counts) > 1 and mean else 1.0
    exposure = sum(tally.rows * tally.columns for tally, _ in counted)
    return Rate(delta, int(counts.sum()), exposure, len(counted), dispersion)


def _line(rate: Rate, tallies: Iterable[Tally]) -> str:
    where: dict[str, int] = {}
    for tally in tallies:
        for column, count in tally.episodes.get(_text(rate.delta), {}).items():
            where[column] = where.get(column, 0) + count
    worst = sorted(where.items(), key=lambda item: -item[1])[:3]
    columns = ", ".join(f"{column} {count}" for column, count in worst)
    exposure = f"{rate.column_rows / 1e6:,.0f}M"
    figures = f"{rate.per_million:.2g} | {rate.dispersion:.1f} | {_up(rate.at_most):g}"
    return f"| {_text(rate.delta)} | {rate.episodes} | {exposure} | {figures} | {columns} |"


def _seeds(tallies: Iterable[Tally]) -> Iterator[str]:
    streams: dict[tuple[int, int], int] = {}
    for tally in tallies:
        key = tally.seed, tally.rows
        streams[key] = streams.get(key, 0) + 1
    for (seed, rows), count in streams.items():
        yield f"seed {seed}: {count} of {rows:,} rows"


def _read(line: str) -> Tally:
    return Tally(**json.loads(line))


def _text(delta: float) -> str:
    """As it is written in the table.

    >>> _text(0.03), _text(1e-5)
    ('3e-2', '1e-5')
    """
    power = floor(log10(delta) + 1e-9)
    return f"{delta / 10.0**power:.0f}e{power}"


def _up(value: float) -> float:
    """Two digits, never less.

    >>> _up(0.0211), _up(3.0)
    (0.022, 3.0)
    """
    digits = 1 - floor(log10(value))
    return round(ceil(round(value * 10.0**digits, 6)) / 10.0**digits, digits)


_FEATURES: Mapping[str, cases.Draw] = {
    **dict.fromkeys(("normal 1", "normal 2", "normal 3"), cases.normal()),
    **dict.fromkeys(("lognormal 1", "lognormal 2"), cases.lognormal),
    "t3": cases.t3,
    "Poisson 3": cases.poisson(3.0),
    "Poisson 30": cases.poisson(30.0),
    "AR(1) .5": cases.wandering(0.5),
    "AR(1) .9": cases.wandering(0.9),
    "binary .1 %": cases.binary(0.001),
    "binary 1 %": cases.binary(0.01),
    "missing .1 %": cases.missing(0.001),
    "missing 5 %": cases.missing(0.05),
    "5 categories": cases.shared(cases.CATEGORIES),
    "200 categories": cases.zipf(),
}
"""Name -> how it is drawn."""

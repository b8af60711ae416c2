"""Our detectors on arrays: the profile of a reference, and when episodes opened on a stream."""

from collections.abc import Iterator

import numpy as np

from benchmarks.drift_quality.cases import Case, Random, Table, named
from benchmarks.drift_quality.measures import Trial
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.verdicts import Opened
from driftloop.schemas.settings import DriftSettings

REFERENCE = 10_000
"""Rows of a reference."""
CHUNK = 65_536
"""Rows at a time; changes nothing but memory."""


def profiled(reference: Table) -> Profile:
    """The reference's profile; its scores take turns and so never drift."""
    return Profile.of(reference, _scores(length(reference)))


def episodes(profile: Profile, stream: Table, settings: DriftSettings | None = None) -> Iterator[Opened]:
    """Episodes that open on the features of `stream`; `at` counts its rows from 0."""
    detector = DistributionDrift(profile, settings or DriftSettings())
    summariser = Summariser(len(profile.columns))
    for first in range(0, length(stream), CHUNK):
        part = {name: column[first : first + CHUNK] for name, column in stream.items()}
        rows = length(part)
        bins = profile.bins(part, _scores(rows), rows)
        verdicts = detector.update(*summariser.add(bins, np.arange(first, first + rows)))
        yield from (verdict for verdict in verdicts if isinstance(verdict, Opened))


def alarms(profile: Profile, stream: Table, settings: DriftSettings | None = None) -> dict[str, list[int]]:
    """Feature -> the events seen when its episodes opened."""
    opened: dict[str, list[int]] = {name: [] for name in stream}
    for episode in episodes(profile, stream, settings):
        opened[episode.column].append(episode.at + 1)
    return opened


def trials(
    case: Case, random: Random, columns: int, stable: int, after: int, settings: DriftSettings | None = None
) -> list[Trial]:
    """One trial a column: `stable` events, then `after` events of what the case becomes."""
    profile = profiled(named(case.before(random, columns, REFERENCE)))
    stream = case.stream(random, columns, stable, after)
    change = stable if case.after is not None else None
    found = alarms(profile, named(stream), settings).values()
    return [Trial(alarms, stream.shape[1], change) for alarms in found]


def length(table: Table) -> int:
    """Its rows."""
    return len(next(iter(table.values())))


def _scores(rows: int) -> Floats:
    return np.resize([0.25, 0.75], rows)

"""Stage one of drift: bins predictions against the reference of the version that answered."""

from collections.abc import Iterator, Sequence

import numpy as np
import orjson

from agents.reading import runs
from mlops_core.data.profile import Profile
from mlops_core.data.rows import RowKind, merged
from mlops_core.drift.columns import deviations
from mlops_core.drift.microbatches import Summariser
from mlops_core.errors import Unknown
from mlops_core.ports import ModelReader
from schemas.events import Span
from schemas.stages import DriftSummary
from streams import topics
from streams.agent import WithoutEffects
from streams.chunks import Chunk
from streams.consume import parked
from streams.routes import Emitted
from streams.rows import Run

Key = tuple[str, str]
"""Model and version."""
Summarisers = dict[Key, Summariser]
KEPT = 50
"""Versions whose left-over rows are remembered, newest last; a rollout has two at a time."""


class SummarisingAgent(WithoutEffects):
    """One summariser a version; what is left over from a chunk waits for the next one."""

    name = "summarising"
    steps = 50
    topics = (topics.PREDICTIONS,)

    def __init__(self, registry: ModelReader) -> None:
        self._registry = registry

    def fresh(self) -> Summarisers:
        """No version was seen."""
        return {}

    def dump(self, state: Summarisers) -> bytes:
        """Left-over rows by model and version."""
        return orjson.dumps([[*key, one.state()] for key, one in state.items()])

    def load(self, data: bytes) -> Summarisers:
        """Back from `dump`."""
        return {(model, version): Summariser.restore(state) for model, version, state in orjson.loads(data)}

    def handle(self, state: Summarisers, chunk: Chunk) -> list[Emitted]:
        """Complete micro-batches, and a dead letter for whoever names a model that nobody registered."""
        follows: list[Emitted] = []
        by_version: dict[Key, list[Run]] = {}
        for run in runs(chunk, follows):
            if run.rows.kind is RowKind.PREDICTIONS:
                by_version.setdefault((run.rows.model, run.rows.version), []).append(run)
            else:
                follows.extend(_parked(chunk, run, "wrong topic", f"{run.rows.kind} are no predictions"))
        for key, parts in by_version.items():
            try:
                profile = self._registry.profile(*key)
            except Unknown as error:
                follows.extend(
                    letter for run in parts for letter in _parked(chunk, run, "unknown model", str(error))
                )
            else:
                follows.extend(_summarised(_own(state, key, profile), profile, parts, chunk))
        return follows


def _own(state: Summarisers, key: Key, profile: Profile) -> Summariser:
    """The version's summariser, now the newest."""
    state[key] = summariser = state.pop(key, None) or Summariser(len(profile.columns))
    while len(state) > KEPT:
        del state[next(iter(state))]
    return summariser


def _summarised(
    summariser: Summariser, profile: Profile, parts: Sequence[Run], chunk: Chunk
) -> list[Emitted]:
    """What rows of one version complete."""
    rows = merged([part.rows for part in parts])
    bins = [profile.bins(one.features, one.values, len(one)) for one in rows]
    counts, times = summariser.add(np.concatenate(bins), np.concatenate([one.at for one in rows]))
    if not len(counts):
        return []
    span = Span(topic=chunk.topic, partition=chunk.partition, first=chunk.first, last=chunk.last)
    summary = DriftSummary.of(rows[0].model, rows[0].version, span, counts, times)
    return [summary.model_copy(update={"deviations": deviations(rows, profile)})]


def _parked(chunk: Chunk, run: Run, reason: str, detail: str) -> Iterator[Emitted]:
    return (parked(chunk, chunk.records[place], reason, detail) for place in run.places)

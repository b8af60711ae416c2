"""Stage one of drift: bins predictions against the reference of the version that answered."""

import numpy as np
import orjson

from agents.reading import decoded
from mlops_core.drift.microbatches import Summariser
from mlops_core.errors import Unknown
from mlops_core.ports import ModelReader
from schemas.events import Span
from schemas.records import Prediction, PredictionBatch
from schemas.stages import DriftSummary
from streams import codec, topics
from streams.agent import WithoutEffects
from streams.chunks import Arrived, Chunk
from streams.consume import parked
from streams.routes import Emitted

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
        batches: dict[Key, list[PredictionBatch]] = {}
        for record, message in decoded(chunk, codec.decode_record, follows):
            if not isinstance(message, Prediction | PredictionBatch):
                follows.append(parked(chunk, record, "wrong topic", f"a {message.type} is no prediction"))
                continue
            rows = _batch(message)
            if self._registered(chunk, record, rows, follows):
                batches.setdefault((rows.model, rows.version), []).append(rows)
        for key, parts in batches.items():
            follows.extend(self._summarised(state, key, parts, chunk))
        return follows

    def _registered(
        self, chunk: Chunk, record: Arrived, rows: PredictionBatch, letters: list[Emitted]
    ) -> bool:
        try:
            self._registry.profile(rows.model, rows.version)
        except Unknown as error:
            letters.append(parked(chunk, record, "unknown model", str(error)))
            return False
        return True

    def _summarised(
        self, state: Summarisers, key: Key, parts: list[PredictionBatch], chunk: Chunk
    ) -> list[Emitted]:
        profile = self._registry.profile(*key)
        summariser = state.pop(key, None) or Summariser(len(profile.columns))
        state[key] = summariser  # newest last
        while len(state) > KEPT:
            del state[next(iter(state))]
        bins = [profile.bins(p.features, np.asarray(p.scores, dtype=np.float64), len(p)) for p in parts]
        at = np.concatenate([np.asarray(p.at, dtype=np.int64) for p in parts])
        counts, times = summariser.add(np.concatenate(bins), at)
        if not len(counts):
            return []
        span = Span(
            topic=chunk.topic, partition=chunk.partition, first=chunk.records[0].offset, last=chunk.last
        )
        return [DriftSummary.of(*key, span, counts, times)]


def _batch(message: Prediction | PredictionBatch) -> PredictionBatch:
    if isinstance(message, PredictionBatch):
        return message
    return PredictionBatch.model_construct(
        model=message.model,
        version=message.version,
        ids=[message.id],
        at=[message.at],
        scores=[message.score],
        features={name: [value] for name, value in message.features.items()},
    )

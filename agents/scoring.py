"""Scores every labelled row with every version of the model's pool: paired losses, for the selection.

Also compares the scores of a canary's replicas with those recomputed from the same features.
"""

from collections.abc import Iterator

import orjson

from driftloop.mlops_core.data.examples import Examples, concatenate
from driftloop.mlops_core.ports import LoadScorer, ModelReader
from driftloop.mlops_core.rollout import paired_losses
from driftloop.mlops_core.rollout.scorer_cache import ScorerCache
from driftloop.schemas import topics
from driftloop.schemas.events import PoolChanged, Span
from driftloop.schemas.messages import Output
from driftloop.schemas.summaries import CanaryScores, LabelledExamples, PairedLosses
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Resolved, WithoutEffects
from driftloop.streams.processing.decoding import decode_each, decode_events, stage_decoder
from driftloop.streams.records import Chunk

Pools = dict[str, PoolChanged]
"""The newest word on each model's pool."""


class ScoringAgent(WithoutEffects):
    """Its state is which versions are scored; scores decide what it publishes, never its state."""

    name = "scoring"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.EXAMPLES, topics.CANARY_SCORES, topics.POOLS)

    def __init__(self, registry: ModelReader, load_scorer: LoadScorer) -> None:
        self._cache = ScorerCache(registry, load_scorer)

    def initial_state(self) -> Pools:
        """No model is scored."""
        return {}

    def dump(self, state: Pools) -> bytes:
        """JSON by model."""
        return orjson.dumps({model: pool.model_dump() for model, pool in state.items()})

    def load(self, data: bytes) -> Pools:
        """Back from `dump`."""
        return {model: PoolChanged.model_validate(one) for model, one in orjson.loads(data).items()}

    def questions(self, state: Pools, chunk: Chunk) -> tuple[Pools, Chunk] | None:
        """The rows, and the versions to score them with."""
        compared = {model: pool for model, pool in state.items() if len(pool.versions) > 1}
        return (compared, chunk) if compared and chunk.topic != topics.POOLS.name else None

    def resolve(self, questions: tuple[Pools, Chunk], /) -> Resolved:
        """Losses and agreement of the rows."""
        pools, chunk = questions
        compare = self._losses if chunk.topic == topics.EXAMPLES.name else self._agreement
        loaded = self._cache.loads
        found = list(compare(pools, chunk))
        return Resolved(found, answered=self._cache.loads > loaded)

    def handle(self, state: Pools, chunk: Chunk) -> list[Output]:
        """What was resolved; a pool that changed is taken over."""
        follows: list[Output] = []
        if chunk.topic == topics.POOLS.name:
            for event in decode_events(chunk, follows):
                if isinstance(event, PoolChanged):
                    state[event.model] = event
            return follows
        resolved = chunk.resolved
        return resolved if isinstance(resolved, list) else []

    def _losses(self, pools: Pools, chunk: Chunk) -> Iterator[PairedLosses]:
        """One message for each model of the chunk with versions to compare; rows without features apart."""
        parts: dict[tuple[str, bool], list[tuple[int, LabelledExamples]]] = {}
        # Unreadable records are parked by the storing agent, which reads the same topic.
        for record, part in decode_each(chunk, stage_decoder(LabelledExamples), []):
            pool = pools.get(part.model)
            if pool is not None and len(pool.versions) > 1:
                parts.setdefault((part.model, bool(part.features)), []).append((record.offset, part))
        for (model, _), found in parts.items():
            examples = concatenate([Examples.of(part) for _, part in found])
            scorers, unscored = self._cache.scorers(model, pools[model].versions)
            span = _span(chunk, found[0][0], found[-1][0])
            yield paired_losses.paired_losses(model, span, examples, scorers, unscored)

    def _agreement(self, pools: Pools, chunk: Chunk) -> Iterator[PairedLosses]:
        for record, canary in decode_each(chunk, stage_decoder(CanaryScores), []):
            pool = pools.get(canary.model)
            if pool is None or canary.version != pool.canary:
                continue
            scorers, _ = self._cache.scorers(canary.model, [canary.version])
            if scorers:
                span = _span(chunk, record.offset, record.offset)
                yield paired_losses.score_agreement(span, canary, scorers[canary.version][1])


def _span(chunk: Chunk, first: int, last: int) -> Span:
    """The records that brought the rows of one message."""
    return Span(topic=chunk.topic, partition=chunk.partition, first=first, last=last)

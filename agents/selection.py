"""Merges paired losses over partitions, and proposes the versions that are proven better."""

import orjson

from driftloop.mlops_core.rollout import challengers
from driftloop.mlops_core.rollout.challengers import Challengers
from driftloop.schemas import topics
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import RolloutSettings
from driftloop.schemas.summaries import PairedLosses
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import WithoutEffects
from driftloop.streams.processing.decoding import decode_each, decode_events, stage_decoder
from driftloop.streams.records import Chunk

State = dict[str, Challengers]
"""By model."""


class SelectionAgent(WithoutEffects):
    """One pool of versions a model."""

    name = "selection"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.LOSSES, topics.MODELS, topics.DEPLOYMENT)

    def __init__(self, settings: RolloutSettings) -> None:
        self._settings = settings

    def initial_state(self) -> State:
        """No model is known."""
        return {}

    def dump(self, state: State) -> bytes:
        """JSON by model."""
        return orjson.dumps({model: challengers.dump(known) for model, known in state.items()})

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        return {model: challengers.load(fields) for model, fields in orjson.loads(data).items()}

    def handle(self, state: State, chunk: Chunk) -> list[Output]:
        """Evidence, proofs, and pools that changed."""
        follows: list[Output] = []
        found: list[Output] = []
        if chunk.topic == topics.LOSSES.name:
            for _, losses in decode_each(chunk, stage_decoder(PairedLosses), follows):
                known = state.setdefault(losses.model, Challengers(losses.model))
                found += challengers.observe(known, losses, self._settings)
            return follows + found
        for event in decode_events(chunk, follows):
            known = state.setdefault(event.model, Challengers(event.model))
            found += challengers.handle(known, event, self._settings)
        return follows + found

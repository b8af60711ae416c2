"""Starts a training process for each open request; its outcome comes back as an event and closes it."""

from collections.abc import Mapping

import orjson

from driftloop.mlops_core.ports import Training
from driftloop.schemas import topics
from driftloop.schemas.events import (
    RetrainRequested,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
    TrainingStarted,
)
from driftloop.schemas.messages import Output
from driftloop.streams.processing.decoding import decode_events
from driftloop.streams.records import Chunk

Open = dict[str, RetrainRequested]
"""Requests whose training hasn't ended, by id."""


class TrainingAgent:
    """Level-triggered: whatever request is open is being trained, also after a crash."""

    name = "training"
    checkpoint_interval = 1
    topics = (topics.RETRAINING, topics.TRAINING)

    def __init__(self, runner: Training) -> None:
        self._runner = runner

    def initial_state(self) -> Open:
        """Nothing is open."""
        return {}

    def dump(self, state: Open) -> bytes:
        """JSON by request id."""
        return orjson.dumps({name: one.model_dump() for name, one in state.items()})

    def load(self, data: bytes) -> Open:
        """Back from `dump`."""
        return {name: RetrainRequested.model_validate(one) for name, one in orjson.loads(data).items()}

    def handle(self, state: Open, chunk: Chunk) -> list[Output]:
        """Open a request, or close the one that an outcome answers."""
        follows: list[Output] = []
        for event in decode_events(chunk, follows):
            match event:
                case RetrainRequested():
                    state[event.id] = event
                    follows.append(TrainingStarted.following(event))
                case TrainingCompleted() | TrainingRefused() | TrainingFailed():
                    state.pop(event.caused_by or "", None)
                case _:
                    pass
        return follows

    def pending_effects(self, state: Open) -> Mapping[str, object]:
        """A training for each open request."""
        return state

    async def perform(self, effect: object) -> list[Output]:
        """Train."""
        assert isinstance(effect, RetrainRequested)
        return list(await self._runner.run(effect))

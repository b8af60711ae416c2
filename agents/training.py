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
    """Level-triggered: each open request is trained, also after a crash."""

    name = "training"
    checkpoint_interval = 1
    topics = (topics.RETRAINING, topics.TRAINING)

    def __init__(self, runner: Training) -> None:
        self._runner = runner

    def initial_state(self) -> Open:
        """No open requests."""
        return {}

    def dump(self, state: Open) -> bytes:
        """The requests by id, as JSON."""
        return orjson.dumps({id_: request.model_dump() for id_, request in state.items()})

    def load(self, data: bytes) -> Open:
        """The requests from the bytes of `dump`."""
        return {id_: RetrainRequested.model_validate(fields) for id_, fields in orjson.loads(data).items()}

    def handle(self, state: Open, chunk: Chunk) -> list[Output]:
        """Open each request, and close it at the end of its training."""
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
        """Run the training; returns its events."""
        assert isinstance(effect, RetrainRequested)
        return list(await self._runner.run(effect))

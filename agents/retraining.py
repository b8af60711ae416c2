"""The agent of the retraining policy: publishes a request or a refusal for each alarm."""

import orjson

from driftloop.mlops_core.training import policy
from driftloop.schemas import topics
from driftloop.schemas.events import (
    DeployRequested,
    DriftDetected,
    PerformanceMeasured,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import RetrainingSettings
from driftloop.streams.processing.agent import WithoutEffects
from driftloop.streams.processing.decoding import decode_events
from driftloop.streams.records import Chunk

Policies = dict[str, policy.RetrainingState]
"""By model."""


class RetrainingAgent(WithoutEffects):
    """Keeps the policy's state of each model."""

    name = "retraining"
    topics = (topics.DRIFT, topics.TRAINING, topics.METRICS, topics.COMMANDS)

    def __init__(self, settings: RetrainingSettings) -> None:
        self._settings = settings

    def initial_state(self) -> Policies:
        """An empty state."""
        return {}

    def dump(self, state: Policies) -> bytes:
        """The states by model, as JSON."""
        return orjson.dumps({model: known.model_dump() for model, known in state.items()})

    def load(self, data: bytes) -> Policies:
        """The states from the bytes of `dump`."""
        return {
            model: policy.RetrainingState.model_validate(fields)
            for model, fields in orjson.loads(data).items()
        }

    def handle(self, state: Policies, chunk: Chunk) -> list[Output]:
        """Requests and refusals."""
        follows: list[Output] = []
        for event in decode_events(chunk, follows):
            before = state.get(event.model, policy.RetrainingState())
            match event:
                case DriftDetected():
                    state[event.model], answer = policy.on_alarm(before, event, self._settings)
                    follows.append(answer)
                case (
                    PerformanceMeasured()
                    | DeployRequested()
                    | TrainingCompleted()
                    | TrainingRefused()
                    | TrainingFailed()
                ):
                    state[event.model], more = policy.on_event(before, event, self._settings)
                    follows.extend(more)
                case _:
                    pass
        return follows

"""Gives new versions traffic step by step, and takes it back: the agent of the rollout controllers.

What is decided stands in `mlops_core.rollout`. What the present phase asks for is performed again after
every restart; the report comes back as an event, and so moves the rollout on.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Mapping

import orjson

from driftloop.mlops_core.errors import NotFound, Permanent
from driftloop.mlops_core.ports import ModelReader, ModelWriter, Target
from driftloop.mlops_core.rollout import controller, state_machine
from driftloop.mlops_core.rollout.controller_state import RolloutController
from driftloop.mlops_core.rollout.effects import (
    Blend,
    Effect,
    EnsureRevision,
    Retire,
    SetChampion,
    ShiftTraffic,
    Tag,
)
from driftloop.mlops_core.rollout.work import Work, pending_work
from driftloop.schemas import topics
from driftloop.schemas.events import RolloutPhase
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import RolloutSettings
from driftloop.streams.processing.agent import Resolved
from driftloop.streams.processing.decoding import decode_events
from driftloop.streams.processing.effects import run_to_the_end
from driftloop.streams.records import Chunk

log = logging.getLogger(__name__)

REVERT_AGAIN_SECONDS = 5.0
"""Between two attempts at a way back that is barred."""

Controllers = dict[str, RolloutController]
"""By model."""


class DeploymentAgent:
    """One rollout controller a model, one piece of work a model at a time."""

    name = "deployment"
    checkpoint_interval = 1
    topics = (topics.MODELS, topics.COMMANDS, topics.DEPLOYMENT, topics.METRICS)

    def __init__(
        self, target: Target, reader: ModelReader, registry: ModelWriter, settings: RolloutSettings
    ) -> None:
        self._target = target
        self._reader = reader
        self._registry = registry
        self._settings = settings
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def initial_state(self) -> Controllers:
        """No model is known."""
        return {}

    def dump(self, state: Controllers) -> bytes:
        """JSON by model."""
        return orjson.dumps({model: one.model_dump() for model, one in state.items()})

    def load(self, data: bytes) -> Controllers:
        """Back from `dump`."""
        return {model: RolloutController.model_validate(one) for model, one in orjson.loads(data).items()}

    def questions(self, state: Controllers, chunk: Chunk) -> Collection[str] | None:
        """Models that are new here: each may have had a champion before there was an agent."""
        return {event.model for event in decode_events(chunk, []) if event.model not in state} or None

    def resolve(self, questions: Collection[str], /) -> Resolved:
        """Their champions, as the registry has them."""
        return Resolved({model: self._champion(model) for model in questions})

    def handle(self, state: Controllers, chunk: Chunk) -> list[Output]:
        """What the model's controller answers to each event."""
        follows: list[Output] = []
        champions = chunk.resolved if isinstance(chunk.resolved, dict) else {}
        for event in decode_events(chunk, follows):
            before = state.get(event.model) or RolloutController(
                model=event.model, champion=champions.get(event.model)
            )
            state[event.model], said = controller.handle(before, event, self._settings)
            follows.extend(said)
        return follows

    def pending_effects(self, state: Controllers) -> Mapping[str, object]:
        """One piece of work a model, and its blend."""
        return pending_work(state.values(), self._settings)

    async def perform(self, effect: object) -> list[Output]:
        """Make it so, in order; what can't be is reported rather than tried for ever."""
        assert isinstance(effect, Work)
        async with self._turns[effect.model]:
            try:
                for one in effect.effects:
                    await self._carry_out(one)
            except Permanent as error:
                return await _report_obstruction(effect, str(error))
        clock = int(time.time() * 1000)
        return [state_machine.performed_report(effect.reports, clock)] if effect.reports else []

    def _champion(self, model: str) -> str | None:
        try:
            return self._reader.champion(model)
        except NotFound:
            return None

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case EnsureRevision(model, version, replicas, resources):
                await self._target.ensure(model, version, replicas, resources)
            case ShiftTraffic(model, weights):
                await self._target.shift(model, weights)
            case Blend(model, weights, version):
                await self._target.blend(model, weights, version)
            case Retire(model, version):
                await self._target.retire(model, version)
            case SetChampion(model, version):
                await run_to_the_end(self._registry.set_champion, model, version)
            case Tag(model, version, key, value):
                await run_to_the_end(self._registry.tag, model, version, key, value)


async def _report_obstruction(work: Work, error: str) -> list[Output]:
    """The way back is tried for ever, so its report comes with a pause before the next attempt."""
    if work.reports is None:
        log.error("a model at rest is not as it should be", extra={"model": work.model, "error": error})
        return []
    if work.reports.phase is RolloutPhase.REVERTING:
        await asyncio.sleep(REVERT_AGAIN_SECONDS)
    return [state_machine.obstructed_report(work.reports, error)]

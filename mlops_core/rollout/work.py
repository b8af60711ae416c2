"""What the deployment agent has to carry out now, model by model: one piece of work at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from driftloop.mlops_core.rollout import controller
from driftloop.mlops_core.rollout.controller_state import RolloutController
from driftloop.mlops_core.rollout.effects import REPORTED, Effect, effects
from driftloop.mlops_core.rollout.state_machine import Rollout
from driftloop.schemas.events import RolloutPhase
from driftloop.schemas.settings import RolloutSettings


@dataclass(frozen=True)
class Work:
    """What must be true of one model now, in order; `reports` tells whose phase it carries out."""

    model: str
    effects: tuple[Effect, ...]
    reports: Rollout | None


def pending_work(controllers: Iterable[RolloutController], settings: RolloutSettings) -> Mapping[str, Work]:
    """The work of each model by a name that says what it depends on: the same name is the same work."""
    found = {}
    for one in controllers:
        if one.champion or one.open:
            found[_name(one)] = _work(one)
        blend = controller.blend_effect(one, settings) if one.champion else None
        if blend is not None:
            found[f"{one.model} answers with {dict(blend.weights)}"] = Work(one.model, (blend,), None)
    return found


def _work(one: RolloutController) -> Work:
    """A rollout's own phase goes alone: what stands besides it must not delay the way back."""
    if one.open is None:
        return Work(one.model, controller.steady_effects(one), None)
    reports = one.open if one.open.phase in REPORTED else None
    return Work(one.model, effects(one.open), reports)


def _name(one: RolloutController) -> str:
    if one.open is None:
        return f"{one.model}: {one.champion}, {one.previous} at rest"
    attempt = one.open.cause if one.open.phase is RolloutPhase.REVERTING else ""
    return "/".join(str(part) for part in (one.model, *one.open.effects_key, attempt))

"""The effects of each phase of a rollout.

Level-triggered: an effect states what should be, so performing it again is harmless, and an agent that takes
over after a crash performs the effects of the present phase once more. In every phase of `REPORTED` the
agent reports the outcome (`state_machine.performed_report`, `obstructed_report`), which advances the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from driftloop.mlops_core.rollout.state_machine import Rollout
from driftloop.schemas.events import Resources, RolloutPhase

REPORTED = frozenset(RolloutPhase) - {RolloutPhase.PAUSED}
"""All but a pause, which a person's command ends. The report of a terminal phase closes the rollout."""


@dataclass(frozen=True)
class EnsureRevision:
    """Start the version's replicas and wait until they can score."""

    model: str
    version: str
    replicas: int
    resources: Resources = field(default_factory=dict)


@dataclass(frozen=True)
class ShiftTraffic:
    """Split traffic: percent per version, 100 in all."""

    model: str
    weights: Mapping[str, int]


@dataclass(frozen=True)
class SetChampion:
    """Make a version champion; for the present champion it changes nothing."""

    model: str
    version: str


@dataclass(frozen=True)
class Retire:
    """Take a version down once nothing is sent to it."""

    model: str
    version: str


@dataclass(frozen=True)
class Tag:
    """Set a tag of a version in the registry."""

    model: str
    version: str
    key: str
    value: str


@dataclass(frozen=True)
class Blend:
    """Serve the weighted average of several versions' scores; no weights: each version serves its own."""

    model: str
    weights: Mapping[str, float]
    version: str | None = None
    """Only where this version serves; None: wherever no other blend is set."""


Effect = Blend | EnsureRevision | ShiftTraffic | SetChampion | Retire | Tag


def effects(rollout: Rollout) -> tuple[Effect, ...]:  # noqa: PLR0911 - a phase, a return
    """Effects of the rollout's phase, in the order in which to perform them."""
    model, version = rollout.model, rollout.version
    ensure = EnsureRevision(model, version, rollout.replicas, rollout.resources)
    match rollout.phase:
        case RolloutPhase.WARMING:
            return (ensure,)
        case RolloutPhase.CANARY | RolloutPhase.PAUSED:
            return (ensure, *_blend_of_canary(rollout), *_shift(rollout, rollout.share))
        case RolloutPhase.PROMOTING:
            join_blend = (Blend(model, {}, version),) if rollout.blend else ()
            return (ensure, *_shift(rollout, 100), *join_blend, SetChampion(model, version))
        case RolloutPhase.PROMOTED:
            return tuple(Retire(model, version) for version in rollout.warm_versions)
        case RolloutPhase.REVERTING:
            # Traffic first: a bad version must not serve while the registry does not answer.
            restore = (SetChampion(model, rollout.stable),) if rollout.stable else ()
            return (*_shift(rollout, 0), *restore, Tag(model, version, "lifecycle", "rolled-back"))
        case RolloutPhase.REVERTED:
            return (Retire(model, version),)
        case RolloutPhase.FAILED:
            return (Retire(model, version), Tag(model, version, "lifecycle", "failed"))


def _blend_of_canary(rollout: Rollout) -> tuple[Blend, ...]:
    """What the canary's replicas serve where stable serves a blend.

    The blend, as they will once the version is champion, so that latencies are comparable. Where the canary
    is judged by the labels of its own requests, they serve the canary's own scores.
    """
    if not rollout.blend:
        return ()
    weights = {} if rollout.proof == "paired" else {rollout.version: 1.0}
    return (Blend(rollout.model, weights, rollout.version),)


def _shift(rollout: Rollout, share: int) -> tuple[ShiftTraffic, ...]:
    """`share` percent to the challenger, the rest to stable; no effect where there is no stable version."""
    if rollout.stable is None and share < 100:
        return ()
    split = {rollout.version: share, rollout.stable or "": 100 - share}
    return (ShiftTraffic(rollout.model, {version: weight for version, weight in split.items() if weight}),)

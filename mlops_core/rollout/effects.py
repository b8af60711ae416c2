"""What must be true in each phase.

Level-triggered: an effect states what should be, so performing it again is harmless, and whoever takes
over after a crash performs the effects of the present phase once more. In every phase of `REPORTED` the
outcome is reported (`state_machine.performed_report`, `obstructed_report`); the table decides what follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from driftloop.mlops_core.rollout.state_machine import Rollout
from driftloop.schemas.events import Resources, RolloutPhase

REPORTED = frozenset(RolloutPhase) - {RolloutPhase.PAUSED}
"""A pause waits for a person, not for us. The last phase is reported too: only then is a rollout closed."""


@dataclass(frozen=True)
class EnsureRevision:
    """Have a version up and ready to score."""

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
    """Make a version champion; crowning the champion changes nothing."""

    model: str
    version: str


@dataclass(frozen=True)
class Retire:
    """Take a version down once nothing is sent to it."""

    model: str
    version: str


@dataclass(frozen=True)
class Tag:
    """Note something about a version."""

    model: str
    version: str
    key: str
    value: str


@dataclass(frozen=True)
class Blend:
    """Have answers be the weighted average of several versions; no weights: each version answers alone."""

    model: str
    weights: Mapping[str, float]
    version: str | None = None
    """Only where this version serves; None: wherever no other blend is set."""


Effect = Blend | EnsureRevision | ShiftTraffic | SetChampion | Retire | Tag


def effects(rollout: Rollout) -> tuple[Effect, ...]:  # noqa: PLR0911 - a phase, a return
    """What must be true now, in the order in which to make it so."""
    model, version = rollout.model, rollout.version
    ensure = EnsureRevision(model, version, rollout.replicas, rollout.resources)
    match rollout.phase:
        case RolloutPhase.WARMING:
            return (ensure,)
        case RolloutPhase.CANARY | RolloutPhase.PAUSED:
            return (ensure, *_blend_of_canary(rollout), *_shift(rollout, rollout.share))
        case RolloutPhase.PROMOTING:
            together = (Blend(model, {}, version),) if rollout.blend else ()
            return (ensure, *_shift(rollout, 100), *together, SetChampion(model, version))
        case RolloutPhase.PROMOTED:
            return tuple(Retire(model, spare) for spare in rollout.spare)
        case RolloutPhase.REVERTING:
            # Traffic first: the registry may be away, and a bad version must not serve meanwhile.
            crown = (SetChampion(model, rollout.stable),) if rollout.stable else ()
            return (*_shift(rollout, 0), *crown, Tag(model, version, "lifecycle", "rolled-back"))
        case RolloutPhase.REVERTED:
            return (Retire(model, version),)
        case RolloutPhase.FAILED:
            return (Retire(model, version), Tag(model, version, "lifecycle", "failed"))


def _blend_of_canary(rollout: Rollout) -> tuple[Blend, ...]:
    """How the canary's replicas answer where stable answers with a blend.

    With the blend, as they will once the version is champion: the clients get the pool's answer, and latency
    is compared like with like. Where the canary's own labels judge it, each answers with its own model.
    """
    if not rollout.blend:
        return ()
    together = rollout.proof == "paired"
    return (Blend(rollout.model, {} if together else {rollout.version: 1.0}, rollout.version),)


def _shift(rollout: Rollout, share: int) -> tuple[ShiftTraffic, ...]:
    """`share` percent to the challenger, the rest to stable; nothing where stable's part has nobody."""
    if rollout.stable is None and share < 100:
        return ()
    split = {rollout.version: share, rollout.stable or "": 100 - share}
    return (ShiftTraffic(rollout.model, {version: weight for version, weight in split.items() if weight}),)

"""Events of registration and rollout: a version gets traffic step by step, or is rolled back."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from driftloop.schemas import topics
from driftloop.schemas.events.drift import DriftKind
from driftloop.schemas.events.envelope import Event, Part
from driftloop.schemas.events.training import GateEvidence
from driftloop.schemas.records import Millis, Name


class ModelRegistered(Event):
    """The registry has a new version."""

    kafka_topic: ClassVar = topics.MODELS
    type: Literal["ModelRegistered"] = "ModelRegistered"
    version: Name
    run_id: str
    rollout: Literal["automatic", "manual"] = "automatic"
    """Automatic: it is rolled out once it is proven. Manual: it waits for a `DeployRequested`."""
    gate: GateEvidence | None = None
    """The gate's comparison with the champion; None for a version that was registered by other means."""


Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Resources = Mapping[Literal["cpu", "memory"], Quantity]
"""What each replica needs, as Kubernetes writes it: `{"cpu": "500m", "memory": "1Gi"}`."""


class DeployRequested(Event):
    """A person or program requests the rollout of a version."""

    kafka_topic: ClassVar = topics.COMMANDS
    type: Literal["DeployRequested"] = "DeployRequested"
    version: Name
    replicas: Annotated[int, Field(ge=1)] = 1
    resources: Resources = Field(default_factory=dict)
    """Per replica. On a target that can't give them the rollout fails with `RolloutFailed`."""
    muted: tuple[DriftKind, ...] = ()
    """Kinds of drift of the model that are measured and shown, but neither alert nor retrain, whichever
    version serves, until the next `DeployRequested`."""


class RolloutAction(StrEnum):
    """A command about a model's rollouts."""

    PAUSE = "pause"
    RESUME = "resume"
    PIN = "pin"
    """Keep the champion, and the weights of a blend, until unpinned. Proven challengers wait, and a canary
    that no person requested is paused."""
    UNPIN = "unpin"
    ABORT = "abort"


class RolloutCommanded(Event):
    """A person commands the rollout in progress, or pins the champion."""

    kafka_topic: ClassVar = topics.COMMANDS
    type: Literal["RolloutCommanded"] = "RolloutCommanded"
    action: RolloutAction


class RolloutPhase(StrEnum):
    """Phase of a rollout; docs/rollout-states.md explains each."""

    WARMING = "warming"
    CANARY = "canary"
    PAUSED = "paused"
    PROMOTING = "promoting"
    REVERTING = "reverting"
    PROMOTED = "promoted"
    REVERTED = "reverted"
    FAILED = "failed"


class RolloutEvent(Event):
    """Fields of all rollout events."""

    rollout: Name
    """Id of the rollout: the id of the event that requested it."""
    version: Name
    """The challenger."""
    stable: str | None = None
    """The champion when the rollout started; None for a model's first rollout."""
    phase: RolloutPhase
    """The rollout's phase after this event."""
    step: int = 0
    """Number of the canary's step, from 1; 0 before its first."""
    weight: int = 0
    """The challenger's share of the traffic in this phase and step, in percent."""
    sentence: str = ""


class RolloutStarted(RolloutEvent):
    """A rollout begins; the version gets no traffic yet."""

    kafka_topic: ClassVar = topics.DEPLOYMENT
    type: Literal["RolloutStarted"] = "RolloutStarted"
    phase: Literal[RolloutPhase.WARMING] = RolloutPhase.WARMING
    evidence: Literal["paired", "canary"] = "canary"
    """Evidence of quality: `paired` losses on all labelled rows, or labels of the `canary`'s own requests."""
    steps: Sequence[int]
    """The canary's shares of traffic to come, in percent."""


class RolloutPerformed(RolloutEvent):
    """The effects of a phase were carried out (replicas up, traffic shifted, alias moved)."""

    kafka_topic: ClassVar = topics.DEPLOYMENT
    type: Literal["RolloutPerformed"] = "RolloutPerformed"
    performed_at: Millis = 0
    """Wall clock (UTC, ms): requests that were counted from then on are those of the step."""


class RolloutObstructed(RolloutEvent):
    """The effects of a phase cannot be carried out, and trying again will not help."""

    kafka_topic: ClassVar = topics.DEPLOYMENT
    type: Literal["RolloutObstructed"] = "RolloutObstructed"
    error: str


class VerdictEvidence(Part):
    """Canary against stable over the same span."""

    outcome: Literal["pass", "fail", "hold", "error"]
    sentence: str
    canary_rows: int
    stable_rows: int
    canary_loss: float | None = None
    stable_loss: float | None = None
    low: float | None = None
    """Lower end of the always-valid interval of canary loss - stable loss (above 0: surely worse)."""
    high: float | None = None


class RolloutAdvanced(RolloutEvent):
    """The challenger gets a larger share of the traffic: the next step, or all of it (phase promoting)."""

    kafka_topic: ClassVar = topics.DEPLOYMENT
    type: Literal["RolloutAdvanced"] = "RolloutAdvanced"
    verdict: VerdictEvidence | None = None


class RolloutHeld(RolloutEvent):
    """The weight stays as it is: too few samples (phase canary), or a pause (phase paused)."""

    kafka_topic: ClassVar = topics.DEPLOYMENT
    type: Literal["RolloutHeld"] = "RolloutHeld"
    verdict: VerdictEvidence | None = None


class RolloutPromoted(RolloutEvent):
    """The challenger is champion and serves everything."""

    kafka_topic: ClassVar = topics.DEPLOYMENT
    type: Literal["RolloutPromoted"] = "RolloutPromoted"
    phase: Literal[RolloutPhase.PROMOTED] = RolloutPhase.PROMOTED
    weight: int = 100
    verdict: VerdictEvidence | None = None


class RolloutRolledBack(RolloutEvent):
    """All traffic is back on the stable version."""

    kafka_topic: ClassVar = topics.DEPLOYMENT
    type: Literal["RolloutRolledBack"] = "RolloutRolledBack"
    phase: Literal[RolloutPhase.REVERTED] = RolloutPhase.REVERTED
    verdict: VerdictEvidence | None = None


class RolloutFailed(RolloutEvent):
    """The version never served: it does not start, or cannot be found."""

    kafka_topic: ClassVar = topics.DEPLOYMENT
    type: Literal["RolloutFailed"] = "RolloutFailed"
    phase: Literal[RolloutPhase.FAILED] = RolloutPhase.FAILED
    error: str

"""A version gets traffic step by step, or loses it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from driftloop.schemas.events.drift import DriftKind
from driftloop.schemas.events.envelope import Event, Part
from driftloop.schemas.events.training import GateEvidence
from driftloop.schemas.records import Millis, Name


class ModelRegistered(Event):
    """The registry has a new version."""

    type: Literal["ModelRegistered"] = "ModelRegistered"
    version: Name
    run_id: str
    rollout: Literal["automatic", "manual"] = "automatic"
    """Automatic: it is rolled out once it is proven. Manual: it waits for a `DeployRequested`."""
    gate: GateEvidence | None = None
    """What the newest rows before its training said; None for a version of which nothing is known."""


class DeployRequested(Event):
    """A person or program asks for a version to be rolled out."""

    type: Literal["DeployRequested"] = "DeployRequested"
    version: Name
    replicas: Annotated[int, Field(ge=1)] = 1
    muted: tuple[DriftKind, ...] = ()
    """Kinds of drift of the model that are measured and shown, but neither alert nor retrain, whichever
    version serves, until another request says otherwise."""


class RolloutAction(StrEnum):
    """What a person may tell a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PIN = "pin"
    """Keep the champion, and the weights of a blend, until unpinned. Proven challengers wait, and a canary
    that no person asked for is paused."""
    UNPIN = "unpin"
    ABORT = "abort"


class RolloutCommanded(Event):
    """A person steers the rollout in progress."""

    type: Literal["RolloutCommanded"] = "RolloutCommanded"
    action: RolloutAction


class RolloutEvent(Event):
    """What rollout events share."""

    rollout: Name
    """Id of the rollout: that of the event which asked for it."""
    version: Name
    """The challenger."""
    stable: str | None = None
    """The version that serves meanwhile; None for a model's first rollout."""
    sentence: str = ""


class RolloutStarted(RolloutEvent):
    """A version is on its way."""

    type: Literal["RolloutStarted"] = "RolloutStarted"
    evidence: Literal["paired", "canary"] = "canary"
    """What says how well it predicts: losses on every labelled row, or the labels of its own requests."""
    steps: Sequence[int]
    """The canary's shares of traffic to come, in percent."""


class RolloutPerformed(RolloutEvent):
    """The effects of a phase were carried out (pods up, traffic shifted, alias moved)."""

    type: Literal["RolloutPerformed"] = "RolloutPerformed"
    phase: str
    step: int
    performed_at: Millis = 0
    """Wall clock (UTC, ms): requests that were counted from then on are those of the step."""


class RolloutObstructed(RolloutEvent):
    """The effects of a phase cannot be carried out, and trying again will not help."""

    type: Literal["RolloutObstructed"] = "RolloutObstructed"
    phase: str
    step: int
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
    """The canary goes to its next share of traffic."""

    type: Literal["RolloutAdvanced"] = "RolloutAdvanced"
    step: int
    weight: int
    """The canary's share from now on, in percent."""
    verdict: VerdictEvidence | None = None


class RolloutHeld(RolloutEvent):
    """The weight stays where it is: too few samples, or a pause."""

    type: Literal["RolloutHeld"] = "RolloutHeld"
    step: int
    weight: int
    verdict: VerdictEvidence | None = None


class RolloutPromoted(RolloutEvent):
    """The challenger is champion and serves everything."""

    type: Literal["RolloutPromoted"] = "RolloutPromoted"
    verdict: VerdictEvidence | None = None


class RolloutRolledBack(RolloutEvent):
    """All traffic is back on the stable version."""

    type: Literal["RolloutRolledBack"] = "RolloutRolledBack"
    verdict: VerdictEvidence | None = None


class RolloutFailed(RolloutEvent):
    """The version never got to serve: it does not start, or cannot be found."""

    type: Literal["RolloutFailed"] = "RolloutFailed"
    error: str

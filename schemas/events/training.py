"""Events of training: requested or refused, started, and its end with the gate's evidence."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from driftloop.schemas import topics
from driftloop.schemas.events.envelope import Event, Part
from driftloop.schemas.records import Millis, Name


class RetrainRequested(Event):
    """The policy asks for a challenger."""

    kafka_topic: ClassVar = topics.RETRAINING
    type: Literal["RetrainRequested"] = "RetrainRequested"
    reason: str
    trigger: Literal["feature", "prediction", "concept", "follow-up", "doubling", "manual"]
    since: Millis | None = None
    """Estimated change point: one more version learns only from rows that were predicted since."""
    rows: int
    """The newest labelled rows to train on, at most."""
    windows: tuple[int, ...] = ()
    """Numbers of newest rows, a version each; empty: one version, of `rows`."""
    task: Literal["binary", "regression"] | None = None
    """None: that of the champion."""
    algorithm: str | None = None
    """Name of the trainer. None: that of the champion, and of a first version `training.algorithm`."""
    hyperparameters: Mapping[str, bool | int | float | str] | None = None
    """None: those of the champion, if it has the same algorithm; else the trainer's own."""
    rollout: Literal["automatic", "manual"] = "automatic"
    """`automatic`: rolled out once it is proven. `manual`: it waits for a `DeployRequested`."""


class RetrainRefused(Event):
    """An alarm starts no training now; `reason` says why and what it waits for."""

    kafka_topic: ClassVar = topics.RETRAINING
    type: Literal["RetrainRefused"] = "RetrainRefused"
    reason: str


class TrainingStarted(Event):
    """A training process was started."""

    kafka_topic: ClassVar = topics.TRAINING
    type: Literal["TrainingStarted"] = "TrainingStarted"


class GateEvidence(Part):
    """Challenger against champion on the same newest labelled rows, never trained on."""

    passed: bool
    sentence: str
    rows: int
    champion: str | None = None
    champion_loss: float | None = None
    challenger_loss: float
    low: float | None = None
    """Lower end of the bootstrap interval of champion loss - challenger loss (above 0: surely better)."""
    high: float | None = None
    margin: float = 0.0
    squares: float | None = None
    """Sum over the rows of (champion loss - challenger loss) squared, for the proof of the selection."""


class TrainingCompleted(Event):
    """A challenger was fitted, let through by the gate, and registered; one event a version."""

    kafka_topic: ClassVar = topics.TRAINING
    type: Literal["TrainingCompleted"] = "TrainingCompleted"
    version: Name
    run_id: str
    rows: int
    seconds: float
    metrics: Mapping[str, float]
    gate: GateEvidence
    fits: int = 1
    """Models that were fitted for it: one for the gate, and one on all rows."""


class TrainingRefused(Event):
    """A training ended without a new version: the data can't be trained on, or the gate refused it."""

    kafka_topic: ClassVar = topics.TRAINING
    type: Literal["TrainingRefused"] = "TrainingRefused"
    reason: str
    gate: GateEvidence | None = None
    fits: int = 0
    """Models that were fitted."""


class TrainingFailed(Event):
    """A training process crashed or could not be carried out."""

    kafka_topic: ClassVar = topics.TRAINING
    type: Literal["TrainingFailed"] = "TrainingFailed"
    error: str

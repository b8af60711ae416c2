"""The control plane: what happened, in the past tense, and what caused it.

Every event carries an envelope: `id` (follows from its cause), `type`, `at` (when, in the time of the
data), `model`, `caused_by` (the id of the event before it) and `schema_version`. Walking `caused_by`
leads from a rollback to the window of predictions that began it.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas import ids
from schemas.records import Millis, Name

SCHEMA_VERSION = 1


class Part(BaseModel):
    """A value inside an event."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


EVERY_MODEL = "*"
"""In place of a model, in an alert that concerns all of them (an agent that is behind)."""


class Event(Part):
    """The envelope. `type` is set by each kind of event."""

    id: Name
    at: Millis
    """When it became true, in the time of the data (UTC, ms): a replayed year keeps its own calendar."""
    model: Name
    caused_by: str | None = None
    """The id of the event that led to this one; None where a person or a client began the chain."""
    schema_version: Literal[1] = 1

    @classmethod
    def following(cls, cause: "Event", **fields: object) -> Self:
        """The event of this kind that follows from `cause`: same model and time, id derived."""
        named = {"id": ids.derived(cause.id, cls.__name__), "at": cause.at, "model": cause.model}
        return cls.model_validate({**named, **fields, "caused_by": cause.id})


class DriftKind(StrEnum):
    """What changed: the inputs, the scores, or how they relate to the truth."""

    FEATURE = "feature"
    PREDICTION = "prediction"
    CONCEPT = "concept"


class Span(Part):
    """Consecutive records of one partition, both ends included."""

    topic: str
    partition: int
    first: int
    last: int


class DriftState(StrEnum):
    """What a column is (docs/drift-states.md)."""

    STABLE = "stable"
    SUSPECTED = "suspected"
    DRIFTED = "drifted"
    RESOLVED = "resolved"


class ColumnDrift(Part):
    """How far one column is from its reference now."""

    severity: float
    """Largest channel mean over the window, in standard deviations of the reference, beyond what stretches
    of the training data reach by themselves."""
    channel: str
    """Which channel that is: location, scale, null, shape, or a category's share."""
    drifted: bool
    """True while an episode is open: the detector fired and the severity has not come down again."""
    state: DriftState = DriftState.STABLE
    """The same in a word, and what is between; of older events, by `drifted`."""
    kind: DriftKind = DriftKind.FEATURE
    """Whether it is an input or one of the predictions' own; older events say `feature` of `score` too."""
    contribution: float = 0.0
    """Share of this column in the drift of all features, each weighted by its importance to the model."""
    reference: Sequence[float]
    """Share of the reference in each bin; missing values last."""
    current: Sequence[float]
    """Share of the window in each bin; missing values last."""
    edges: Sequence[float] = ()
    """Inner bin edges of a numeric column, in its own unit; empty for categories."""
    categories: Sequence[str] = ()
    """Bin names of a categorical column."""

    @model_validator(mode="before")
    @classmethod
    def _state_of_older_events(cls, told: Any) -> Any:
        if isinstance(told, Mapping) and told.get("drifted") and "state" not in told:
            return {**told, "state": DriftState.DRIFTED}
        return told


class PairDrift(Part):
    """How two features move together now, and did in training."""

    columns: tuple[str, str]
    severity: float
    """Distance of the correlations as Fisher's z (0.25: from 0 to 0.24, from 0.8 to 0.7), beyond what
    stretches of the training data reach by themselves."""
    drifted: bool
    """True while an episode is open."""
    reference: float
    """Correlation in training, of normal scores; at most 0.95."""
    current: float
    """Correlation in the window."""


class DriftMeasured(Event):
    """A window of predictions was compared with the reference of the version that answered them."""

    type: Literal["DriftMeasured"] = "DriftMeasured"
    version: Name
    rows: int
    """Rows in the window."""
    since: Millis
    until: Millis
    spans: Sequence[Span]
    """Where the window's rows lie in Kafka."""
    columns: Mapping[str, ColumnDrift]
    """Per feature, and `score` for the predictions; of two classes also `confidence` and `class`."""
    pairs: Mapping[str, PairDrift] = Field(default_factory=dict)
    """Pairs of features that move together otherwise than in training, worst first, at most 8; by `a ~ b`."""
    segment: str = ""
    """The segment, as `country=FR`; empty for all rows. Segments are told of at alarms only."""
    partial: bool = False
    """Taken at an alarm, before the window was full: only the columns that alarmed, since they changed."""


class DriftDetected(Event):
    """An episode opened: the detector fired and the change is large enough to matter."""

    type: Literal["DriftDetected"] = "DriftDetected"
    version: Name
    kind: DriftKind
    columns: Sequence[str]
    """Worst first; empty for concept drift."""
    severity: float
    changed_at: Millis
    """Estimate of when it began."""
    sentence: str
    segment: str = ""
    """The segment that drifted, as `country=FR`; empty for the model as a whole."""
    share: float = 1.0
    """Which share of the training rows that segment is."""


class DriftResolved(Event):
    """The episode that `caused_by` names is over."""

    type: Literal["DriftResolved"] = "DriftResolved"
    version: Name
    kind: DriftKind
    columns: Sequence[str]
    sentence: str = ""
    """How it ended, where there is more to say than that the columns are back."""
    segment: str = ""
    """As in the detection."""


class ColumnsChanged(Event):
    """The columns that come are not those of the training data, or are so again (then nothing is named)."""

    type: Literal["ColumnsChanged"] = "ColumnsChanged"
    version: Name
    missing: Sequence[str] = ()
    retyped: Sequence[str] = ()
    """Text where numbers were, or numbers where text was."""
    extra: Sequence[str] = ()
    severity: Literal["info", "warning"]
    """A warning where the model lacks something that it was trained on."""
    sentence: str


class Outcome(Part):
    """What labels said about one version in a window: sums, so that windows add up.

    `loss` is the squared error of the score (Brier's score for a probability).
    """

    rows: int = 0
    loss: float = 0.0
    """Sum of losses."""
    loss_squared: float = 0.0
    """Sum of squared losses, for the variance."""
    log_loss: float = 0.0
    """Sum of log losses (classes), else 0."""
    errors: int = 0
    """Rows whose class, cut at 0.5, was wrong (classes), else 0."""
    residual: float = 0.0
    """Sum of label - score."""

    def __add__(self, other: "Outcome") -> "Outcome":
        mine, theirs = self.model_dump(), other.model_dump()
        return Outcome.model_validate({name: mine[name] + theirs[name] for name in mine})


class Range(Part):
    """A figure, and between which ends it will lie in 95 of 100 cases."""

    value: float
    low: float
    high: float


class PostStratified(Part):
    """What a window's labels say of all predictions of a version of late, whichever of them got labels.

    Each bin of the score counts as much as it does among the predictions.
    """

    error_rate: float | None = None
    """Share of wrong classes; None for numbers."""
    absolute_error: float | None = None
    """Mean of |label - score|; None for classes."""
    loss: float
    """Mean squared error of the score."""
    covered: float
    """Share of the predictions in bins of the score that had labels in this window; the other bins are as
    earlier labels had them."""


class PerformanceMeasured(Event):
    """Labels of a window arrived: prequential outcomes, per version that had answered."""

    type: Literal["PerformanceMeasured"] = "PerformanceMeasured"
    since: Millis
    until: Millis
    """Quartiles of the times of its labels, so that a few with a wrong date move neither."""
    rows: int
    labelled: int
    """Labels joined for this model since the beginning."""
    versions: Mapping[str, Outcome]
    spans: Sequence[Span] = ()
    poststratified: Mapping[str, PostStratified] = {}
    """Per version; a version of which too little is known has none."""


class PerformanceEstimated(Event):
    """What labels will probably say about a window of predictions that have none yet."""

    type: Literal["PerformanceEstimated"] = "PerformanceEstimated"
    version: Name
    rows: int
    """Predictions in the window."""
    since: Millis
    until: Millis
    labelled: int
    """Labels that it rests on, about; older ones count less."""
    error_rate: Range | None = None
    """Share of wrong classes; None for numbers, and as long as labels are too few."""
    absolute_error: Range | None = None
    """Mean of |label - score|; None for classes, and as long as labels are too few."""
    loss: Range | None = None
    """Mean squared error of the score; None as long as labels are too few."""
    calibration_error: float | None = None
    """Root mean square over the scores of mean label - mean score, in the label's unit."""
    trusted: bool
    """False where labels contradicted the estimate, or never came for scores like these."""
    sentence: str


class RetrainRequested(Event):
    """The policy asks for a challenger."""

    type: Literal["RetrainRequested"] = "RetrainRequested"
    reason: str
    trigger: Literal["feature", "prediction", "concept", "follow-up", "manual"]
    since: Millis | None = None
    """Estimated change point; None where the whole window is to be used."""
    rows: int
    """The newest labelled rows to train on, at most."""
    task: Literal["binary", "regression"] | None = None
    """None: that of the champion."""
    hyperparameters: Mapping[str, bool | int | float | str] | None = None
    """None: those of the champion."""
    rollout: Literal["automatic", "manual"] = "automatic"
    """Whether the registered version is rolled out at once, or waits for a `DeployRequested`."""


class RetrainRefused(Event):
    """Evidence was seen and no training follows, with the reason."""

    type: Literal["RetrainRefused"] = "RetrainRefused"
    reason: str


class TrainingStarted(Event):
    """A training process was started."""

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


class TrainingCompleted(Event):
    """A challenger was fitted, let through by the gate, and registered."""

    type: Literal["TrainingCompleted"] = "TrainingCompleted"
    version: Name
    run_id: str
    rows: int
    seconds: float
    metrics: Mapping[str, float]
    gate: GateEvidence


class TrainingRefused(Event):
    """A training ended without a new version: bad data, or the gate said no."""

    type: Literal["TrainingRefused"] = "TrainingRefused"
    reason: str
    gate: GateEvidence | None = None


class TrainingFailed(Event):
    """A training process crashed or could not be carried out."""

    type: Literal["TrainingFailed"] = "TrainingFailed"
    error: str


class ModelRegistered(Event):
    """The registry has a new version."""

    type: Literal["ModelRegistered"] = "ModelRegistered"
    version: Name
    run_id: str
    rollout: Literal["automatic", "manual"] = "automatic"
    """Automatic: deployment agents roll it out now. Manual: it waits for a `DeployRequested`."""


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
    steps: Sequence[int]
    """The canary's shares of traffic to come, in percent."""


class RolloutPerformed(RolloutEvent):
    """The effects of a phase were carried out (pods up, traffic shifted, alias moved)."""

    type: Literal["RolloutPerformed"] = "RolloutPerformed"
    phase: str
    step: int


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


class AlertRaised(Event):
    """Something a person should know."""

    type: Literal["AlertRaised"] = "AlertRaised"
    severity: Literal["info", "warning", "critical"]
    sentence: str


AnyEvent = (
    DriftMeasured
    | DriftDetected
    | DriftResolved
    | ColumnsChanged
    | PerformanceMeasured
    | PerformanceEstimated
    | RetrainRequested
    | RetrainRefused
    | TrainingStarted
    | TrainingCompleted
    | TrainingRefused
    | TrainingFailed
    | ModelRegistered
    | DeployRequested
    | RolloutCommanded
    | RolloutStarted
    | RolloutPerformed
    | RolloutObstructed
    | RolloutAdvanced
    | RolloutHeld
    | RolloutPromoted
    | RolloutRolledBack
    | RolloutFailed
    | AlertRaised
)

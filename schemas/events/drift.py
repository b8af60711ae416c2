"""What changed in what comes in and goes out: episodes, measurements, columns."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from driftloop.schemas import topics
from driftloop.schemas.events.envelope import Event, Part, Span
from driftloop.schemas.records import Millis, Name


class DriftKind(StrEnum):
    """What changed: the inputs, the scores, or how they relate to the truth; or which columns come at all."""

    FEATURE = "feature"
    PREDICTION = "prediction"
    CONCEPT = "concept"
    COLUMNS = "columns"
    """Told as `ColumnsChanged`, never as a drift; a kind so that it can be muted as the others."""


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
    """Share of this column in the drift of all features, each weighted by its importance to the model; at an
    alarm, in that of the features whose episode is open by then, so that no more than 1 is ever told."""
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

    kafka_topic: ClassVar = topics.METRICS
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

    kafka_topic: ClassVar = topics.DRIFT
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
    rows: int | None = None
    """Labelled rows since the change, of concept drift."""


class DriftResolved(Event):
    """The episode that `caused_by` names is over."""

    kafka_topic: ClassVar = topics.DRIFT
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

    kafka_topic: ClassVar = topics.DRIFT
    type: Literal["ColumnsChanged"] = "ColumnsChanged"
    version: Name
    missing: Sequence[str] = ()
    retyped: Sequence[str] = ()
    """Text where numbers were, or numbers where text was."""
    extra: Sequence[str] = ()
    severity: Literal["info", "warning"]
    """A warning where the model lacks something that it was trained on."""
    sentence: str

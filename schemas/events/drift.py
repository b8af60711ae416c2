"""Events of drift: measurements, detected and resolved episodes, changed columns."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from driftloop.schemas import topics
from driftloop.schemas.events.envelope import Event, Part, Span
from driftloop.schemas.records import Millis, Name


class DriftKind(StrEnum):
    """What changed: features, predictions, their relation to labels (concept), or the set of columns."""

    FEATURE = "feature"
    PREDICTION = "prediction"
    CONCEPT = "concept"
    COLUMNS = "columns"
    """Published as `ColumnsChanged`, never as `DriftDetected`; a kind so that it can be muted."""


class DriftState(StrEnum):
    """State of a column's drift (docs/drift-states.md)."""

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
    """State of its episode; `drifted` and `suspected` are states of their own."""
    kind: DriftKind = DriftKind.FEATURE
    """`feature`, or `prediction` for a column that is derived from the scores."""
    contribution: float = 0.0
    """Share of this column in the drift of all features, each weighted by its importance to the model. At an
    alarm, the share among features with an open episode, so that all alarms' shares are 1 at most."""
    reference: Sequence[float]
    """Share of the reference in each bin; missing values last."""
    current: Sequence[float]
    """Share of the window in each bin; missing values last."""
    edges: Sequence[float] = ()
    """Inner bin edges of a numeric column, in its own unit; empty for categories."""
    categories: Sequence[str] = ()
    """Bin names of a categorical column."""


class PairDrift(Part):
    """Correlation of two features now and in training."""

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
    """Pairs of features whose correlation drifted, worst first, at most 8; keys are `a ~ b`."""
    segment: str = ""
    """The segment, as `country=FR`; empty for all rows. A segment is published at alarms only."""
    partial: bool = False
    """Published at an alarm, before the window was full: holds only the columns that alarmed."""


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
    """The segment's share of the training rows."""
    rows: int | None = None
    """Labelled rows since the change; None unless `kind` is `concept`."""


class DriftResolved(Event):
    """The episode that `caused_by` names is over."""

    kafka_topic: ClassVar = topics.DRIFT
    type: Literal["DriftResolved"] = "DriftResolved"
    version: Name
    kind: DriftKind
    columns: Sequence[str]
    sentence: str = ""
    """Why it ended, unless the columns returned to the reference."""
    segment: str = ""
    """The segment of the detection."""


class ColumnsChanged(Event):
    """The columns of the rows differ from the training data; all lists are empty once they agree again."""

    kafka_topic: ClassVar = topics.DRIFT
    type: Literal["ColumnsChanged"] = "ColumnsChanged"
    version: Name
    missing: Sequence[str] = ()
    retyped: Sequence[str] = ()
    """Text where numbers were, or numbers where text was."""
    extra: Sequence[str] = ()
    severity: Literal["info", "warning"]
    """`warning` where a column that the model was trained on is missing or has another type."""
    sentence: str

"""How well the versions do, by labels, and by estimate before these come."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from driftloop.schemas import topics
from driftloop.schemas.events.envelope import Event, Part, Span
from driftloop.schemas.records import Millis, Name


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

    kafka_topic: ClassVar = topics.METRICS
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

    kafka_topic: ClassVar = topics.METRICS
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

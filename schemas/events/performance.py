"""Performance of the versions: measured from labels, and estimated before labels arrive."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from driftloop.schemas import topics
from driftloop.schemas.events.envelope import Event, Part, Span
from driftloop.schemas.records import Millis, Name


class Outcome(Part):
    """Labelled outcomes of one version in a window: sums, so that windows add up.

    `loss` is the squared error of the score (Brier's score for a probability).
    """

    rows: int = 0
    loss: float = 0.0
    """Sum of losses."""
    loss_squared: float = 0.0
    """Sum of squared losses, for the variance."""
    log_loss: float = 0.0
    """Sum of log losses of a binary model, else 0."""
    errors: int = 0
    """Rows whose class, cut at 0.5, was wrong, of a binary model, else 0."""
    residual: float = 0.0
    """Sum of label - score."""

    def __add__(self, other: "Outcome") -> "Outcome":
        sums, addends = self.model_dump(), other.model_dump()
        return Outcome.model_validate({name: sums[name] + addends[name] for name in sums})


class Range(Part):
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


class PostStratified(Part):
    """Performance on all recent predictions of a version, from the labels of some of them (post-stratified).

    Each bin of the score has the weight that it has among the predictions.
    """

    error_rate: float | None = None
    """Share of wrong classes; None for a regression."""
    absolute_error: float | None = None
    """Mean of |label - score|; None for a binary model."""
    loss: float
    """Mean squared error of the score."""
    covered: float
    """Share of the predictions in bins of the score that had labels in this window; other bins use earlier
    labels."""


class PerformanceMeasured(Event):
    """Labels of a window arrived: prequential outcomes of each version that served the predictions."""

    kafka_topic: ClassVar = topics.METRICS
    type: Literal["PerformanceMeasured"] = "PerformanceMeasured"
    since: Millis
    until: Millis
    """`since` and `until` are quartiles of the labels' times, so that a few wrong dates move neither."""
    rows: int
    labelled: int
    """Labels joined to predictions of this model so far."""
    versions: Mapping[str, Outcome]
    spans: Sequence[Span] = ()
    poststratified: Mapping[str, PostStratified] = {}
    """Per version; a version with too few labels is missing."""


class PerformanceEstimated(Event):
    """Estimated performance on a window of predictions that have no labels yet."""

    kafka_topic: ClassVar = topics.METRICS
    type: Literal["PerformanceEstimated"] = "PerformanceEstimated"
    version: Name
    rows: int
    """Predictions in the window."""
    since: Millis
    until: Millis
    labelled: int
    """Effective number of labels of the estimate; older labels count less."""
    error_rate: Range | None = None
    """Share of wrong classes; None for a regression, and with too few labels."""
    absolute_error: Range | None = None
    """Mean of |label - score|; None for a binary model, and with too few labels."""
    loss: Range | None = None
    """Mean squared error of the score; None with too few labels."""
    calibration_error: float | None = None
    """Root mean square over the scores of mean label - mean score, in the label's unit."""
    trusted: bool
    """False where labels contradicted the estimate, or no labels of such scores arrived."""
    sentence: str

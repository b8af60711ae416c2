"""What the page is sent, in its own words. Times are ms, UTC; shares and severities are rounded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from driftloop.infra.dashboard.event_lines import Tone
from driftloop.schemas import events


@dataclass(frozen=True)
class Status:
    """The one word about a model."""

    word: str
    tone: Tone
    detail: str
    since: int | None = None


@dataclass(frozen=True)
class Pipeline:
    """Where the loop of retraining and rollout is."""

    word: str
    tone: Tone
    detail: str
    at: int | None
    active: bool
    """False once it came to an end, good or bad."""


@dataclass(frozen=True)
class Window:
    """One measured window: severity per column, in the order of the model's `columns`."""

    since: int
    until: int
    version: str
    rows: int
    severity: Sequence[float | None]
    drifted: Sequence[int]
    """Indices of the columns with an open episode."""


@dataclass(frozen=True)
class Measured:
    """What labels said about one version in one window: mean per row."""

    rows: int
    error: float
    loss: float
    residual: float

    @classmethod
    def of(cls, outcome: events.Outcome) -> Self:
        """Means of the sums; zeros where there are no rows."""
        rows = max(outcome.rows, 1)
        means = (outcome.errors / rows, outcome.loss / rows, outcome.residual / rows)
        return cls(outcome.rows, *(round(mean, 5) for mean in means))


@dataclass(frozen=True)
class Weighted:
    """What the same labels say of all predictions of late, whichever of them got labels: mean per row."""

    error: float | None
    loss: float
    covered: float
    """Share of the predictions in bins of the score that had labels."""

    @classmethod
    def of(cls, figures: events.PostStratified) -> Self:
        """The event's figures, rounded."""
        error = None if figures.error_rate is None else round(figures.error_rate, 5)
        return cls(error, round(figures.loss, 5), round(figures.covered, 3))


@dataclass(frozen=True)
class Point:
    """One window of labels, per version."""

    since: int
    until: int
    versions: Mapping[str, Measured]
    weighted: Mapping[str, Weighted]
    """Of the versions of which enough is known."""


@dataclass(frozen=True)
class Expected:
    """What labels will probably say about a window of one version's predictions: mean per row."""

    until: int
    version: str
    rows: int
    error: float | None
    """None for numbers, and where labels are too few to say anything."""
    loss: float | None
    error_range: Sequence[float] | None
    """Between which ends it will lie in 95 of 100 cases."""
    loss_range: Sequence[float] | None
    trusted: bool
    sentence: str

    @classmethod
    def of(cls, event: events.PerformanceEstimated) -> Self:
        """The event's figures, rounded."""
        return cls(
            until=event.until,
            version=event.version,
            rows=event.rows,
            error=_middle(event.error_rate),
            loss=_middle(event.loss),
            error_range=_ends(event.error_rate),
            loss_range=_ends(event.loss),
            trusted=event.trusted,
            sentence=event.sentence,
        )


def _middle(figure: events.Range | None) -> float | None:
    return None if figure is None else round(figure.value, 5)


def _ends(figure: events.Range | None) -> Sequence[float] | None:
    return None if figure is None else [round(figure.low, 5), round(figure.high, 5)]


@dataclass(frozen=True)
class Mark:
    """Drift seen: drawn where it was detected."""

    id: str
    at: int
    changed_at: int
    kind: str
    text: str


@dataclass(frozen=True)
class Traffic:
    """From `at` on, these versions get these shares of the traffic, in percent."""

    at: int
    shares: Mapping[str, int]


@dataclass(frozen=True)
class Rollout:
    """A version on its way, or the last one that was."""

    id: str
    version: str
    stable: str | None
    steps: Sequence[int]
    weight: int
    """The share it has now, in percent."""
    reached: int
    """The largest share that a canary's step gave it, in percent."""
    phase: events.RolloutPhase
    label: str
    """The phase as the page shows it."""
    tone: Tone
    sentence: str
    started: int
    at: int
    verdict: events.VerdictEvidence | None = None
    evidence: str = "canary"
    """What judges its predictions: `paired` losses on all labelled rows, or the labels of the `canary`."""
    because: str = ""
    """The sentence of its proof; empty where nothing was to be proven."""
    shifted: int | None = None
    """When the newest step's share was set (wall clock, ms)."""
    shifted_until: int | None = None
    """When that share was taken back, or all traffic given; None while the step lasts."""


@dataclass(frozen=True)
class Version:
    """A row of the table of model versions."""

    version: str
    trigger: str
    rows: int | None
    seconds: float | None
    metrics: Mapping[str, float]
    gate: str
    state: str
    tone: Tone
    at: int


@dataclass(frozen=True)
class Figures:
    """The numbers on top."""

    measure: str
    """`error` where labels are classes, else `loss` (mean squared error)."""
    champion: str | None
    champion_since: int | None
    value: float | None
    reference: float | None
    """The same over the champion's first labels."""
    reference_rows: int
    loss: float | None
    expected: Expected | None
    """Of the champion's newest predictions."""
    at: int | None
    rows_per_second: float | None
    """In the time of the data."""
    labelled: int
    rollout_outcomes: Mapping[str, Measured]
    """Per version, since the rollout began."""

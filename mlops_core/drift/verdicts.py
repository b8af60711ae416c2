"""Results of the drift detector: opened and closed episodes of columns and pairs, and measured windows.

Each carries the micro-batch of the stream at which it was found, so that it does not depend on the chunks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from driftloop.mlops_core.drift import sentences
from driftloop.schemas.events import ColumnDrift, DriftKind, PairDrift

PAIR = " ~ "
"""Between the names of a pair's features."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Position in the stream."""

    index: int
    """Micro-batches that the detector had processed."""
    at: int
    """Time of the newest row at that point (UTC, ms)."""


@dataclass(frozen=True, kw_only=True)
class OfColumn:
    """An episode of one column."""

    column: str
    kind: DriftKind

    @property
    def name(self) -> str:
        """Key of the episode."""
        return self.column

    @property
    def columns(self) -> tuple[str, ...]:
        """The column, as a tuple."""
        return (self.column,)


@dataclass(frozen=True, kw_only=True)
class OfPair:
    """An episode of the correlation of two features."""

    columns: tuple[str, str]

    @property
    def kind(self) -> DriftKind:
        """Always `feature`."""
        return DriftKind.FEATURE

    @property
    def name(self) -> str:
        """Key of the episode."""
        return PAIR.join(self.columns)


@dataclass(frozen=True, kw_only=True)
class Began(Found):
    """An episode began."""

    drift: ColumnDrift | PairDrift
    """Severity, and the distribution (or correlation) since the change and in the reference."""
    changed_at: int
    """Estimate of when it began (UTC, ms)."""
    rows: int
    """Rows over which the severity was measured."""

    @property
    def severity(self) -> float:
        """Standard deviations of the reference; of a pair Fisher's z, beyond what is usual."""
        return self.drift.severity


@dataclass(frozen=True, kw_only=True)
class Opened(OfColumn, Began):
    """An episode of a column's drift began."""

    drift: ColumnDrift

    @property
    def channel(self) -> str:
        """Channel of the largest severity: location, scale, null, shape, or a category's share."""
        return self.drift.channel

    @property
    def sentence(self) -> str:
        """The change as a sentence."""
        return sentences.explain(self.column, self.drift)


@dataclass(frozen=True, kw_only=True)
class PairOpened(OfPair, Began):
    """The correlation of two features is no longer that of the training data."""

    drift: PairDrift

    @property
    def sentence(self) -> str:
        """The change as a sentence."""
        return sentences.explain_pairs([self.drift])


@dataclass(frozen=True, kw_only=True)
class Closed(OfColumn, Found):
    """An episode of a column's drift is over."""


@dataclass(frozen=True, kw_only=True)
class PairClosed(OfPair, Found):
    """The correlation of two features is that of the training data again."""


@dataclass(frozen=True, kw_only=True)
class Measured(Found):
    """A window is full."""

    rows: int
    since: int
    until: int
    columns: Mapping[str, ColumnDrift]
    pairs: Mapping[str, PairDrift]
    """Pairs whose correlation drifted, worst first, by `a ~ b`."""


PairVerdict = PairOpened | PairClosed
Verdict = Opened | Closed | Measured | PairVerdict

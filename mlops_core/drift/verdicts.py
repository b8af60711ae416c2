"""What is found in a stream: episodes that open and close, of a column or of a pair of features, and windows.

Each says at which micro-batch of the stream that was, so that how a stream was cut into chunks shows in none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from driftloop.mlops_core.drift import sentences
from driftloop.schemas.events import ColumnDrift, DriftKind, PairDrift

PAIR = " ~ "
"""Between the names of a pair's features."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where in the stream it was."""

    index: int
    """Micro-batches that the detector had taken in by then."""
    at: int
    """Time of the newest row then (UTC, ms)."""


@dataclass(frozen=True, kw_only=True)
class OfColumn:
    """What has an episode: a column."""

    column: str
    kind: DriftKind

    @property
    def name(self) -> str:
        """What the episode goes by."""
        return self.column

    @property
    def columns(self) -> tuple[str, ...]:
        """Whose it is."""
        return (self.column,)


@dataclass(frozen=True, kw_only=True)
class OfPair:
    """What has an episode: two features that moved together as they don't now."""

    columns: tuple[str, str]

    @property
    def kind(self) -> DriftKind:
        """Pairs are of features."""
        return DriftKind.FEATURE

    @property
    def name(self) -> str:
        """What the episode goes by."""
        return PAIR.join(self.columns)


@dataclass(frozen=True, kw_only=True)
class Began(Found):
    """An episode began."""

    drift: ColumnDrift | PairDrift
    """Severity, and what is otherwise since the change."""
    changed_at: int
    """Estimate of when it began (UTC, ms)."""
    rows: int
    """Rows over which the severity was taken."""

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
        """What changed about the column."""
        return self.drift.channel

    @property
    def sentence(self) -> str:
        """What happened, for a person."""
        return sentences.explain(self.column, self.drift)


@dataclass(frozen=True, kw_only=True)
class PairOpened(OfPair, Began):
    """Two features no longer move together as they did in training."""

    drift: PairDrift

    @property
    def sentence(self) -> str:
        """What happened, for a person."""
        return sentences.explain_pairs([self.drift])


@dataclass(frozen=True, kw_only=True)
class Closed(OfColumn, Found):
    """An episode of a column's drift is over."""


@dataclass(frozen=True, kw_only=True)
class PairClosed(OfPair, Found):
    """Two features move together again."""


@dataclass(frozen=True, kw_only=True)
class Measured(Found):
    """A window is full."""

    rows: int
    since: int
    until: int
    columns: Mapping[str, ColumnDrift]
    pairs: Mapping[str, PairDrift]
    """Those that move together otherwise, worst first, by `a ~ b`."""


PairVerdict = PairOpened | PairClosed
Verdict = Opened | Closed | Measured | PairVerdict

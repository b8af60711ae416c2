"""What the page is sent of drift, in its own words. Times are ms, UTC; shares and severities are rounded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from driftloop.infra.dashboard.ring_buffer import renew
from driftloop.schemas import events

Row = TypeVar("Row")
VERSIONS_AT_ONCE, COLUMNS = 6, 60
"""Of so many versions it is remembered, and so many columns of each are shown."""


@dataclass(frozen=True)
class Reference:
    """What a column looked like when its version was trained; the last share is that of missing values."""

    version: str
    shares: Sequence[float]
    edges: Sequence[float]
    categories: Sequence[str]

    @classmethod
    def of(cls, version: str, column: events.ColumnDrift) -> Self:
        """The event's reference, rounded."""
        return cls(version, _round_shares(column.reference), list(column.edges), list(column.categories))


@dataclass(frozen=True)
class Current:
    """What a column looks like in the newest window."""

    severity: float
    channel: str
    drifted: bool
    state: str
    """stable, suspected, drifted or resolved."""
    contribution: float
    """Its share in the drift of all features."""
    shares: Sequence[float]

    @classmethod
    def of(cls, column: events.ColumnDrift) -> Self:
        """The event's figures, rounded."""
        return cls(
            severity=round(column.severity, 3),
            channel=column.channel,
            drifted=column.drifted,
            state=column.state.value,
            contribution=round(column.contribution, 3),
            shares=_round_shares(column.current),
        )


@dataclass(frozen=True)
class Shown(Generic[Row]):
    """The first rows, and how many more there are."""

    rows: Sequence[Row]
    more: int

    @classmethod
    def of(cls, rows: Sequence[Row], most: int) -> Self:
        """At most `most` of `rows`."""
        return cls(rows[:most], max(len(rows) - most, 0))


@dataclass(frozen=True)
class Pair:
    """Two features whose correlation differs from that in training."""

    id: str
    """Of the detection."""
    columns: tuple[str, str]
    version: str
    severity: float
    """Distance of the correlations as Fisher's z."""
    reference: float
    """Correlation in training."""
    current: float
    """Correlation in the newest window that tells of the pair, else when it was detected."""
    changed_at: int
    at: int
    """When it was detected."""


@dataclass(frozen=True)
class SegmentColumn:
    """A column of a segment, as it was when its drift was detected; segments have no windows of their own."""

    name: str
    state: str
    """drifted or resolved."""
    severity: float
    since: int | None
    reference: Reference | None
    """None where the evidence is not kept (any more)."""
    current: Current | None


@dataclass(frozen=True)
class Segment:
    """Part of a model's traffic that drifted by itself."""

    name: str
    """As `country=FR`."""
    version: str
    share: float | None
    """Of the training rows; None where the detection is not known any more."""
    state: str
    """drifted, or resolved once all its episodes are over."""
    severity: float
    """Of its worst column."""
    since: int | None
    """Estimate of when the oldest open change began."""
    until: int | None
    """When the last episode was over; None while one is open."""
    columns: Sequence[SegmentColumn]
    more: int
    """Columns that are not listed."""


@dataclass(frozen=True)
class Deviation:
    """A column that is not as in training."""

    column: str
    what: str
    """missing, retyped or extra."""
    since: int


@dataclass(frozen=True)
class Deviating:
    """One version's columns that are not as in training."""

    version: str
    columns: Sequence[Deviation]
    more: int
    """Columns that are not listed."""


def _round_shares(shares: Sequence[float]) -> list[float]:
    return [round(share, 4) for share in shares]


_Known = Mapping[str, Deviation]


class Deviations:
    """Takes in `ColumnsChanged` in order."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def on_columns_changed(self, event: events.ColumnsChanged) -> None:
        """Each event names all that holds; what held before keeps its beginning."""
        before = self._known.pop(event.version, {})
        told = {"missing": event.missing, "retyped": event.retyped, "extra": event.extra}
        found = [Deviation(name, what, event.at) for what, names in told.items() for name in names]
        now = {one.column: _since(one, before.get(one.column)) for one in found}
        if now:
            renew(self._known, event.version, now, VERSIONS_AT_ONCE)

    def of(self, versions: Collection[str] | None) -> Sequence[Deviating]:
        """What holds for `versions` (None: for all), what came last at the end."""
        return [
            Deviating(version, list(known.values())[:COLUMNS], max(len(known) - COLUMNS, 0))
            for version, known in self._known.items()
            if versions is None or version in versions
        ]


def _since(one: Deviation, before: Deviation | None) -> Deviation:
    return before if before is not None and before.what == one.what else one

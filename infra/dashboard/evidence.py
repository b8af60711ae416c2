"""Open pairs and segments as the page shows them: what was detected, beside what the evidence measured.

Detections are on one topic and what they were seen in on another, so that either may come first, and of what
is long open the evidence may be gone. Both are therefore joined whenever somebody looks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from driftloop.infra.dashboard.drift_views import Current, Pair, Reference, Segment, SegmentColumn, Shown
from driftloop.infra.dashboard.episodes import Ended, Episode
from driftloop.infra.dashboard.ring_buffer import renew
from driftloop.schemas import events

EVIDENCE, COLUMNS = 200, 8
"""Partial windows that are kept of a model, and columns of each: the worst."""
VERSIONS_AT_ONCE = 6
ROWS = 24
"""Pairs and segments that are sent, and how many more there are; a version watches at most 24 segments."""


class Evidence:
    """The newest partial windows: what was seen when something was detected."""

    def __init__(self) -> None:
        self._seen: dict[str, events.DriftMeasured] = {}
        self._pairs: dict[str, Mapping[tuple[str, str], events.PairDrift]] = {}

    def saw(self, event: events.DriftMeasured) -> None:
        """Take in a window; of whole ones only the pairs are kept, which are the newest of their version."""
        if not event.partial:
            newest = {one.columns: one for one in event.pairs.values()}
            renew(self._pairs, event.version, newest, VERSIONS_AT_ONCE)
        else:
            worst = sorted(event.columns, key=lambda name: -event.columns[name].severity)[:COLUMNS]
            columns = {name: event.columns[name] for name in worst}
            seen = event.model_copy(update={"columns": columns, "spans": ()})
            renew(self._seen, event.id, seen, EVIDENCE)

    def of(self, episode: Episode) -> events.DriftMeasured | None:
        """What the detection was seen in; None if it isn't kept (any more)."""
        return self._seen.get(episode.detected.caused_by or "")

    def pairs_of(self, episode: Episode) -> Mapping[tuple[str, str], events.PairDrift]:
        """The pairs of a detection that have not come together again, as they were seen then."""
        seen = self.of(episode)
        known = {} if seen is None else {one.columns: one for one in seen.pairs.values()}
        return {
            names: one
            for names, one in known.items()
            if not any(over.issuperset(names) for over in episode.over)
        }

    def bears_out(self, episode: Episode) -> bool:
        """Whether anything of it is open still."""
        return bool(episode.open_columns) or not episode.of_pairs or bool(self.pairs_of(episode))

    def now(self, version: str, names: tuple[str, str]) -> events.PairDrift | None:
        """The pair in the version's newest window."""
        return self._pairs.get(version, {}).get(names)


def pairs(evidence: Evidence, episodes: Iterable[Episode]) -> Shown[Pair]:
    """Open pairs, worst first; of a pair that was detected twice the newer detection."""
    found = {(one.version, one.columns): one for one in _pairs(evidence, episodes)}
    return Shown.of(sorted(found.values(), key=lambda one: (-one.severity, one.columns)), ROWS)


def segments(evidence: Evidence, episodes: Iterable[Episode], ended: Iterable[Ended]) -> Shown[Segment]:
    """Segments with open drift, worst first; then those whose drift is over, the last first."""
    of: dict[tuple[str, str], list[Episode]] = {}
    for one in episodes:
        if one.detected.segment:
            of.setdefault((one.detected.version, one.detected.segment), []).append(one)
    drifting = [_segment(evidence, own) for own in of.values()]
    over = [_over(evidence, one) for one in ended if (one.event.version, one.event.segment) not in of]
    drifting.sort(key=lambda one: (-one.severity, one.name))
    over.sort(key=lambda one: (-(one.until or 0), one.name))
    return Shown.of([*drifting, *over], ROWS)


def _pairs(evidence: Evidence, episodes: Iterable[Episode]) -> Iterator[Pair]:
    for episode in episodes:
        told = episode.detected
        for names, then in evidence.pairs_of(episode).items():
            seen = evidence.now(told.version, names) or then
            severity, before, now = (round(one, 3) for one in (seen.severity, seen.reference, seen.current))
            yield Pair(told.id, names, told.version, severity, before, now, told.changed_at, told.at)


def _segment(evidence: Evidence, own: Sequence[Episode]) -> Segment:
    """One segment's open episodes together, at least one."""
    columns = {column.name: column for episode in own for column in _columns(evidence, episode)}
    listed = sorted(columns.values(), key=lambda one: (one.state != "drifted", -one.severity, one.name))
    told = own[-1].detected
    return Segment(
        name=told.segment,
        version=told.version,
        share=round(told.share, 4),
        state="drifted",
        severity=max(one.severity for one in listed if one.state == "drifted"),
        since=min(one.detected.changed_at for one in own),
        until=None,
        columns=listed[:COLUMNS],
        more=max(len(listed) - COLUMNS, 0),
    )


def _columns(evidence: Evidence, episode: Episode) -> Iterator[SegmentColumn]:
    """What the evidence has of each column; where there is none, the detection's own word."""
    told, seen = episode.detected, evidence.of(episode)
    left = set(episode.open_columns)
    for name in told.columns:
        measured = None if seen is None else seen.columns.get(name)
        state = "drifted" if name in left else "resolved"
        yield SegmentColumn(
            name=name,
            state=state,
            severity=round(told.severity if measured is None else measured.severity, 3),
            since=told.changed_at,
            reference=None if measured is None else Reference.of(told.version, measured),
            current=None if measured is None else Current.of(measured),
        )


def _over(evidence: Evidence, ended: Ended) -> Segment:
    """A segment that is back; what was seen of it is told as long as it is known."""
    event, episode = ended.event, ended.episode
    if episode is not None:
        columns = list(_columns(evidence, episode))
    else:
        columns = [SegmentColumn(name, "resolved", 0.0, None, None, None) for name in event.columns]
    return Segment(
        name=event.segment,
        version=event.version,
        share=None if episode is None else round(episode.detected.share, 4),
        state="resolved",
        severity=0.0,
        since=None,
        until=event.at,
        columns=columns[:COLUMNS],
        more=max(len(columns) - COLUMNS, 0),
    )

"""Which drift is open, and what of it is over."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from driftloop.infra.dashboard.ring_buffer import renew
from driftloop.schemas import events

OPEN, ENDED = 500, 100
"""Detections that are open at once, and segments whose drift is over, that are remembered; the oldest go."""


@dataclass(frozen=True)
class Episode:
    """A detection that is not over."""

    detected: events.DriftDetected
    over: Sequence[frozenset[str]] = ()
    """What of it was resolved together: a column, the two of a pair, or all of a version that went."""

    @property
    def open_columns(self) -> Sequence[str]:
        """Its columns that were not resolved, in the detection's order."""
        gone = frozenset[str]().union(*self.over)
        return [name for name in self.detected.columns if name not in gone]

    @property
    def of_pairs(self) -> bool:
        """Whether several columns of it were resolved together, which those of a pair are."""
        return any(len(one) > 1 for one in self.over)


@dataclass(frozen=True)
class Ended:
    """The last end of a segment's drift."""

    event: events.DriftResolved
    episode: Episode | None
    """None if its detection isn't known."""


class Episodes:
    """Takes in detections and their ends, in order."""

    def __init__(self) -> None:
        self._open: dict[str, Episode] = {}
        self._ended: dict[tuple[str, str], Ended] = {}
        """By version and segment."""

    def on_detected(self, event: events.DriftDetected) -> None:
        """An episode opens."""
        renew(self._open, event.id, Episode(event), OPEN)

    def on_resolved(self, event: events.DriftResolved) -> None:
        """A detection of several columns is over when each of them is.

        One of pairs stays known: two of three pairs may have had all three columns, and only its evidence
        says that there are three.
        """
        known = self._open.get(event.caused_by or "")
        rest = None if known is None else Episode(known.detected, (*known.over, frozenset(event.columns)))
        if rest is not None:
            self._open[rest.detected.id] = rest
            if not rest.open_columns and not rest.of_pairs:
                self._open.pop(rest.detected.id)
        if event.segment:
            renew(self._ended, (event.version, event.segment), Ended(event, rest), ENDED)

    def only(self, version: str | None) -> None:
        """Let go of versions that serve no more."""
        self._open = {name: one for name, one in self._open.items() if one.detected.version == version}
        self._ended = {key: one for key, one in self._ended.items() if key[0] == version}

    def open(self, versions: Collection[str] | None = None) -> Sequence[Episode]:
        """Those of `versions` (None: of all), oldest first."""
        known = self._open.values()
        return [one for one in known if versions is None or one.detected.version in versions]

    def last_ended(self, versions: Collection[str] | None = None) -> Sequence[Ended]:
        """The last ends of segments' drift, of `versions` (None: of all)."""
        known = self._ended.values()
        return [one for one in known if versions is None or one.event.version in versions]

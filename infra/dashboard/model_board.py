"""One model's picture, drawn from its events; windows may come before or after the decisions they led to."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driftloop.infra.dashboard import evidence
from driftloop.infra.dashboard.comparison import LOOKS, Comparison, on_its_way
from driftloop.infra.dashboard.drift_views import Current, Deviating, Pair, Reference, Segment, Shown
from driftloop.infra.dashboard.episodes import Episode
from driftloop.infra.dashboard.event_lines import line
from driftloop.infra.dashboard.evidence import Evidence
from driftloop.infra.dashboard.headline_figures import figures
from driftloop.infra.dashboard.labels import POINTS, VERSIONS_AT_ONCE, Labels
from driftloop.infra.dashboard.replay import Replay
from driftloop.infra.dashboard.request_counts import RequestCounts, Requests, Served
from driftloop.infra.dashboard.ring_buffer import Parts, Ring, Thinned, renew
from driftloop.infra.dashboard.rollouts import Rollouts
from driftloop.infra.dashboard.status import status
from driftloop.infra.dashboard.timeline import ALERTS, LOG, MARKS, Story
from driftloop.infra.dashboard.views import Status, Window
from driftloop.schemas import events
from driftloop.schemas.events import Event
from driftloop.schemas.settings import RolloutSettings


@dataclass(frozen=True)
class Running:
    """Requests of the newest rollout's step, and of all versions now."""

    requests: Mapping[str, Requests]
    """Of canary and stable, since the step's share was set; empty before any."""
    needed: int
    """Requests of the canary that a step needs (`rollout.min_requests`)."""
    agreement: events.Agreement | None
    """Scores of the canary that were computed again from the same features."""
    pair: Sequence[float] | None
    """The canary against the champion on the same labelled rows: gain, low, high, proof."""
    now: Served | None


def running(
    rollouts: Rollouts, counted: RequestCounts, comparison: Comparison, settings: RolloutSettings
) -> Running:
    """Decisions joined with what was measured; either may have come first."""
    rollout = rollouts.current
    now, needed = counted.now, settings.min_requests
    if rollout is None:
        return Running({}, needed, None, None, now)
    requests: Mapping[str, Requests] = {}
    if rollout.shifted is not None:
        both = counted.between(rollout.shifted, rollout.shifted_until)
        requests = {name: one for name, one in both.items() if name in (rollout.version, rollout.stable)}
    agreement, pair = comparison.agreement(rollout.version), comparison.pair(rollout.version)
    return Running(requests, needed, agreement, pair, now)


WINDOWS = 720
LIMITS = {
    "windows": WINDOWS,
    "points": POINTS,
    "estimates": POINTS,
    "looks": LOOKS,
    "marks": MARKS,
    "log": LOG,
    "alerts": ALERTS,
}
"""How many items of a series a browser keeps, as the board does."""


class ModelBoard:
    """Applies events of one model; what changed since a stamp can be asked for at any time."""

    def __init__(self, rollout: RolloutSettings | None = None) -> None:
        self._settings = rollout or RolloutSettings()
        self.touched = 0
        """The stamp of the newest event."""
        self.heard = 0
        """When the newest event was written (ms)."""
        self._derived = -1
        self._parts = Parts()
        self._windows: Ring[Window] = Ring(WINDOWS)
        self.columns: list[str] = []
        self._newest: dict[str, Mapping[str, events.ColumnDrift]] = {}
        self.labels = Labels()
        self._evidence = Evidence()
        self._comparison = Comparison(self._settings)
        self._requests = RequestCounts()
        self._decided = Replay()

    def apply(self, event: Event, stamp: int, written: int) -> None:
        """Take in one event that was not seen before, written to the broker at `written` (ms)."""
        self.touched, self.heard = stamp, max(self.heard, written)
        match event:
            case events.DriftMeasured(partial=True):
                self._evidence.saw(event)  # of a detection; the whole window follows
            case events.DriftMeasured():
                self._evidence.saw(event)
                self._windows.add(stamp, self._window(event))
            case events.PerformanceMeasured():
                self.labels.on_measured(event, stamp)
            case events.PerformanceEstimated():
                self.labels.on_estimated(event, stamp)
            case events.EvidenceMeasured():
                self._comparison.on_evidence(event, stamp)
            case events.AgreementMeasured():
                self._comparison.on_agreement(event)
            case events.TrafficMeasured():
                self._requests.on_traffic(event)
            case _:
                self._decided.add(event, line(event), written, stamp)

    def news(self, since: int, stamp: int) -> Mapping[str, object]:
        """Parts that changed after `since` (whole), and items that were added (in order).

        Series that are named under `whole` are told from their beginning: what came late belongs before items
        that were told already.
        """
        self._derive(stamp)
        looks = self._comparison.looks
        series: Mapping[str, Ring[Any] | Thinned[Any]] = {
            "windows": self._windows,
            "points": self.labels.points,
            "estimates": self.labels.estimates,
            "looks": looks,
            **self.story.series,
        }
        whole = [*self.story.series] if 0 < since < self._decided.amended else []
        whole += ["looks"] if 0 < since < looks.amended else []
        added = {name: kept.since(0 if name in whole else since) for name, kept in series.items()}
        told: dict[str, object] = {
            "parts": self._parts.since(since),
            "added": {name: items for name, items in added.items() if items},
        }
        return {**told, "whole": whole} if whole else told

    def glance(self, since: int, stamp: int) -> Mapping[str, object]:
        """No more than the status, if that changed after `since`."""
        self._parts.put(stamp, "status", self._status())
        changed = self._parts.since(since)
        return {"parts": {name: one for name, one in changed.items() if name == "status"}, "added": {}}

    @property
    def story(self) -> Story:
        """What its decisions come to."""
        return self._decided.story

    @property
    def champion(self) -> str | None:
        """The version that serves; before any rollout was seen, the one that was measured last."""
        known = self.story.rollouts.champion
        if known is None and self._windows.items:
            return self._windows.items[-1].version
        return known

    @property
    def current(self) -> Mapping[str, Current]:
        """Every column in the champion's newest window."""
        return {name: Current.of(column) for name, column in self._columns_on_show()[1].items()}

    @property
    def pairs(self) -> Shown[Pair]:
        """Pairs of features of the versions that serve that have parted."""
        return evidence.pairs(self._evidence, self.drifting)

    @property
    def segments(self) -> Shown[Segment]:
        """Segments of the versions that serve, those that drift first; empty if none was ever told of."""
        ended = self.story.episodes.last_ended(self._serving)
        return evidence.segments(self._evidence, self.drifting, ended)

    @property
    def deviations(self) -> Sequence[Deviating]:
        """Columns of the versions that serve that are not as in training."""
        return self.story.deviations.of(self._serving)

    @property
    def drifting(self) -> Sequence[Episode]:
        """Open episodes of the versions that serve."""
        known = self.story.episodes.open(self._serving)
        return [one for one in known if self._evidence.bears_out(one)]

    @property
    def _serving(self) -> Collection[str] | None:
        """The champion, and a version on its way; None as long as nobody knows who serves."""
        rollout = on_its_way(self.story.rollouts)
        if self.story.rollouts.champion is None:
            return None
        return {self.story.rollouts.champion, *([rollout.version] if rollout else [])}

    def _columns_on_show(self) -> tuple[str, Mapping[str, events.ColumnDrift]]:
        """The version whose columns are shown: the champion, or the last one that was measured."""
        champion = self.champion
        if champion not in self._newest:
            champion = next(reversed(self._newest), "")
        return champion or "", self._newest.get(champion or "", {})

    def _derive(self, stamp: int) -> None:
        if self._derived == self.touched:
            return
        version, newest = self._columns_on_show()
        parts = {
            "status": self._status(),
            "pipeline": self.story.pipeline,
            "figures": figures(self.champion, self.labels, self.story.rollouts, self._windows.items),
            "pairs": self.pairs,
            "segments": self.segments,
            "deviations": self.deviations,
            "rollout": self.story.rollouts.current,
            "running": self._running(),
            "pool": self._comparison.pool(self.story.rollouts),
            "versions": self.story.rollouts.table,
            "columns": list(self.columns),
            "references": {name: Reference.of(version, one) for name, one in newest.items()},
            "current": self.current,
            "limits": LIMITS,
        }
        for name, part in parts.items():
            self._parts.put(stamp, name, part)
        self._derived = self.touched

    def _status(self) -> Status:
        measured = bool(self._windows.items or self.labels.points.items)
        return status(self.story, self.drifting, self._evidence, len(self.columns), measured)

    def _window(self, event: events.DriftMeasured) -> Window:
        self.columns += [name for name in event.columns if name not in self.columns]
        renew(self._newest, event.version, event.columns, VERSIONS_AT_ONCE)
        known = [event.columns.get(name) for name in self.columns]
        return Window(
            event.since,
            event.until,
            event.version,
            event.rows,
            [None if column is None else round(column.severity, 3) for column in known],
            [index for index, column in enumerate(known) if column is not None and column.drifted],
        )

    def _running(self) -> Running:
        return running(self.story.rollouts, self._requests, self._comparison, self._settings)

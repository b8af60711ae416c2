"""What labels said of each version, window by window, and what is expected of those to come."""

from driftloop.infra.dashboard.ring_buffer import Ring, renew
from driftloop.infra.dashboard.rollouts import VERSIONS
from driftloop.infra.dashboard.views import Expected, Measured, Point, Weighted
from driftloop.schemas import events
from driftloop.schemas.events import Outcome

POINTS = 720
VERSIONS_AT_ONCE = 6
REFERENCE_LABELS = 250
"""A champion's first labels are its reference: as many as one window of the agents has by default."""


class Labels:
    """Takes in windows of labels and estimates, in the order of their topic."""

    def __init__(self) -> None:
        self.points: Ring[Point] = Ring(POINTS)
        self.estimates: Ring[Expected] = Ring(POINTS)
        self.labelled = 0
        self.last: dict[str, Measured] = {}
        """The newest labels of each version."""
        self.estimated: dict[str, events.PerformanceEstimated] = {}
        """The newest estimate of each version."""
        self._first: dict[str, Outcome] = {}
        self._begun: frozenset[str] = frozenset()
        """Versions that had labels before the first that were read."""
        self._classes = False

    def on_measured(self, event: events.PerformanceMeasured, stamp: int) -> None:
        """A window of labels."""
        if not self.points.items and event.labelled > event.rows:
            self._begun = frozenset(event.versions)
        self.labelled = max(self.labelled, event.labelled)
        for version, outcome in event.versions.items():
            self._classes |= outcome.errors > 0 or outcome.log_loss > 0
            before = self._first.get(version, Outcome())
            first = before + outcome if before.rows < REFERENCE_LABELS else before
            renew(self._first, version, first, VERSIONS)
            if outcome.rows:
                renew(self.last, version, Measured.of(outcome), VERSIONS)
        measured = {name: Measured.of(outcome) for name, outcome in event.versions.items() if outcome.rows}
        weighted = {name: Weighted.of(one) for name, one in event.poststratified.items()}
        self.points.add(stamp, Point(event.since, event.until, measured, weighted))

    def on_estimated(self, event: events.PerformanceEstimated, stamp: int) -> None:
        """What labels will say of a window of predictions."""
        self.estimates.add(stamp, Expected.of(event))
        renew(self.estimated, event.version, event, VERSIONS_AT_ONCE)

    def reference(self, version: str) -> Outcome | None:
        """A version's first labels; None where there are none, or they came before all that was read."""
        first = self._first.get(version)
        return None if first is None or not first.rows or version in self._begun else first

    @property
    def measure(self) -> str:
        """`error` where labels are classes, else `loss`."""
        return "error" if self._classes else "loss"

"""What a model's decisions come to when they are told in their order."""

from collections.abc import Mapping

from infra.dashboard import pipeline
from infra.dashboard.lines import Line
from infra.dashboard.rings import Ring, remember
from infra.dashboard.rollouts import Rollouts
from infra.dashboard.views import Mark, Traffic
from schemas import events
from schemas.events import AnyEvent

MARKS, LOG, ALERTS = 200, 500, 50
OPEN = 500
"""Detections that are open at once; the oldest are let go of, so that lost endings fill no memory."""


class Story:
    """The log, open drift, versions and where the loop is; each event moves it on."""

    def __init__(self) -> None:
        self.marks: Ring[Mark] = Ring(MARKS)
        self.log: Ring[Line] = Ring(LOG)
        self.alerts: Ring[Line] = Ring(ALERTS)
        self.open_drift: dict[str, events.DriftDetected] = {}
        self.retrainings: dict[str, int] = {}
        self.rollouts = Rollouts()
        self.pipeline = pipeline.IDLE
        self._effects_of: dict[str, None] = {}

    @property
    def series(self) -> Mapping[str, Ring[Mark] | Ring[Line] | Ring[Traffic]]:
        """What grows at its end."""
        return {
            "marks": self.marks,
            "traffic": self.rollouts.traffic,
            "crowns": self.rollouts.crowns,
            "log": self.log,
            "alerts": self.alerts,
        }

    def apply(self, event: AnyEvent, said: Line, stamp: int) -> None:
        """Take in the next event."""
        self.log.add(stamp, said)
        self.rollouts.apply(event, said, stamp)
        match event:
            case events.DriftDetected():
                self._detected(event, stamp)
            case events.DriftResolved():
                self._resolved(event)
            case events.AlertRaised():
                self.alerts.add(stamp, said)
            case events.RolloutPromoted() | events.RolloutRolledBack():
                serving = self.rollouts.champion
                kept = [one for one in self.open_drift.values() if one.version == serving]
                self.open_drift = {one.id: one for one in kept}
            case _:
                pass
        self._advance(event, said)

    def _detected(self, event: events.DriftDetected, stamp: int) -> None:
        self.open_drift[event.id] = event
        while len(self.open_drift) > OPEN:
            self.open_drift.pop(next(iter(self.open_drift)))
        self.marks.add(stamp, Mark(event.id, event.at, event.changed_at, event.kind.value, event.sentence))

    def _resolved(self, event: events.DriftResolved) -> None:
        """A detection of several columns is over when each of them is."""
        detected = self.open_drift.pop(event.caused_by or "", None)
        if detected is not None and set(detected.columns) - set(event.columns):
            left = [name for name in detected.columns if name not in event.columns]
            self.open_drift[detected.id] = detected.model_copy(update={"columns": left})

    def _advance(self, event: AnyEvent, said: Line) -> None:
        remember(self._effects_of, event.caused_by or "", None)
        if event.id not in self._effects_of:  # else it comes late: what it led to is known already
            self.pipeline = pipeline.after(self.pipeline, event, said)
        outcome = pipeline.RETRAINING_OUTCOMES.get(type(event))
        if outcome is not None:
            self.retrainings[outcome] = self.retrainings.get(outcome, 0) + 1

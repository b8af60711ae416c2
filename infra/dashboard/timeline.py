"""What a model's decisions come to when they are told in their order."""

from collections.abc import Mapping

from driftloop.infra.dashboard import loop_status
from driftloop.infra.dashboard.episodes import Episodes
from driftloop.infra.dashboard.event_lines import Line
from driftloop.infra.dashboard.ring_buffer import Ring, remember
from driftloop.infra.dashboard.rollouts import Rollouts
from driftloop.infra.dashboard.schema_changes import Deviations
from driftloop.infra.dashboard.views import Mark, Traffic
from driftloop.schemas import events
from driftloop.schemas.events import Event

MARKS, LOG, ALERTS = 200, 500, 50


class Story:
    """The log, open drift, versions and where the loop is; each event moves it on."""

    def __init__(self) -> None:
        self.marks: Ring[Mark] = Ring(MARKS)
        self.log: Ring[Line] = Ring(LOG)
        self.alerts: Ring[Line] = Ring(ALERTS)
        self.episodes = Episodes()
        self.deviations = Deviations()
        self.retrainings: dict[str, int] = {}
        self.rollouts = Rollouts()
        self.pipeline = loop_status.IDLE
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

    def apply(self, event: Event, said: Line, stamp: int) -> None:
        """Take in the next event."""
        self.log.add(stamp, said)
        self.rollouts.apply(event, said, stamp)
        match event:
            case events.DriftDetected():
                self.episodes.on_detected(event)
                mark = Mark(event.id, event.at, event.changed_at, event.kind.value, event.sentence)
                self.marks.add(stamp, mark)
            case events.DriftResolved():
                self.episodes.on_resolved(event)
            case events.ColumnsChanged():
                self.deviations.on_columns_changed(event)
            case events.AlertRaised():
                self.alerts.add(stamp, said)
            case events.RolloutPromoted() | events.RolloutRolledBack():
                self.episodes.only(self.rollouts.champion)
            case _:
                pass
        self._advance(event, said)

    def _advance(self, event: Event, said: Line) -> None:
        remember(self._effects_of, event.caused_by or "", None)
        if event.id not in self._effects_of:  # else it comes late: what it led to is known already
            self.pipeline = loop_status.after(self.pipeline, event, said)
        outcome = loop_status.RETRAINING_OUTCOMES.get(type(event))
        if outcome is not None:
            self.retrainings[outcome] = self.retrainings.get(outcome, 0) + 1

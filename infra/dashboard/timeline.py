"""What a model's decisions come to in their order, and where its loop of retraining and rollout is."""

from collections.abc import Mapping

from driftloop.infra.dashboard.drift_views import Deviations
from driftloop.infra.dashboard.episodes import Episodes
from driftloop.infra.dashboard.event_lines import Line, Tone
from driftloop.infra.dashboard.ring_buffer import Ring, remember
from driftloop.infra.dashboard.rollouts import Rollouts
from driftloop.infra.dashboard.views import Mark, Pipeline, Traffic
from driftloop.schemas import events
from driftloop.schemas.events import Event

IDLE = Pipeline("Idle", "plain", "nothing asked for yet", None, active=False)
WORDS: Mapping[type[events.Event], str] = {
    events.RetrainRequested: "Requested",
    events.RetrainRefused: "Refused",
    events.TrainingStarted: "Training",
    events.TrainingCompleted: "Trained v {event.version}",
    events.TrainingRefused: "No new version",
    events.TrainingFailed: "Failed",
    events.ModelRegistered: "Registered",
    events.ChallengerProven: "Proven v {event.version}",
    events.RolloutStarted: "Warming up",
    events.RolloutAdvanced: "Canary {event.weight} %",
    events.RolloutHeld: "Canary {event.weight} %",
    events.RolloutObstructed: "Obstructed",
    events.RolloutPromoted: "Promoted",
    events.RolloutRolledBack: "Rolled back",
    events.RolloutFailed: "Rollout failed",
}
ENDS = (
    events.RetrainRefused,
    events.TrainingRefused,
    events.TrainingFailed,
    events.ModelRegistered,  # from here on labels compare it, for as long as it takes
    events.RolloutPromoted,
    events.RolloutRolledBack,
    events.RolloutFailed,
)
RETRAINING_OUTCOMES: Mapping[type[events.Event], str] = {
    events.RetrainRequested: "requested",
    events.RetrainRefused: "refused by policy",
    events.TrainingCompleted: "completed",
    events.TrainingRefused: "refused by gate",
    events.TrainingFailed: "failed",
}


def _pipeline_after(pipeline: Pipeline, event: Event, said: Line) -> Pipeline:
    """Where the loop is after `event`; a refusal does not hide what is still going on."""
    word = WORDS.get(type(event))
    if word is None or (isinstance(event, events.RetrainRefused) and pipeline.active):
        return pipeline
    active = not isinstance(event, ENDS)
    tone: Tone = "info" if active and said.tone != "bad" else said.tone
    return Pipeline(word.format(event=event), tone, said.text.partition(";")[0], event.at, active)


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
        self.pipeline = IDLE
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
            self.pipeline = _pipeline_after(self.pipeline, event, said)
        outcome = RETRAINING_OUTCOMES.get(type(event))
        if outcome is not None:
            self.retrainings[outcome] = self.retrainings.get(outcome, 0) + 1

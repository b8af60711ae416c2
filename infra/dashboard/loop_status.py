"""Where the loop of retraining and rollout is, as one word."""

from collections.abc import Mapping

from driftloop.infra.dashboard.event_lines import Line, Tone
from driftloop.infra.dashboard.views import Pipeline
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


def after(pipeline: Pipeline, event: Event, said: Line) -> Pipeline:
    """Where the loop is after `event`; a refusal does not hide what is still going on."""
    word = WORDS.get(type(event))
    if word is None or (isinstance(event, events.RetrainRefused) and pipeline.active):
        return pipeline
    active = not isinstance(event, ENDS)
    tone: Tone = "info" if active and said.tone != "bad" else said.tone
    return Pipeline(word.format(event=event), tone, said.text.partition(";")[0], event.at, active)

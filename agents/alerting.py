"""Facts that a person should know, as alerts; channels and grouping come with the alert manager."""

from typing import Literal

from agents.reading import events
from schemas.events import (
    AlertRaised,
    AnyEvent,
    ColumnsChanged,
    DriftDetected,
    Event,
    RolloutFailed,
    RolloutPromoted,
    RolloutRolledBack,
    TrainingFailed,
)
from streams import topics
from streams.agent import WithoutEffects
from streams.chunks import Chunk
from streams.routes import Emitted

Severity = Literal["info", "warning", "critical"]


class AlertingAgent(WithoutEffects):
    """Remembers nothing: an alert's id follows from its cause."""

    name = "alerting"
    topics = (topics.DRIFT, topics.TRAINING, topics.DEPLOYMENT)

    def fresh(self) -> None:
        """There is no state."""

    def dump(self, state: None) -> bytes:
        """Nothing."""
        return b""

    def load(self, data: bytes) -> None:
        """Nothing."""

    def handle(self, state: None, chunk: Chunk) -> list[Emitted]:
        """An alert for each event that deserves one."""
        follows: list[Emitted] = []
        raised = [alert for event in events(chunk, follows) if (alert := alert_for(event)) is not None]
        return follows + raised


def alert_for(event: AnyEvent) -> AlertRaised | None:  # noqa: PLR0911  # a row a kind of event
    """What a person should be told about `event`, if anything."""
    match event:
        case DriftDetected():
            return _alert(event, "warning", event.sentence)
        case ColumnsChanged():
            return _alert(event, event.severity, event.sentence)
        case TrainingFailed():
            return _alert(event, "warning", f"training failed: {event.error}")
        case RolloutPromoted():
            return _alert(event, "info", f"version {event.version} is champion: {event.sentence}")
        case RolloutRolledBack():
            return _alert(event, "critical", f"version {event.version} was rolled back: {event.sentence}")
        case RolloutFailed():
            return _alert(event, "critical", f"version {event.version} can't be served: {event.error}")
        case _:
            return None


def _alert(cause: Event, severity: Severity, sentence: str) -> AlertRaised:
    return AlertRaised.following(cause, severity=severity, sentence=sentence)

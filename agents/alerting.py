"""Facts that a person should know, as alerts; channels and grouping come with the alert manager."""

from typing import Literal

import orjson

from driftloop.schemas import topics
from driftloop.schemas.events import (
    AlertRaised,
    ColumnsChanged,
    DeployRequested,
    DriftDetected,
    DriftKind,
    Event,
    RolloutFailed,
    RolloutPromoted,
    RolloutRolledBack,
    TrainingFailed,
)
from driftloop.schemas.messages import Output
from driftloop.streams.processing.agent import WithoutEffects
from driftloop.streams.processing.decoding import decode_events
from driftloop.streams.records import Chunk

Severity = Literal["info", "warning", "critical"]


State = dict[str, tuple[DriftKind, ...]]
"""Kinds of drift that nobody wants to be woken for, by model: the newest word about it counts."""


class AlertingAgent(WithoutEffects):
    """Remembers only what is muted: an alert's id follows from its cause."""

    name = "alerting"
    topics = (topics.DRIFT, topics.TRAINING, topics.DEPLOYMENT, topics.COMMANDS)

    def initial_state(self) -> State:
        """Nothing is muted."""
        return {}

    def dump(self, state: State) -> bytes:
        """JSON."""
        return orjson.dumps(state)

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        return {
            model: tuple(DriftKind(kind) for kind in muted)
            for model, muted in orjson.loads(data or b"{}").items()
        }

    def handle(self, state: State, chunk: Chunk) -> list[Output]:
        """An alert for each event that deserves one."""
        follows: list[Output] = []
        raised: list[Output] = []
        for event in decode_events(chunk, follows):
            if isinstance(event, DeployRequested):
                state[event.model] = event.muted
            elif _kind(event) not in state.get(event.model, ()):
                alert = alert_for(event)
                raised += [] if alert is None else [alert]
        return follows + raised


def _kind(event: Event) -> DriftKind | None:
    """Which kind of drift it tells of."""
    match event:
        case DriftDetected():
            return event.kind
        case ColumnsChanged():
            return DriftKind.COLUMNS
        case _:
            return None


def alert_for(event: Event) -> AlertRaised | None:  # noqa: PLR0911  # a row a kind of event
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

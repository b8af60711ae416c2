"""What a person should know."""

from typing import ClassVar, Literal

from driftloop.schemas import topics
from driftloop.schemas.events.envelope import Event

EVERY_MODEL = "*"
"""In place of a model, in an alert that concerns all of them (an agent that is behind)."""


class AlertRaised(Event):
    """Something a person should know."""

    kafka_topic: ClassVar = topics.ALERTS
    type: Literal["AlertRaised"] = "AlertRaised"
    severity: Literal["info", "warning", "critical"]
    sentence: str

"""All topics: how they are partitioned, and how long they keep what is on them.

Which messages a topic carries follows from the message classes (`messages.Message.kafka_topic`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # messages need topics, and no settings
    from driftloop.schemas.settings import KafkaSettings

DAY_MS = 24 * 3600 * 1000
MAX_MESSAGE_BYTES = 8_000_000
"""Room for a columnar batch of 10,000 wide rows or a detector's snapshot."""


class Plane(StrEnum):
    """Data is keyed by prediction id and spread wide; control is keyed by model and low in volume."""

    DATA = "data"
    CONTROL = "control"


@dataclass(frozen=True)
class Topic:
    """A topic; its name in Kafka begins with `kafka.prefix`."""

    name: str
    plane: Plane
    carries: str
    """What is on it and how it is keyed, for docs/topics.md."""
    retention_ms: int = 7 * DAY_MS
    broadcast: bool = False
    """Whether a message is written to every partition."""

    def partitions(self, kafka: "KafkaSettings") -> int:
        """How many partitions it is created with."""
        return kafka.data_partitions if self.plane is Plane.DATA else kafka.control_partitions

    def config(self) -> Mapping[str, str]:
        """Topic settings it is created with."""
        return {
            "retention.ms": str(self.retention_ms),
            "cleanup.policy": "delete",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }


PREDICTIONS = Topic("predictions", Plane.DATA, "predictions, by prediction id")
FEATURES = Topic("features", Plane.DATA, "feature rows, by prediction id")
LABELS = Topic("labels", Plane.DATA, "ground truth, by prediction id")
SUMMARIES = Topic("drift-summaries", Plane.CONTROL, "binned micro-batches of each partition, by model")
EXAMPLES = Topic("examples", Plane.DATA, "labelled examples with features, in the partition of their ids")
OUTCOMES = Topic("outcomes", Plane.CONTROL, "predictions joined with their labels, by model")
LOSSES = Topic("paired-losses", Plane.CONTROL, "losses of all versions on the same labelled rows, by model")
CANARY_SCORES = Topic("canary-scores", Plane.DATA, "what a canary's model scores by itself, by model")
POOLS = Topic(
    "pools", Plane.DATA, "versions that are scored, in every partition", 90 * DAY_MS, broadcast=True
)
METRICS = Topic("metrics", Plane.CONTROL, "measurements of windows, by model")
DRIFT = Topic("drift-events", Plane.CONTROL, "drift episodes and changed columns, by model", 90 * DAY_MS)
RETRAINING = Topic("retrain-requests", Plane.CONTROL, "retraining: requests, refusals, by model", 90 * DAY_MS)
TRAINING = Topic("training-events", Plane.CONTROL, "results of trainings, by model", 90 * DAY_MS)
MODELS = Topic("model-events", Plane.CONTROL, "versions and what labels prove of them, by model", 90 * DAY_MS)
DEPLOYMENT = Topic("deployment-events", Plane.CONTROL, "steps of rollouts, by model", 90 * DAY_MS)
COMMANDS = Topic("lifecycle-commands", Plane.CONTROL, "requests of a person, by model", 90 * DAY_MS)
ALERTS = Topic("alerts", Plane.CONTROL, "alerts to a person, by model", 90 * DAY_MS)
DEAD_LETTERS = Topic(
    "dead-letters", Plane.CONTROL, "messages that could not be handled, and why, by topic", 30 * DAY_MS
)

ALL = tuple(value for value in tuple(globals().values()) if isinstance(value, Topic))
"""In the order in which they are created and documented."""

EVENTS = (METRICS, DRIFT, RETRAINING, TRAINING, MODELS, DEPLOYMENT, COMMANDS, ALERTS)
"""Topics of the events that the lineage and the page read."""


def name_of(topic: Topic, kafka: "KafkaSettings") -> str:
    """The topic's name in this cluster."""
    return kafka.prefix + topic.name

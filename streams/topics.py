"""One table of all topics: what they carry, how they are partitioned, how long they keep it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from driftloop.schemas import events, records
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
    """A topic as this house knows it; the name in Kafka has the prefix of the settings before it."""

    name: str
    plane: Plane
    carries: str
    """For the documentation: what is on it and how it is keyed."""
    retention_ms: int = 7 * DAY_MS

    def partitions(self, kafka: KafkaSettings) -> int:
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
LOSSES = Topic("paired-losses", Plane.CONTROL, "losses of all versions on the same labelled rows, by model")
POOLS = Topic("pools", Plane.DATA, "PoolChanged, in every partition: which versions are scored", 90 * DAY_MS)
OUTCOMES = Topic("outcomes", Plane.CONTROL, "predictions that met their labels, by model")
METRICS = Topic(
    "metrics",
    Plane.CONTROL,
    "windows: DriftMeasured, PerformanceMeasured, PerformanceEstimated, TrafficMeasured, by model",
)
DRIFT = Topic(
    "drift-events", Plane.CONTROL, "DriftDetected, DriftResolved, ColumnsChanged, by model", 90 * DAY_MS
)
RETRAINING = Topic("retrain-requests", Plane.CONTROL, "RetrainRequested, RetrainRefused", 90 * DAY_MS)
TRAINING = Topic("training-events", Plane.CONTROL, "TrainingStarted/Completed/Refused/Failed", 90 * DAY_MS)
MODELS = Topic(
    "model-events",
    Plane.CONTROL,
    "ModelRegistered, ChallengerProven, ChallengerPassedOver, by model",
    90 * DAY_MS,
)
DEPLOYMENT = Topic("deployment-events", Plane.CONTROL, "Rollout..., by model", 90 * DAY_MS)
COMMANDS = Topic("lifecycle-commands", Plane.CONTROL, "DeployRequested, RolloutCommanded", 90 * DAY_MS)
ALERTS = Topic("alerts", Plane.CONTROL, "AlertRaised, by model", 90 * DAY_MS)
DEAD_LETTERS = Topic("dead-letters", Plane.CONTROL, "what could not be handled, and why", 30 * DAY_MS)

ALL = (
    PREDICTIONS,
    FEATURES,
    LABELS,
    SUMMARIES,
    EXAMPLES,
    OUTCOMES,
    LOSSES,
    POOLS,
    METRICS,
    DRIFT,
    RETRAINING,
    TRAINING,
    MODELS,
    DEPLOYMENT,
    COMMANDS,
    ALERTS,
    DEAD_LETTERS,
)

EVENTS = (METRICS, DRIFT, RETRAINING, TRAINING, MODELS, DEPLOYMENT, COMMANDS, ALERTS)
"""Topics that carry events with an envelope: the lineage and the page read these."""

OF_EVENT: Mapping[type[events.Event], Topic] = {
    events.DriftMeasured: METRICS,
    events.PerformanceMeasured: METRICS,
    events.PerformanceEstimated: METRICS,
    events.TrafficMeasured: METRICS,
    events.DriftDetected: DRIFT,
    events.DriftResolved: DRIFT,
    events.ColumnsChanged: DRIFT,
    events.RetrainRequested: RETRAINING,
    events.RetrainRefused: RETRAINING,
    events.TrainingStarted: TRAINING,
    events.TrainingCompleted: TRAINING,
    events.TrainingRefused: TRAINING,
    events.TrainingFailed: TRAINING,
    events.ModelRegistered: MODELS,
    events.DeployRequested: COMMANDS,
    events.RolloutCommanded: COMMANDS,
    events.RolloutStarted: DEPLOYMENT,
    events.RolloutPerformed: DEPLOYMENT,
    events.RolloutObstructed: DEPLOYMENT,
    events.RolloutAdvanced: DEPLOYMENT,
    events.RolloutHeld: DEPLOYMENT,
    events.RolloutPromoted: DEPLOYMENT,
    events.RolloutRolledBack: DEPLOYMENT,
    events.RolloutFailed: DEPLOYMENT,
    events.EvidenceMeasured: METRICS,
    events.AgreementMeasured: METRICS,
    events.ChallengerProven: MODELS,
    events.ChallengerPassedOver: MODELS,
    events.PoolChanged: POOLS,
    events.AlertRaised: ALERTS,
}

OF_RECORD: Mapping[type[records.Record], Topic] = {
    records.Prediction: PREDICTIONS,
    records.PredictionBatch: PREDICTIONS,
    records.FeatureRow: FEATURES,
    records.FeatureBatch: FEATURES,
    records.Label: LABELS,
    records.LabelBatch: LABELS,
}


def name_of(topic: Topic, kafka: KafkaSettings) -> str:
    """The topic's name in this cluster."""
    return kafka.prefix + topic.name

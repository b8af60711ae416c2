"""Arguments and results of the facade `MLOpsPipeline`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from driftloop.schemas.events import (
    DriftMeasured,
    GateEvidence,
    PerformanceEstimated,
    PerformanceMeasured,
    Resources,
)
from driftloop.schemas.records import Name


class Config(BaseModel):
    """Something a user writes: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelConfig(Config):
    """Which model, and how it is fitted."""

    name: Name
    algorithm: Name | None = None
    """Name of the trainer: `xgboost`, or one that `training.trainers` names. None: that of the champion, and
    of a first version `training.algorithm`."""
    task: Literal["binary", "regression"] = "binary"
    hyperparameters: Mapping[str, float | int | str | bool] = Field(default_factory=dict)
    """Of the algorithm, e.g. `{"max_depth": 6, "eta": 0.1}`."""


class DataConfig(Config):
    """What to train on: the labelled examples that the loop collected, or a Parquet or CSV file."""

    path: Path | None = None
    """A file with a label column, a time column and features; None takes the offline store."""
    label: str = "label"
    """Its label column (0/1, or a number)."""
    time: str = "at"
    """Its time column (UTC, ms or a timestamp)."""
    ignore: Sequence[str] = ()
    """Columns that are no features, ids above all."""
    rows: Annotated[int, Field(gt=0)] = 100_000
    """The newest rows, at most."""


class MonitoringSpecs(Config):
    """What to monitor; everything is on by default."""

    metrics: Sequence[Literal["latency", "throughput", "accuracy"]] = ("throughput", "accuracy")
    """All of it is measured in any case: latency by the replicas (`/metrics`), the others by the agents."""
    drift_detection: Mapping[
        Literal["feature_drift", "prediction_drift", "concept_drift", "columns_changed"], bool
    ] = {}
    """Whatever isn't named is on. What is off is measured and shown, but neither alerts nor retrains:
    `columns_changed` are columns that go missing, change their type or are new."""


class DeploymentConfig(Config):
    """How a version is to be served."""

    replicas: Annotated[int, Field(ge=1)] = 1
    resources: Resources = Field(default_factory=dict)
    """Per replica, as Kubernetes writes them: `{"cpu": "500m", "memory": "1Gi"}`. The local target sets no
    limits, so a rollout with resources fails there and says so."""
    monitoring_specs: MonitoringSpecs = MonitoringSpecs()


class TrainingResult(Config):
    """What a training led to."""

    model_id: str | None
    """`name:version` for `deploy_model`; None where the gate refused."""
    run_id: str | None
    metrics: Mapping[str, float]
    gate: GateEvidence


class DeploymentResult(Config):
    """What a deployment led to."""

    status: Literal["success", "failed"]
    deployment_id: str | None = None
    """For `monitor_model`: `name:version`."""
    endpoints: Sequence[str] = ()
    errors: Sequence[str] = ()


class MonitoringResult(Config):
    """The newest windows of a deployment; None where nothing was measured yet."""

    metrics: Mapping[str, float]
    drift: DriftMeasured | None
    performance: PerformanceMeasured | None
    estimated: PerformanceEstimated | None = None
    """What labels will say of the deployment's newest predictions."""


class ValidationResult(Config):
    """Whether something can be used, and every reason against it."""

    errors: Sequence[str] = ()

    @property
    def is_valid(self) -> bool:
        """No reason against it was found."""
        return not self.errors

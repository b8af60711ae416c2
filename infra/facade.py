"""`MLOpsPipeline(config)`: the whole system for a notebook or a script; a thin client of the events.

    mlops = MLOpsPipeline(config)
    trained = await mlops.train_model(ModelConfig(name="fraud"), DataConfig(path="history.parquet"))
    deployed = await mlops.deploy_model(trained.model_id, DeploymentConfig(replicas=2))
    seen = await mlops.monitor_model(deployed.deployment_id)

It speaks to a running system (`driftloop up`, or your cluster).
"""

import asyncio
import difflib
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from driftloop.infra.adapters.event_log import KafkaEventLog
from driftloop.infra.adapters.example_files import read_examples
from driftloop.infra.adapters.mlflow.registry import MLflowRegistry
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.infra.adapters.readers import reader_for
from driftloop.infra.wiring import plugins
from driftloop.mlops_core.data.validation import DataValidator
from driftloop.mlops_core.lifecycle import (
    ArtifactStore,
    DependencyTracker,
    ModelLifecycleManager,
    VersionController,
)
from driftloop.mlops_core.monitor import (
    AlertManager,
    DriftDetector,
    MetricCollector,
    ModelMonitor,
    PerformanceAnalyzer,
)
from driftloop.mlops_core.rollout.pipeline import (
    DeploymentMonitor,
    DeploymentPipeline,
    DeploymentValidator,
    ModelDeployer,
)
from driftloop.mlops_core.training.pipeline import (
    ExperimentTracker,
    FeatureStore,
    ModelRegistry,
    TrainingPipeline,
)
from driftloop.schemas.configs import (
    DataConfig,
    DeploymentConfig,
    DeploymentResult,
    ModelConfig,
    MonitoringResult,
    TrainingResult,
)
from driftloop.schemas.events import Event
from driftloop.schemas.settings import Settings, SettingsError

Result = TypeVar("Result")
PATIENCE = 300.0
"""Seconds `deploy_model` waits for a rollout to end; a first version needs a few, a canary needs labels."""


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Tracking(_Keys):
    tracking_uri: str | None = None


class _TrainingConfig(_Keys):
    experiment_tracking: _Tracking = _Tracking()


class _MonitoringConfig(_Keys):
    metrics_store: str = "prometheus"


class _DeploymentConfig(_Keys):
    monitoring_config: _MonitoringConfig = _MonitoringConfig()


class _Config(_Keys):
    """The mission's configuration; `settings` takes any group of driftloop's own settings."""

    training_config: _TrainingConfig = _TrainingConfig()
    deployment_config: _DeploymentConfig = _DeploymentConfig()
    settings: dict[str, dict[str, Any]] = {}


class MLOpsPipeline:
    """Train, deploy, monitor and manage models through the running system."""

    def __init__(self, config: Mapping[str, Any] | Settings) -> None:
        """Take settings, or a dict as the README shows it.

        Raises:
            SettingsError: a key that doesn't exist (with the nearest right one), or a value that can't be.
        """
        settings = config if isinstance(config, Settings) else settings_of(config)
        self.settings = settings
        reader = reader_for(settings.registry.tracking_uri)
        registry = ModelRegistry(reader)
        events = KafkaEventLog(settings.kafka, settings.publisher)
        self._store = ParquetStore(settings.store.folder)
        self.training_pipeline = TrainingPipeline(
            DataValidator(),
            FeatureStore(self._store),
            ExperimentTracker(events, settings.training.timeout + PATIENCE),
            registry,
        )
        self.deployment_pipeline = DeploymentPipeline(
            registry,
            DeploymentValidator(reader),
            ModelDeployer(events, plugins.target(settings), PATIENCE),
            DeploymentMonitor(),
        )
        self.model_monitor = ModelMonitor(
            MetricCollector(events), DriftDetector(), PerformanceAnalyzer(), AlertManager(events)
        )
        self.lifecycle_manager = ModelLifecycleManager(
            VersionController(reader),
            ArtifactStore(MLflowRegistry(settings.registry.tracking_uri)),
            DependencyTracker(),
            events,
            max(settings.retraining.windows),
        )

    async def train_model(self, model: ModelConfig, data: DataConfig) -> TrainingResult:
        """Train and register a version that waits for `deploy_model`.

        A file named by `data.path` becomes part of the model's offline store first.
        """
        if data.path is not None:
            segment, examples = await asyncio.to_thread(read_examples, data)
            await asyncio.to_thread(self._store.append, model.name, segment, examples)
        return await _in_thread(self.training_pipeline.train_model(model, data))

    async def deploy_model(self, model_id: str, config: DeploymentConfig) -> DeploymentResult:
        """Roll `name:version` out, and wait how it ends."""
        return await _in_thread(self.deployment_pipeline.deploy_model(model_id, config, _now()))

    async def monitor_model(self, deployment_id: str) -> MonitoringResult:
        """The newest windows of a deployment.

        Raises:
            NotFound: the registry has no such version; the message lists those that it has.
        """

        async def monitor() -> MonitoringResult:
            await self.deployment_pipeline.model_registry.get_model(deployment_id)
            return await self.model_monitor.monitor_model(deployment_id)

        return await _in_thread(monitor())

    async def manage_lifecycle(self, model_id: str, action: str) -> Event | None:
        """`rollback`, `archive` or `update`."""
        return await _in_thread(self.lifecycle_manager.manage_lifecycle(model_id, action, _now()))


async def _in_thread(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, run in a thread of its own: it reads the store and the registry, which blocks."""
    return await asyncio.to_thread(asyncio.run, work)


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Settings from the mission's configuration."""
    try:
        known = _Config.model_validate(dict(config))
    except ValidationError as error:
        raise SettingsError("\n".join(_explain_error(dict(one)) for one in error.errors())) from error
    groups: dict[str, Any] = dict(known.settings)
    uri = known.training_config.experiment_tracking.tracking_uri
    if uri is not None:
        http = "http://" + uri.removeprefix("mlflow://") if uri.startswith("mlflow://") else uri
        groups["registry"] = {"tracking_uri": http, **groups.get("registry", {})}
    return Settings.load(**groups)


_COMING = {
    "kubernetes_config": "this version serves on the local target only",
    "alert_channels": "alerts go to the `alerts` topic; channels are not there yet",
    "registry_uri": "the registry is the MLflow server that tracking_uri names",
}


def _explain_error(one: dict[str, Any]) -> str:
    where = [str(part) for part in one["loc"]]
    key = ".".join(where)
    if one["type"] != "extra_forbidden":
        return f"config: {key}: {one['msg']}"
    if where[-1] in _COMING:
        return f"config: {key}: {_COMING[where[-1]]}; leave it out"
    names = [name for kind in _Keys.__subclasses__() for name in kind.model_fields]
    near = difflib.get_close_matches(where[-1], names, n=1)
    return f"config: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _now() -> int:
    return int(time.time() * 1000)

"""DeploymentPipeline: find the version, check it, request a rollout, and wait for its end."""

from collections.abc import Sequence

from driftloop.mlops_core.errors import Conflict
from driftloop.mlops_core.ports import EventLog, ModelReader, Registered, Target
from driftloop.mlops_core.training.pipeline import ModelRegistry
from driftloop.schemas import ids
from driftloop.schemas.configs import DeploymentConfig, DeploymentResult, MonitoringSpecs, ValidationResult
from driftloop.schemas.events import (
    AlertRaised,
    DeployRequested,
    DriftKind,
    Event,
    ModelRegistered,
    RolloutFailed,
    RolloutPromoted,
    RolloutRolledBack,
)

_KINDS = {
    "feature_drift": DriftKind.FEATURE,
    "prediction_drift": DriftKind.PREDICTION,
    "concept_drift": DriftKind.CONCEPT,
    "columns_changed": DriftKind.COLUMNS,
}
"""Keys of `monitoring_specs.drift_detection` -> kinds of drift."""
ENDS = (RolloutPromoted, RolloutRolledBack, RolloutFailed)


class DeploymentValidator:
    """Checks that a version can be served and monitored."""

    def __init__(self, reader: ModelReader) -> None:
        self._reader = reader

    async def validate(self, model: Registered, config: DeploymentConfig) -> ValidationResult:
        """Every reason against the deployment; empty where there is none.

        Raises:
            NotFound: the registry has no such model or no reference profile of it.
        """
        errors = [f"{key} limits need the Kubernetes target" for key in config.resources]
        if model.tags.get("lifecycle") == "archived":
            errors.append(f"{model.model}:{model.version} is archived")
        self._reader.fitted(model.model, model.version)
        self._reader.profile(model.model, model.version)
        return ValidationResult(errors=errors)


class ModelDeployer:
    """Requests a rollout from the deployment agent."""

    def __init__(self, events: EventLog, target: Target, patience: float) -> None:
        """`patience`: seconds to wait for a rollout's end; its verdicts need live labels."""
        self._events = events
        self._target = target
        self._patience = patience

    async def deploy(
        self, model: Registered, config: DeploymentConfig, muted: Sequence[DriftKind], now: int
    ) -> Event:
        """The event that the rollout ended with. `now` (UTC, ms) is its time if the registration is unknown.

        Raises:
            Conflict: the rollout did not end within `patience` seconds; it continues in the agents.
        """
        request = await self.build_request(model, config, muted, now)
        await self._events.publish(request)
        ended = await self._events.first(lambda event: _ends(event, request), self._patience)
        if ended is None:
            raise Conflict(
                f"the rollout of {model.model}:{model.version} has not ended after {self._patience:g} s and "
                f"continues: it needs requests or labels, or the deployment agent isn't running; its id is "
                f"{request.id}"
            )
        return ended

    async def build_request(
        self, model: Registered, config: DeploymentConfig, muted: Sequence[DriftKind], now: int
    ) -> DeployRequested:
        """The request, caused by the version's registration where the event log has it."""
        history = await self._events.history(model.model, (ModelRegistered,))
        events = [event for event in history if isinstance(event, ModelRegistered)]
        known = next((event for event in events if event.version == model.version), None)
        return DeployRequested(
            id=ids.derive("deploy", model.model, model.version, now),
            at=now if known is None else known.at,
            model=model.model,
            caused_by=None if known is None else known.id,
            version=model.version,
            replicas=config.replicas,
            resources=config.resources,
            muted=tuple(muted),
        )

    async def endpoints(self, model: str) -> Sequence[str]:
        """Where clients reach the model."""
        return await self._target.endpoints(model)


class DeploymentMonitor:
    """Monitoring needs no set-up: the agents monitor every version that predicts."""

    async def setup_monitoring(self, specs: MonitoringSpecs) -> Sequence[DriftKind]:
        """The kinds of drift to mute: they are measured, but start no training and raise no alert."""
        return [_KINDS[name] for name, on in specs.drift_detection.items() if not on]


class DeploymentPipeline:
    """Loads a version, checks it, requests its rollout and waits for the end."""

    def __init__(
        self,
        model_registry: ModelRegistry,
        validator: DeploymentValidator,
        deployer: ModelDeployer,
        monitor: DeploymentMonitor,
    ) -> None:
        self.model_registry = model_registry
        self.validator = validator
        self.deployer = deployer
        self.monitor = monitor

    async def deploy_model(self, model_id: str, config: DeploymentConfig, now: int) -> DeploymentResult:
        """Roll `name:version` out; `now` in UTC, ms.

        Raises:
            NotFound: the registry has no such version. Conflict: the rollout did not end in time.
        """
        model = await self.model_registry.get_model(model_id)
        validation = await self.validator.validate(model, config)
        if not validation.is_valid:
            return DeploymentResult(status="failed", errors=validation.errors)
        muted = await self.monitor.setup_monitoring(config.monitoring_specs)
        ended = await self.deployer.deploy(model, config, muted, now)
        if isinstance(ended, AlertRaised):
            return DeploymentResult(status="failed", errors=[ended.sentence])
        if not isinstance(ended, RolloutPromoted):
            reason = getattr(ended, "error", "") or getattr(ended, "sentence", "")
            return DeploymentResult(status="failed", errors=[f"{type(ended).__name__}: {reason}"])
        endpoints = await self.deployer.endpoints(model.model)
        return DeploymentResult(status="success", deployment_id=model_id, endpoints=endpoints)


def _ends(event: Event, request: DeployRequested) -> bool:
    """Whether the event ends the requested rollout, or refuses it."""
    refused = isinstance(event, AlertRaised) and event.caused_by == request.id
    return refused or (isinstance(event, ENDS) and event.rollout == request.id)

"""DeploymentPipeline: find the version, check it, ask for a rollout, and wait how it ends."""

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
"""As the user names them."""
ENDS = (RolloutPromoted, RolloutRolledBack, RolloutFailed)


class DeploymentValidator:
    """Whether a version can be served and watched."""

    def __init__(self, reader: ModelReader) -> None:
        self._reader = reader

    async def validate(self, model: Registered, config: DeploymentConfig) -> ValidationResult:
        """Every reason against deploying it; the model and its reference profile must be readable."""
        errors = [f"{key} limits need the Kubernetes target" for key in config.resources]
        if model.tags.get("lifecycle") == "archived":
            errors.append(f"{model.model}:{model.version} is archived")
        self._reader.fitted(model.model, model.version)
        self._reader.profile(model.model, model.version)
        return ValidationResult(errors=errors)


class ModelDeployer:
    """Asks the deployment agent for a rollout. Locally the agent's target is replica processes."""

    def __init__(self, events: EventLog, target: Target, patience: float) -> None:
        """`patience`: seconds to wait for a rollout's end; its verdicts need live labels."""
        self._events = events
        self._target = target
        self._patience = patience

    async def deploy(
        self, model: Registered, config: DeploymentConfig, muted: Sequence[DriftKind], now: int
    ) -> Event:
        """The event that the rollout ended with. `now` counts where no event tells the data's own time.

        Raises:
            Conflict: it didn't end in time; it goes on all the same.
        """
        request = await self.build_request(model, config, muted, now)
        await self._events.publish(request)
        ended = await self._events.first(lambda event: _ends(event, request), self._patience)
        if ended is None:
            raise Conflict(
                f"the rollout of {model.model}:{model.version} is still under way after {self._patience:g} s "
                f"(it waits for labels, or the deployment agent isn't running); its id is {request.id}"
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
    """Monitoring needs no set-up of its own: agents watch every version that predicts."""

    async def setup_monitoring(self, specs: MonitoringSpecs) -> Sequence[DriftKind]:
        """Which kinds of drift the request for the rollout has to mute: measured, but nobody acts on them."""
        return [_KINDS[name] for name, on in specs.drift_detection.items() if not on]


class DeploymentPipeline:
    """Load, check, ask, wait."""

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
            NotFound: nobody registered it. Conflict: the rollout didn't end in time.
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
    """Whether it is how the rollout ended, or why there is none."""
    refused = isinstance(event, AlertRaised) and event.caused_by == request.id
    return refused or (isinstance(event, ENDS) and event.rollout == request.id)

"""TrainingPipeline: check the data, fit in a process of its own, register if the gate lets it through."""

from collections.abc import Sequence

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.validation import DataValidator
from driftloop.mlops_core.errors import DriftloopError, InvalidData
from driftloop.mlops_core.ports import EventLog, ExampleStore, ModelReader, Registered
from driftloop.mlops_core.training.requests import model_request
from driftloop.schemas.configs import DataConfig, ModelConfig, TrainingResult
from driftloop.schemas.events import (
    Event,
    RetrainRequested,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)

ENDS = (TrainingCompleted, TrainingRefused, TrainingFailed)


class TrainingFailure(DriftloopError):
    """A training process crashed; says how."""


class DataValidationError(InvalidData):
    """The data can't be trained on; carries every reason."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class FeatureStore:
    """Training features: the labelled examples that the loop collected."""

    def __init__(self, store: ExampleStore) -> None:
        self._store = store

    async def get_training_features(self, model: str, data: DataConfig) -> Examples:
        """The newest rows, as the training process will see them."""
        return self._store.newest(model, data.rows)


class ExperimentTracker:
    """Runs: the training agent carries each out in a process of its own, MLflow records it."""

    def __init__(self, events: EventLog, patience: float) -> None:
        """`patience`: seconds to wait for a run's end."""
        self._events = events
        self._patience = patience

    async def run(self, request: RetrainRequested) -> Event:
        """The event that the run ended with.

        Raises:
            TrainingFailure: it didn't end in time.
        """
        await self._events.publish(request)
        ended = await self._events.first(
            lambda event: isinstance(event, ENDS) and event.caused_by == request.id, self._patience
        )
        if ended is None:
            raise TrainingFailure(
                f"training {request.model}: no answer in {self._patience:g} s; is the training agent running?"
            )
        return ended


class ModelRegistry:
    """Registered versions, by `name:version`."""

    def __init__(self, reader: ModelReader) -> None:
        self._reader = reader

    async def get_model(self, model_id: str) -> Registered:
        """One version.

        Raises:
            NotFound: nobody registered it; says what there is.
        """
        return self._reader.version(*parse_model_id(model_id))


class TrainingPipeline:
    """Load, validate, fit, register: what a person asks for runs as what drift asks for."""

    def __init__(
        self,
        data_validator: DataValidator,
        feature_store: FeatureStore,
        experiment_tracker: ExperimentTracker,
        model_registry: ModelRegistry,
    ) -> None:
        self.data_validator = data_validator
        self.feature_store = feature_store
        self.experiment_tracker = experiment_tracker
        self.model_registry = model_registry

    async def train_model(self, model: ModelConfig, data: DataConfig) -> TrainingResult:
        """Train a challenger; it waits for `deploy_model`.

        Raises:
            DataValidationError: with every reason against the data.
            TrainingFailure: the training process crashed.
        """
        examples = await self.feature_store.get_training_features(model.name, data)
        validation = self.data_validator.validate(examples, model.task)
        if not validation.is_valid:
            raise DataValidationError(validation.errors)
        return _result(await self.experiment_tracker.run(_request(model, data, examples)))


def parse_model_id(model_id: str) -> tuple[str, str]:
    """`name:version` as a pair.

    >>> parse_model_id("fraud:12")
    ('fraud', '12')
    """
    name, _, version = model_id.rpartition(":")
    if not name or not version:
        raise InvalidData(f"a model id looks like 'name:version', not {model_id!r}")
    return name, version


def _request(model: ModelConfig, data: DataConfig, examples: Examples) -> RetrainRequested:
    newest = int(examples.labelled_at.max())
    return model_request(model, data.rows, newest, f"{data.model_dump_json()} {newest} {len(examples)}")


def _result(ended: Event) -> TrainingResult:
    match ended:
        case TrainingCompleted():
            model_id = f"{ended.model}:{ended.version}"
            return TrainingResult(
                model_id=model_id, run_id=ended.run_id, metrics=ended.metrics, gate=ended.gate
            )
        case TrainingRefused(gate=gate) if gate is not None:
            return TrainingResult(model_id=None, run_id=None, metrics={}, gate=gate)
        case TrainingRefused():
            raise DataValidationError([ended.reason])
        case TrainingFailed():
            raise TrainingFailure(f"training {ended.model}: {ended.error}")
        case _:
            raise TypeError(f"a training doesn't end with {type(ended).__name__}")

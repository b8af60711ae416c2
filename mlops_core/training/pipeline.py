"""TrainingPipeline: check the data, request a training, and wait for its end. Builds a person's requests."""

from collections.abc import Sequence

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.validation import DataValidator
from driftloop.mlops_core.errors import DriftloopError, InvalidData
from driftloop.mlops_core.ports import EventLog, ExampleStore, ModelReader, Registered
from driftloop.schemas import ids
from driftloop.schemas.configs import DataConfig, ModelConfig, TrainingResult
from driftloop.schemas.events import (
    Event,
    RetrainRequested,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)
from driftloop.schemas.records import Millis

ENDS = (TrainingCompleted, TrainingRefused, TrainingFailed)


class TrainingFailure(DriftloopError):
    """A training process crashed or did not end in time; the message says which and why."""


class DataValidationError(InvalidData):
    """The data can't be trained on; `errors` holds every reason."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class FeatureStore:
    """Training features: the labelled examples that the loop collected."""

    def __init__(self, store: ExampleStore) -> None:
        self._store = store

    async def get_training_features(self, model: str, data: DataConfig) -> Examples:
        """The newest `data.rows` labelled rows, ordered by `at`, as the training process will read them."""
        return self._store.newest(model, data.rows)


class ExperimentTracker:
    """Training runs: the training agent runs each in a process of its own and records it in MLflow."""

    def __init__(self, events: EventLog, patience: float) -> None:
        """`patience`: seconds to wait for a run's end."""
        self._events = events
        self._patience = patience

    async def run(self, request: RetrainRequested) -> Event:
        """The event that the run ended with.

        Raises:
            TrainingFailure: it did not end within `patience` seconds; it may still run.
        """
        await self._events.publish(request)
        ended = await self._events.first(
            lambda event: isinstance(event, ENDS) and event.caused_by == request.id, self._patience
        )
        if ended is None:
            raise TrainingFailure(
                f"training {request.model}: request {request.id} has not ended after {self._patience:g} s; "
                "check that the training agent runs"
            )
        return ended


class ModelRegistry:
    """Registered versions, by `name:version`."""

    def __init__(self, reader: ModelReader) -> None:
        self._reader = reader

    async def get_model(self, model_id: str) -> Registered:
        """One version.

        Raises:
            NotFound: the registry has no such version; the message lists those that it has.
        """
        return self._reader.version(*parse_model_id(model_id))


class TrainingPipeline:
    """Checks the data and requests a training; it runs like a training that drift requested."""

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
        """Train and register a challenger, which `deploy_model` rolls out; returns its id, metrics and gate.

        Raises:
            DataValidationError: the data can't be trained on; lists every reason.
            TrainingFailure: the training process crashed or did not end in time.
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
        raise InvalidData(f"a model id is 'name:version', for example 'fraud:12'; got {model_id!r}")
    return name, version


def challenger_request(model: str, rows: int, at: Millis) -> RetrainRequested:
    """A person's request for a challenger like the champion, which is rolled out once it is proven better.

    `at`: time of the data (UTC, ms); `rows`: the newest labelled rows to train on.
    """
    return RetrainRequested(
        id=ids.derive("retrain", model, rows, at),
        at=at,
        model=model,
        reason="a person requested a challenger",
        trigger="manual",
        rows=rows,
    )


def model_request(config: ModelConfig, rows: int, at: Millis, data: str) -> RetrainRequested:
    """A person's request for a version with the task and algorithm of `config`; `deploy_model` rolls it out.

    `data` identifies the data: the same configuration on the same data is the same request.
    """
    return challenger_request(config.name, rows, at).model_copy(
        update={
            "id": ids.derive("train", config.model_dump_json(), data),
            "reason": "a person requested a training",
            "task": config.task,
            "algorithm": config.algorithm,
            "hyperparameters": config.hyperparameters,
            "rollout": "manual",
        }
    )


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

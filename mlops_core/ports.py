"""Ports: interfaces that the decisions use and adapters in `infra` implement; each has a behaviour suite."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Column, FeatureSpec, Floats
from driftloop.mlops_core.data.profile import Profile
from driftloop.schemas.events import Event, GateEvidence, Resources, RetrainRequested


class Task(StrEnum):
    """What a model predicts."""

    BINARY = "binary"
    REGRESSION = "regression"


@dataclass(frozen=True)
class Fitted:
    """A model as a value, as the registry keeps it."""

    task: Task
    format: str
    """How `payload` is encoded: the name of the trainer whose `scorer` reads it, e.g. `xgboost`."""
    payload: bytes
    """Data, never a pickle: replicas and agents load it without running code that came with it."""
    features: FeatureSpec
    """The inputs, in order."""


class Scorer(Protocol):
    """A loaded model. A row's score does not depend on the rows beside it; may be called from threads."""

    def __call__(self, columns: Mapping[str, Column], rows: int) -> Floats:
        """Scores of shape (rows,): a probability of class 1, or a number. An absent column is all missing."""
        ...


class Trainer(Protocol):
    """Fits models of one format and loads them again.

    Bring your own, a class of `(rounds, threads)`, by naming it in the settings
    (`training.trainers: {name: module:class}`); `ModelConfig.algorithm` or `training.algorithm` chooses it.
    """

    def fit(self, examples: Examples, task: Task, hyperparameters: Mapping[str, object]) -> Fitted:
        """A model of the examples, whose `format` is the name of this trainer in the settings.

        Raises:
            InvalidData: a hyperparameter that it does not know or cannot take; the message says which.
        """
        ...

    def scorer(self, fitted: Fitted) -> Scorer:
        """The loaded model.

        Raises:
            ValueError: the payload cannot be read, or has other inputs than `fitted.features`.
        """
        ...


@runtime_checkable
class Explainer(Protocol):
    """A trainer that computes feature importances itself; for others they come from permuted columns."""

    def importance(self, fitted: Fitted, examples: Examples) -> Mapping[str, float]:
        """Share of each feature; the shares add up to 1."""
        ...


LoadScorer = Callable[[Fitted], Scorer]
"""Loads a model of any format that the settings name. Raises Unservable or ValueError."""


@dataclass(frozen=True)
class Candidate:
    """A challenger that is to be registered."""

    model: str
    fitted: Fitted
    profile: Profile
    gate: GateEvidence
    metrics: Mapping[str, float]
    request: str
    """Id of the request that it answers; registering the same request twice gives one version."""
    sample: NDArray[np.float32]
    """A few encoded rows, for the signature."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Registered:
    """A version in the registry."""

    model: str
    version: str
    run_id: str
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class ModelReader(Protocol):
    """Reads the registry. Raises NotFound (no such version) or Unavailable (it does not answer; retry)."""

    def fitted(self, model: str, version: str) -> Fitted:
        """The model itself."""
        ...

    def profile(self, model: str, version: str) -> Profile:
        """The reference profile: distributions of its training data."""
        ...

    def version(self, model: str, version: str) -> Registered:
        """One version."""
        ...

    def versions(self, model: str) -> Sequence[Registered]:
        """All versions, oldest first; empty for a model that is not registered."""
        ...

    def champion(self, model: str) -> str | None:
        """The version with the alias `champion`; None where there is none."""
        ...

    def models(self) -> Collection[str]:
        """The names of all registered models."""
        ...


class ModelWriter(Protocol):
    """Writes to the registry. Only training registers; only the deployment agent moves `champion`."""

    def register(self, candidate: Candidate) -> Registered:
        """A new version with the alias `challenger`; the same request again gives the same version."""
        ...

    def set_champion(self, model: str, version: str) -> None:
        """Make the version `champion`; the champion before becomes `previous`, `challenger` is removed."""
        ...

    def tag(self, model: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version, e.g. `lifecycle=rolled-back`."""
        ...


class ExampleStore(Protocol):
    """The offline store of labelled examples."""

    def append(self, model: str, segment: str, examples: Examples) -> None:
        """Write the examples atomically; a segment name that exists already changes nothing."""
        ...

    def newest(self, model: str, rows: int, since: int | None = None) -> Examples:
        """The `rows` newest examples by label time, not labelled before `since`; ordered by `at`."""
        ...

    def count(self, model: str) -> int:
        """Number of stored examples of the model."""
        ...

    def tend(self, model: str) -> None:
        """Do a bounded part of the due compaction and retention; called after each segment, never raises."""
        ...


class Target(Protocol):
    """Where versions are served. Each call states the desired state, so that repeating it is harmless.

    Raises Unavailable (it does not answer; retry) or Unservable (the version can't be served).
    """

    async def ensure(
        self, model: str, version: str, replicas: int, resources: Resources = MappingProxyType({})
    ) -> None:
        """Return once that many replicas of the version can score; they get no traffic before `shift`.

        `resources` are those of each replica. A target that can't give them raises Unservable.
        """
        ...

    async def shift(self, model: str, weights: Mapping[str, int]) -> None:
        """Split traffic: percent per version, 100 in all. No request is dropped by it."""
        ...

    async def blend(self, model: str, weights: Mapping[str, float], version: str | None = None) -> None:
        """Have scores averaged over versions, by weight; no weights: each version serves its own again.

        The versions need no replicas; at most 8 have weight. With `version`: only where that one serves, in
        place of the model's blend.
        """
        ...

    async def retire(self, model: str, version: str) -> None:
        """Stop the version's replicas once they get no traffic; an unknown version is no error."""
        ...

    async def endpoints(self, model: str) -> Sequence[str]:
        """Addresses at which clients reach the model."""
        ...


class EventLog(Protocol):
    """Publishes and reads events. Raises Unavailable where Kafka does not answer."""

    async def publish(self, event: Event) -> None:
        """Returns once Kafka has it."""
        ...

    async def first(self, wanted: Callable[[Event], bool], seconds: float) -> Event | None:
        """The first event, past ones included, that `wanted` accepts; None if none comes in time."""
        ...

    async def history(self, model: str, kinds: Sequence[type[Event]]) -> Sequence[Event]:
        """All events of these kinds about a model, those of a kind oldest first; reads each topic once."""
        ...


class Training(Protocol):
    """Runs one training; the same request again gives the same version."""

    async def run(self, request: RetrainRequested) -> Sequence[Event]:
        """The events at its end: completed and registered, refused, or failed."""
        ...

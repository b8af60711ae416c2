"""The control plane's accounts: each request trained once, each rollout ended, each end walked back."""

from collections import Counter
from collections.abc import Iterator, Sequence

from driftloop.infra.adapters.mlflow.reader import MLflowReader
from driftloop.mlops_core.lineage import Lineage
from driftloop.schemas.events import (
    Event,
    ModelRegistered,
    RetrainRequested,
    RolloutEvent,
    RolloutFailed,
    RolloutPromoted,
    RolloutRolledBack,
    RolloutStarted,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)

ENDS = (RolloutPromoted, RolloutRolledBack, RolloutFailed)
OUTCOMES = (TrainingCompleted, TrainingRefused, TrainingFailed)


def unfinished(known: Lineage) -> list[str]:
    """What still goes on: requests without an answer, open rollouts, versions whose turn comes next."""
    answered = {event.caused_by for kind in OUTCOMES for event in known.of_kind(kind)}
    ended = {event.rollout for event in _rollouts(known, *ENDS)}
    asked = [one for one in known.of_kind(RetrainRequested) if one.id not in answered]
    going = [one for one in _rollouts(known, RolloutStarted) if one.rollout not in ended]
    return [
        *(f"request {one.id} was not answered" for one in asked),
        *(f"rollout {one.rollout} of {one.model}:{one.version} has not ended" for one in going),
        *_next(known),
    ]


def complaints(known: Lineage, registry: MLflowReader, models: Sequence[str]) -> list[str]:
    """Everything that isn't as it should be, a sentence each."""
    return [*unfinished(known), *_twice(known), *_registrations(known, registry, models), *_chains(known)]


def _next(known: Lineage) -> Iterator[str]:
    """Of versions that wait for a rollout to end, the newest is rolled out; it passes over the others."""
    newest: dict[str, int] = {}
    for event in known.of_kind(ModelRegistered):
        if isinstance(event, ModelRegistered):
            newest[event.model] = max(newest.get(event.model, 0), int(event.version))
    begun = {(one.model, int(one.version)) for one in _rollouts(known, RolloutStarted)}
    yield from (f"{one[0]}:{one[1]} waits for its rollout" for one in newest.items() if one not in begun)


def _twice(known: Lineage) -> Iterator[str]:
    """Events have derived ids, so a second one with another id is a second training or end.

    A training that registers several versions is answered once for each window.
    """
    ended = [event for kind in (TrainingRefused, TrainingFailed) for event in known.of_kind(kind)]
    completed = [event for event in known.of_kind(TrainingCompleted) if isinstance(event, TrainingCompleted)]
    outcomes = Counter(event.caused_by for event in ended)
    outcomes.update({event.caused_by for event in completed})
    versions = Counter((event.model, event.version) for event in completed)
    yield from (
        f"{model}:{version} was completed {n} times" for (model, version), n in versions.items() if n > 1
    )
    yield from (f"request {id_} was answered {n} times" for id_, n in outcomes.items() if n > 1)
    ends = Counter(event.rollout for event in _rollouts(known, *ENDS))
    yield from (f"rollout {id_} ended {n} times" for id_, n in ends.items() if n > 1)


def _registrations(known: Lineage, registry: MLflowReader, models: Sequence[str]) -> Iterator[str]:
    for model in models:
        versions = registry.versions(model)
        answers = Counter(one.tags["request"] for one in versions)
        yield from (f"request {id_} has {n} versions in MLflow" for id_, n in answers.items() if n > 1)
        events = known.of_kind(ModelRegistered, model)
        told = {event.version for event in events if isinstance(event, ModelRegistered)}
        registered = {one.version for one in versions}
        if told != registered:
            yield f"{model}: versions {sorted(registered)} are in MLflow, {sorted(told)} in Kafka"


def _chains(known: Lineage) -> Iterator[str]:
    for end in _rollouts(known, *ENDS):
        beginning = known.back(end)[-1]
        if not isinstance(beginning, RetrainRequested) and beginning.caused_by is not None:
            last = f"{type(beginning).__name__} {beginning.id}"
            yield f"{type(end).__name__} of {end.version}: the way back ends at {last}"


def _rollouts(known: Lineage, *kinds: type[RolloutEvent]) -> list[RolloutEvent]:
    found: list[Event] = [event for kind in kinds for event in known.of_kind(kind)]
    return [event for event in found if isinstance(event, RolloutEvent)]

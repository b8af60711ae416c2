"""What is remembered: of each model the versions with the newest traffic, and the models that there are."""

from collections.abc import Collection, Sequence
from typing import TypeVar

from driftloop.mlops_core.ports import ModelReader

UNREGISTERED_MODELS = 64
"""Models that nobody registered of which a partition keeps rows. A model that is about to be registered is
among the newest of them; a client that makes up a name for each row pushes out its own."""
Known = TypeVar("Known")


def evict_oldest(
    known: dict[tuple[str, str], Known], model: str, most: int
) -> list[tuple[tuple[str, str], Known]]:
    """Let go of the model's versions beyond `most`; those of `known` (model, version) come newest last.

    Returns:
        Those that were let go.

    >>> known = {("a", "1"): 0, ("b", "1"): 0, ("a", "2"): 0, ("a", "3"): 0}
    >>> evict_oldest(known, "a", 2)
    [(('a', '1'), 0)]
    >>> list(known)
    [('b', '1'), ('a', '2'), ('a', '3')]
    """
    versions = [key for key in known if key[0] == model]
    return [(key, known.pop(key)) for key in versions[: max(len(versions) - most, 0)]]


class UnregisteredModels:
    """Models that nobody registered: a client can make up as many names as it likes."""

    def __init__(self, registry: ModelReader) -> None:
        self._registry = registry
        self._registered: frozenset[str] = frozenset()
        """As the registry answered last; decides only when to ask again."""

    def are_too_many(self, models: Collection[str]) -> bool:
        """Whether to ask the registry which models there are."""
        return len(models) > UNREGISTERED_MODELS and len(self._among(models)) > UNREGISTERED_MODELS

    def registered(self) -> Collection[str]:
        """The names of all registered models. Blocks. Raises Unavailable."""
        self._registered = frozenset(self._registry.models())
        return self._registered

    def _among(self, models: Collection[str]) -> Sequence[str]:
        return [model for model in models if model not in self._registered]


def evicted_models(models: Sequence[str], registered: Collection[str]) -> Sequence[str]:
    """Which of `models`, newest last, to give up: all that are not registered but the newest.

    Half as many stay as lead to the next question, so that not each new name asks the registry.
    """
    found = [model for model in models if model not in registered]
    return found[: max(len(found) - UNREGISTERED_MODELS // 2, 0)]

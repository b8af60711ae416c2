"""What is remembered: of each model the versions with the newest traffic, and the models that there are."""

from collections.abc import Sequence
from typing import TypeVar

from driftloop.mlops_core.ports import ModelReader

UNREGISTERED_MODELS = 64
"""Models that nobody registered of which a partition's rows are kept: a service that names one that is about
to be registered is among the newest of them, one that makes up a name a row pushes out its own."""
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
    """Models that nobody registered: anybody can make up as many as there are letters."""

    def __init__(self, registry: ModelReader) -> None:
        self._registry = registry
        self._registered: frozenset[str] = frozenset()

    def to_evict(self, models: Sequence[str]) -> Sequence[str]:
        """Which of `models`, heard of last at the end, are to be let go of; never one that is registered.

        The registry is asked only when there are too many that it wasn't known to have.

        Raises:
            Unavailable: it doesn't answer.
        """
        if len(self._unregistered(models)) <= UNREGISTERED_MODELS:
            return ()
        self._registered = frozenset(self._registry.models())
        found = self._unregistered(models)
        return found[: max(len(found) - UNREGISTERED_MODELS, 0)]

    def _unregistered(self, models: Sequence[str]) -> Sequence[str]:
        return [model for model in models if model not in self._registered]

"""Eviction: bounds the versions of a model and the unregistered models of which state is kept."""

from collections.abc import Collection, Sequence
from typing import TypeVar

from driftloop.mlops_core.ports import ModelReader

UNREGISTERED_MODELS = 64
"""Unregistered models of which a partition keeps rows. A model that is about to be registered is
among the newest of them; a client that makes up a name for each row pushes out its own."""
Known = TypeVar("Known")


def evict_oldest(
    known: dict[tuple[str, str], Known], model: str, most: int
) -> list[tuple[tuple[str, str], Known]]:
    """Remove the model's oldest versions beyond `most`; keys of `known` are (model, version), newest last.

    Returns:
        The removed entries.

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
        """The registry's last answer; it only decides when to ask again."""

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
    """The models to evict of `models` (newest last): unregistered ones except the newest 32.

    Half of `UNREGISTERED_MODELS` stay, so that not each new name causes a request to the registry.
    """
    found = [model for model in models if model not in registered]
    return found[: max(len(found) - UNREGISTERED_MODELS // 2, 0)]

"""Ports kept in memory, for tests: the suites that real adapters pass hold for these too."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from driftloop.infra.serving import blend
from driftloop.mlops_core.data.examples import Examples, backfill, concatenate
from driftloop.mlops_core.errors import Conflict, Unavailable, Unservable
from driftloop.schemas.events import Resources

_NO_EXAMPLES = backfill([], [], [], {})


class MemoryExampleStore:
    """`ports.ExampleStore` in memory."""

    def __init__(self) -> None:
        self._segments: dict[str, dict[str, Examples]] = {}

    def append(self, model: str, segment: str, examples: Examples) -> None:
        """Keep the segment, unless one of that name is there."""
        if len(examples):
            self._segments.setdefault(model, {}).setdefault(segment, examples)

    def newest(self, model: str, rows: int, since: int | None = None) -> Examples:
        """Of the `rows` newest by label time, not labelled before `since`, each id once; ordered by `at`."""
        examples = concatenate([_NO_EXAMPLES, *self._segments.get(model, {}).values()])
        newest = np.lexsort((-examples.at, -examples.labelled_at))
        if since is not None:
            newest = newest[examples.labelled_at[newest] >= since]
        place_of: dict[str, int] = {}
        for place in newest[: max(rows, 0)].tolist():
            place_of.setdefault(examples.ids[place], place)
        once = np.array(list(place_of.values()), dtype=np.int64)
        return examples[once[np.argsort(examples.at[once], kind="stable")]]

    def count(self, model: str) -> int:
        """Rows that were appended; a row of two segments counts twice."""
        return sum(len(examples) for examples in self._segments.get(model, {}).values())

    def tend(self, model: str) -> None:
        """Do nothing: memory needs no housekeeping."""


class MemoryTarget:
    """`ports.Target` in memory: what should serve is what serves, at once.

    `servable` has the versions per model that can be served; `versions`, `weights` and `blends` say what
    was asked for, per model.
    """

    def __init__(self, servable: Mapping[str, Collection[str]]) -> None:
        self._servable = servable
        self.versions: dict[str, dict[str, tuple[int, Resources]]] = {}
        """Model -> version -> replicas, and the resources of each."""
        self.weights: dict[str, Mapping[str, int]] = {}
        self.blends: dict[tuple[str, str | None], Mapping[str, float]] = {}
        """By model and version; None: the blend of all versions."""

    async def ensure(
        self, model: str, version: str, replicas: int, resources: Resources = MappingProxyType({})
    ) -> None:
        """Serve the version. Raises Unservable for one that isn't in `servable`."""
        known = self._servable.get(model, ())
        if version not in known:
            raise Unservable(f"{model}:{version} can't be served; servable: {', '.join(known) or 'none'}")
        self.versions.setdefault(model, {})[version] = replicas, dict(resources)

    async def shift(self, model: str, weights: Mapping[str, int]) -> None:
        """Split traffic. Raises Conflict for weights that aren't 100 in all, Unavailable without `ensure`."""
        if sum(weights.values()) != 100 or any(weight < 0 for weight in weights.values()):
            raise Conflict(f"weights of {model} must be 0 or more and add up to 100; got {dict(weights)}")
        for version, weight in weights.items():
            if weight:
                self._served(model, version)
        self.weights[model] = {version: weight for version, weight in weights.items() if weight}

    async def blend(self, model: str, weights: Mapping[str, float], version: str | None = None) -> None:
        """Average scores. Raises Conflict for weights that can't be, Unavailable without `ensure`."""
        self._served(model, version)
        try:
            self.blends[model, version] = blend.normalise(weights)
        except ValueError as error:
            raise Conflict(str(error)) from error

    async def retire(self, model: str, version: str) -> None:
        """Stop serving the version. Raises Conflict while it has traffic."""
        if weight := self.weights.get(model, {}).get(version, 0):
            raise Conflict(f"{model}:{version} still gets {weight} % of the traffic; move it away first")
        self.versions.get(model, {}).pop(version, None)

    async def endpoints(self, model: str) -> Sequence[str]:
        """An address for a model with versions; none otherwise."""
        return (f"memory://{model}",) if self.versions.get(model) else ()

    def _served(self, model: str, version: str | None) -> None:
        versions = self.versions.get(model, {})
        if not versions or (version is not None and version not in versions):
            raise Unavailable(f"{model}{f':{version}' if version else ''} is not served")

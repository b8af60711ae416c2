"""The other versions of a blend, in the process of the version that serves: loaded beside the answering.

The serving host has versions loaded before a blend with them takes effect. A version that isn't loaded then
is left out of the average, and counted. The registry is asked again after a while, so that it may be away and
come back.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

import numpy as np
from prometheus_client import CollectorRegistry, Counter

from driftloop.infra.serving.blend import MAX_VERSIONS
from driftloop.infra.serving.loading import Columns, Loaded
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.errors import Permanent, Temporary

AWAY_SECONDS = 2.0
"""Until a registry that was away is asked again."""
BROKEN_SECONDS = 60.0
"""Until a version that can't be loaded is tried again: somebody may repair it."""

log = logging.getLogger(__name__)


class Scorers:
    """Models of other versions, the least recently used of which is given up. Lives on the event loop.

    `load` is called in a thread; it raises Permanent or Temporary.
    """

    def __init__(self, version: str, load: Callable[[str], Loaded], registry: CollectorRegistry) -> None:
        self._version = version
        self._load = load
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, float] = {}
        """Versions that could not be loaded, and when to try again (monotonic seconds)."""
        self._turn = asyncio.Lock()
        """One model is loaded at a time: answering needs the processor, too."""
        self._missing = Counter(
            "driftloop_blend_missing",
            "Rows scored without a version of the blend, by that version",
            ["version"],
            registry=registry,
        )

    def blend(self, weights: Mapping[str, float], own: Floats, columns: Columns) -> Floats:
        """The average of the versions that are loaded, by weight; `own` are the scores of this version."""
        rows = len(own)
        mine = total = weights.get(self._version, 0.0)
        scores = mine * own
        for version, weight in weights.items():
            theirs = None if version == self._version else self._scores(version, columns, rows)
            if theirs is not None:
                scores += weight * theirs
                total += weight
        return scores / total if total else own

    async def prepare(self, versions: Collection[str]) -> list[str]:
        """Load these versions; returns those that are loaded, once no other is being loaded."""
        others = [version for version in versions if version != self._version]
        for version in others:
            if version in self._loaded:
                self._loaded.move_to_end(version)
            else:
                self._start_loading(version)
        loading = [self._loading[version] for version in others if version in self._loading]
        if loading:
            await asyncio.wait(loading)
        return [version for version in others if version in self._loaded]

    def close(self) -> None:
        """Stop loading."""
        for task in self._loading.values():
            task.cancel()

    def _scores(self, version: str, columns: Columns, rows: int) -> Floats | None:
        loaded = self._loaded.get(version)
        if loaded is None:
            self._start_loading(version)
        else:
            self._loaded.move_to_end(version)
            scores = loaded.score(columns, rows)
            if np.isfinite(scores).all():
                return scores
        self._missing.labels(version).inc(rows)
        return None

    def _start_loading(self, version: str) -> None:
        if version not in self._loading and time.monotonic() >= self._again.get(version, 0.0):
            self._loading[version] = task = asyncio.create_task(self._load_with_retries(version))
            task.add_done_callback(lambda done: self._on_loaded(version, done))

    async def _load_with_retries(self, version: str) -> None:
        async with self._turn:
            loaded = await asyncio.to_thread(self._load, version)
        self._loaded[version] = loaded
        if len(self._loaded) > MAX_VERSIONS:
            self._loaded.popitem(last=False)

    def _on_loaded(self, version: str, done: "asyncio.Task[None]") -> None:
        """Whatever went wrong, a bug included, costs the blend this version and no client its answer."""
        del self._loading[version]
        error = None if done.cancelled() else done.exception()
        if error is None:
            self._again.pop(version, None)
            return
        pause = AWAY_SECONDS if isinstance(error, Temporary) else BROKEN_SECONDS
        self._again[version] = time.monotonic() + pause
        trace = None if isinstance(error, Permanent | Temporary) else error
        fields = {"version": version, "again_in": pause, "reason": str(error)}
        log.warning("a version of the blend can't be loaded", extra=fields, exc_info=trace)

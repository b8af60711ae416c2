"""Loaded models of the versions that are compared, the least recently used of which is given up."""

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping

from driftloop.mlops_core.errors import Permanent
from driftloop.mlops_core.ports import LoadScorer, ModelReader, Scorer, Task

SCORERS = 64
"""Models in memory, a megabyte or so each."""


class ScorerCache:
    """Loads models from the registry. Partitions use it in several threads."""

    def __init__(self, registry: ModelReader, load_scorer: LoadScorer) -> None:
        self._registry = registry
        self._load_scorer = load_scorer
        self._lock = threading.Lock()
        self._scorers: OrderedDict[tuple[str, str], tuple[Task, Scorer]] = OrderedDict()
        self.loads = 0
        """Models that the registry gave."""

    def scorers(
        self, model: str, versions: Collection[str]
    ) -> tuple[Mapping[str, tuple[Task, Scorer]], Mapping[str, str]]:
        """Scorers by version, and why others have none. Raises Unavailable."""
        known: dict[str, tuple[Task, Scorer]] = {}
        unscored: dict[str, str] = {}
        for version in versions:
            try:
                known[version] = self._scorer(model, version)
            except (Permanent, ValueError) as error:
                unscored[version] = str(error).partition("\n")[0][:200]
        return known, unscored

    def _scorer(self, model: str, version: str) -> tuple[Task, Scorer]:
        key = model, version
        with self._lock:  # partitions resolve in several threads
            if key not in self._scorers:
                fitted = self._registry.fitted(model, version)
                self.loads += 1
                self._scorers[key] = fitted.task, self._load_scorer(fitted)
            self._scorers.move_to_end(key)
            while len(self._scorers) > SCORERS:
                self._scorers.popitem(last=False)
            return self._scorers[key]

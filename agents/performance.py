"""Stage two of labels, per model: outcomes of each version in windows, concept drift, estimates."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.errors import NotFound, Unavailable
from driftloop.mlops_core.eviction import UnregisteredModels, evicted_models
from driftloop.mlops_core.performance.windows import State, Windows, is_estimated
from driftloop.mlops_core.ports import ModelReader
from driftloop.schemas import topics
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import PerformanceSettings
from driftloop.schemas.summaries import Outcomes
from driftloop.streams import metrics
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Resolved, WithoutEffects
from driftloop.streams.processing.decoding import decode_stage, decode_summaries
from driftloop.streams.records import Chunk

AWAY_SECONDS = 10.0
"""Until a registry that didn't answer is asked again for versions to estimate: labels don't wait for it."""


@dataclass(frozen=True)
class Questions:
    """What a chunk asks the registry."""

    versions: Collection[tuple[str, str]]
    """Models and versions without an estimator."""
    crowded: bool
    """Whether to ask which models are registered."""


@dataclass(frozen=True)
class Answers:
    """What the registry answered."""

    profiles: Mapping[tuple[str, str], Profile] = field(default_factory=dict)
    registered: Collection[str] | None = None
    """All registered models; None where that was not asked."""


class PerformanceAgent(WithoutEffects):
    """Closes a window after so many labels, whatever versions answered them."""

    name = "performance"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.OUTCOMES, topics.SUMMARIES)

    def __init__(self, registry: ModelReader, settings: PerformanceSettings) -> None:
        self._windows = Windows(settings)
        self._registry = registry
        self._ask_after = 0.0
        """When to ask a registry again that didn't answer (monotonic seconds)."""
        self._strangers = UnregisteredModels(registry)

    def initial_state(self) -> State:
        """No model is watched."""
        return {}

    def dump(self, state: State) -> bytes:
        """Waiting rows and detectors by model."""
        return self._windows.dump(state)

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        return self._windows.load(data)

    def questions(self, state: State, chunk: Chunk) -> Questions | None:
        """Versions without an estimator; whether clients name too many models."""
        if chunk.topic == topics.SUMMARIES.name:
            summaries = [one.summary for _, one in decode_summaries(chunk, [], segments=False)]
            named = {(one.model, one.version) for one in summaries}
        else:
            outcomes = [rows for _, rows in decode_stage(chunk, Outcomes, [])]
            named = {(rows.model, version) for rows in outcomes for version in set(rows.versions)}
        away = time.monotonic() < self._ask_after
        new = set() if away else {key for key in named if not is_estimated(state, *key)}
        crowded = self._strangers.are_too_many({*state, *(model for model, _ in named)})
        return Questions(new, crowded) if new or crowded else None

    def resolve(self, questions: Questions, /) -> Resolved:
        """Their profiles, as far as the registry has them; the registered models."""
        profiles: dict[tuple[str, str], Profile] = {}
        for key in sorted(questions.versions):
            try:
                profiles[key] = self._registry.profile(*key)
            except NotFound:
                continue
            except Unavailable:
                self._ask_after = time.monotonic() + AWAY_SECONDS
                break
        registered = self._strangers.registered() if questions.crowded else None
        return Resolved(Answers(profiles, registered), bool(profiles) or registered is not None)

    def handle(self, state: State, chunk: Chunk) -> list[Output]:
        """Windows of labels or predictions that are full, and what they say."""
        follows: list[Output] = []
        answers = chunk.resolved if isinstance(chunk.resolved, Answers) else Answers()
        for (model, version), profile in answers.profiles.items():
            self._windows.admit(state, model, version, profile)
        if chunk.topic == topics.SUMMARIES.name:
            for _, one in decode_summaries(chunk, follows, segments=False):  # the whole has their rows
                follows += self._windows.on_summary(state, one)
            return follows
        at = 0
        for _, rows in decode_stage(chunk, Outcomes, follows):
            at = max(rows.labelled_at)
            follows += self._windows.on_outcomes(state, rows)
        registered = answers.registered
        for model in [] if registered is None else evicted_models(list(state), registered):
            follows += self._windows.evict(state, model, at)
            metrics.count_evicted_model(self.name, model)
        return follows

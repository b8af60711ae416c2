"""Stage two of labels, per model: outcomes of each version in windows, concept drift, estimates."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.microbatches import ROWS, UnpackedSummary
from driftloop.mlops_core.errors import NotFound, Unavailable
from driftloop.mlops_core.eviction import UnregisteredModels, evicted_models
from driftloop.mlops_core.performance.concept_tracker import Concepts, ConceptTracker, PredictionCounts
from driftloop.mlops_core.performance.estimates import Estimates, Estimators
from driftloop.mlops_core.performance.metrics import by_version
from driftloop.mlops_core.ports import ModelReader
from driftloop.schemas import ids, topics
from driftloop.schemas.events import Event, PerformanceMeasured, PostStratified
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


@dataclass
class ModelWindow:
    """One model's labelled rows."""

    labelled: int = 0
    waiting: list[Outcomes] = field(default_factory=list)
    """Rows of the window that isn't full yet."""
    predicted: PredictionCounts = field(default_factory=PredictionCounts)
    concepts: Concepts = field(default_factory=dict)
    estimators: Estimators = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(len(one.ids) for one in self.waiting)


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


State = dict[str, ModelWindow]
"""By model, the one that was heard of last at the end."""


class PerformanceAgent(WithoutEffects):
    """Closes a window after so many labels, whatever versions answered them."""

    name = "performance"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.OUTCOMES, topics.SUMMARIES)

    def __init__(self, registry: ModelReader, settings: PerformanceSettings) -> None:
        self._estimates, self._concept = Estimates(settings), ConceptTracker(settings)
        self._settings = settings
        self._registry = registry
        self._ask_after = 0.0
        """When to ask a registry again that didn't answer (monotonic seconds)."""
        self._strangers = UnregisteredModels(registry)

    def initial_state(self) -> State:
        """No model is watched."""
        return {}

    def dump(self, state: State) -> bytes:
        """Waiting rows and detectors by model."""
        return orjson.dumps({model: self._dump_window(one) for model, one in state.items()})

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        return {model: self._load_window(one) for model, one in orjson.loads(data).items()}

    def questions(self, state: State, chunk: Chunk) -> Questions | None:
        """Versions without an estimator; whether clients name too many models."""
        if chunk.topic == topics.SUMMARIES.name:
            summaries = [one.summary for _, one in decode_summaries(chunk, [], segments=False)]
            named = {(one.model, one.version) for one in summaries}
        else:
            outcomes = [rows for _, rows in decode_stage(chunk, Outcomes, [])]
            named = {(rows.model, version) for rows in outcomes for version in set(rows.versions)}
        away = time.monotonic() < self._ask_after
        new = set() if away else {key for key in named if not _is_estimated(state, *key)}
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
            self._estimates.admit(_window_of(state, model).estimators, version, profile)
        if chunk.topic == topics.SUMMARIES.name:
            for _, one in decode_summaries(
                chunk, follows, segments=False
            ):  # their rows are among those of the whole
                follows.extend(self._on_summary(_window_of(state, one.summary.model), one))
            return follows
        at = 0
        for _, rows in decode_stage(chunk, Outcomes, follows):
            at = max(rows.labelled_at)
            watched = _window_of(state, rows.model)
            watched.waiting.append(rows)
            while watched.rows >= self._settings.window_labels:
                follows.extend(self._close_window(watched, rows.model))
        registered = answers.registered
        for model in [] if registered is None else evicted_models(list(state), registered):
            follows.extend(self._concept.retire(state.pop(model).concepts, model, at))
            metrics.count_evicted_model(self.name, model)
        return follows

    def _close_window(self, watched: ModelWindow, model: str) -> list[Event]:
        window, watched.waiting = _cut(watched.waiting, self._settings.window_labels)
        watched.labelled += len(window.ids)
        poststratified = self._estimates.on_labels(watched.estimators, window)
        measured = _performance_measured(model, window, watched.labelled, poststratified)
        return [
            measured,
            *self._concept.on_labels(watched.concepts, window, measured, watched.predicted.rows),
        ]

    def _on_summary(self, watched: ModelWindow, one: UnpackedSummary) -> list[Event]:
        watched.predicted.add(one.summary.span, one.summary.batches * ROWS)
        return [
            *self._estimates.on_predictions(watched.estimators, one),
            *self._concept.on_predictions(watched.concepts, one.summary, watched.predicted),
        ]

    def _dump_window(self, watched: ModelWindow) -> Mapping[str, object]:
        return {
            "labelled": watched.labelled,
            "waiting": [rows.model_dump() for rows in watched.waiting],
            "predicted": watched.predicted.rows,
            "newest": watched.predicted.newest,
            "concepts": self._concept.dump(watched.concepts),
            "estimators": self._estimates.dump(watched.estimators),
        }

    def _load_window(self, fields: Mapping[str, Any]) -> ModelWindow:
        return ModelWindow(
            labelled=fields["labelled"],
            waiting=[Outcomes.model_validate(rows) for rows in fields["waiting"]],
            concepts=self._concept.load(fields["concepts"]),
            predicted=PredictionCounts(
                fields["predicted"],
                {place: (last, rows) for place, (last, rows) in fields["newest"].items()},
            ),
            estimators=self._estimates.load(fields["estimators"]),
        )


def _is_estimated(state: State, model: str, version: str) -> bool:
    return model in state and version in state[model].estimators


def _window_of(state: State, model: str) -> ModelWindow:
    """What is known of the model, which is now the newest."""
    state[model] = watched = state.pop(model, None) or ModelWindow()
    return watched


def _cut(waiting: list[Outcomes], rows: int) -> tuple[Outcomes, list[Outcomes]]:
    """The first `rows` rows as one, and the rest."""
    first, last = waiting[0], waiting[-1]
    columns = {
        name: [value for one in waiting for value in getattr(one, name)]
        for name in ("ids", "versions", "scores", "labels", "at", "labelled_at")
    }
    window = first.model_copy(update={name: values[:rows] for name, values in columns.items()})
    rest = last.model_copy(update={name: values[rows:] for name, values in columns.items()})
    return window, [rest] if rest.ids else []


def _arrays(window: Outcomes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.asarray(window.labels, dtype=np.float64)
    return labels, np.asarray(window.scores, dtype=np.float64), np.asarray(window.versions, dtype=object)


def _performance_measured(
    model: str, window: Outcomes, labelled: int, poststratified: Mapping[str, PostStratified]
) -> PerformanceMeasured:
    """Its times are those of the labels: a straggler's prediction may be old, its label is new."""
    since, until = _quartiles(window.labelled_at)
    return PerformanceMeasured(
        id=ids.derive(model, "performance", labelled, window.ids[-1]),
        at=until,
        model=model,
        since=since,
        until=until,
        rows=len(window.ids),
        labelled=labelled,
        versions=by_version(*_arrays(window)),
        spans=[window.span],
        poststratified=poststratified,
    )


def _quartiles(times: Sequence[int]) -> tuple[int, int]:
    """The first and the last quartile: one label from next year would hold up every rollout until then.

    >>> _quartiles([5, 3, 4, 31_536_000_000])
    (4, 5)
    """
    ordered, edge = sorted(times), len(times) // 4
    return ordered[edge], ordered[-1 - edge]

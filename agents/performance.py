"""Stage two of labels, per model: outcomes of each version in windows, concept drift, estimates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from driftloop.mlops_core.drift.microbatches import ROWS
from driftloop.mlops_core.drift.unpacked_summary import UnpackedSummary
from driftloop.mlops_core.eviction import UnregisteredModels
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
from driftloop.streams.processing.agent import WithoutEffects
from driftloop.streams.processing.decoding import decode_each, decode_summaries, stage_decoder
from driftloop.streams.records import Chunk


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


State = dict[str, ModelWindow]
"""By model, the one that was heard of last at the end."""


class PerformanceAgent(WithoutEffects):
    """Closes a window after so many labels, whatever versions answered them."""

    name = "performance"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.OUTCOMES, topics.SUMMARIES)

    def __init__(self, registry: ModelReader, settings: PerformanceSettings) -> None:
        self._estimates, self._concept = Estimates(registry, settings), ConceptTracker(settings)
        self._settings = settings
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

    def handle(self, state: State, chunk: Chunk) -> list[Output]:
        """Windows of labels or predictions that are full, and what they say."""
        follows: list[Output] = []
        if chunk.topic == topics.SUMMARIES.name:
            for _, one in decode_summaries(
                chunk, follows, segments=False
            ):  # their rows are among those of the whole
                follows.extend(self._on_summary(_window_of(state, one.summary.model), one))
            return follows
        at = 0
        for _, rows in decode_each(chunk, stage_decoder(Outcomes), follows):
            at = max(rows.labelled_at)
            watched = _window_of(state, rows.model)
            watched.waiting.append(rows)
            while watched.rows >= self._settings.window_labels:
                follows.extend(self._close_window(watched, rows.model))
        for model in self._strangers.to_evict(list(state)):
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
            # States from before predictions were looked at have none of these.
            predicted=PredictionCounts(
                fields.get("predicted", 0),
                {place: (last, rows) for place, (last, rows) in fields.get("newest", {}).items()},
            ),
            estimators=self._estimates.load(fields.get("estimators", {})),
        )


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

"""Labelled rows of each model, in windows of so many labels whatever versions answered them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.microbatches import ROWS, UnpackedSummary
from driftloop.mlops_core.performance.concept_tracker import Concepts, ConceptTracker, PredictionCounts
from driftloop.mlops_core.performance.estimates import Estimates, Estimators
from driftloop.mlops_core.performance.metrics import by_version
from driftloop.schemas import ids
from driftloop.schemas.events import Event, PerformanceMeasured, PostStratified
from driftloop.schemas.settings import PerformanceSettings
from driftloop.schemas.summaries import Outcomes


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


class Windows:
    """Closes windows, and looks for concept drift and at estimates with each."""

    def __init__(self, settings: PerformanceSettings) -> None:
        self._estimates, self._concept = Estimates(settings), ConceptTracker(settings)
        self._settings = settings

    def dump(self, state: State) -> bytes:
        """Waiting rows and detectors by model."""
        return orjson.dumps({model: self._dump_window(one) for model, one in state.items()})

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        return {model: self._load_window(one) for model, one in orjson.loads(data).items()}

    def admit(self, state: State, model: str, version: str, profile: Profile) -> None:
        """Estimate the version from now on."""
        self._estimates.admit(_window_of(state, model).estimators, version, profile)

    def on_outcomes(self, state: State, rows: Outcomes) -> list[Event]:
        """Windows that are full with these rows, and concept drift that opens or closes in them."""
        watched = _window_of(state, rows.model)
        watched.waiting.append(rows)
        follows: list[Event] = []
        while watched.rows >= self._settings.window_labels:
            follows += self._close_window(watched, rows.model)
        return follows

    def on_summary(self, state: State, one: UnpackedSummary) -> list[Event]:
        """Estimates for predictions that were summarised."""
        return self._on_summary(_window_of(state, one.summary.model), one)

    def evict(self, state: State, model: str, at: int) -> list[Event]:
        """Give up a model: its open episodes end, at the time `at`."""
        return self._concept.retire(state.pop(model).concepts, model, at)

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


def is_estimated(state: State, model: str, version: str) -> bool:
    """Whether the version has an estimator."""
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

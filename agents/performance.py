"""Stage two of labels, per model: outcomes of each version in windows, concept drift, estimates."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from agents.estimating import Estimates, Estimators
from agents.reading import decoded, staged
from mlops_core import performance
from mlops_core.drift.concept import ConceptAlarm, ConceptDrift
from mlops_core.ports import ModelReader, Task
from schemas import ids
from schemas.events import DriftDetected, DriftKind, Event, PerformanceMeasured, PostStratified
from schemas.settings import PerformanceSettings
from schemas.stages import DriftSummary, Outcomes
from streams import bases, topics
from streams.agent import WithoutEffects
from streams.chunks import Chunk
from streams.routes import Emitted

KEPT = 8
"""Versions whose errors are watched; older ones have no traffic any more."""


@dataclass
class Watched:
    """One model's labelled rows."""

    labelled: int = 0
    waiting: list[Outcomes] = field(default_factory=list)
    """Rows of the window that isn't full yet."""
    concepts: dict[str, ConceptDrift] = field(default_factory=dict)
    """By version."""
    estimators: Estimators = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(len(one.ids) for one in self.waiting)


State = dict[str, Watched]
"""By model."""


class PerformanceAgent(WithoutEffects):
    """Closes a window after so many labels, whatever versions answered them."""

    name = "performance"
    steps = bases.MANY_STEPS
    topics = (topics.OUTCOMES, topics.SUMMARIES)

    def __init__(self, registry: ModelReader, settings: PerformanceSettings) -> None:
        self._estimates = Estimates(registry, settings)
        self._settings = settings

    def fresh(self) -> State:
        """No model is watched."""
        return {}

    def dump(self, state: State) -> bytes:
        """Waiting rows and detectors by model."""
        return orjson.dumps({model: self._packed(one) for model, one in state.items()})

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        return {model: self._unpacked(one) for model, one in orjson.loads(data).items()}

    def handle(self, state: State, chunk: Chunk) -> list[Emitted]:
        """Windows of labels or predictions that are full, and what they say."""
        follows: list[Emitted] = []
        if chunk.topic == topics.SUMMARIES.name:
            for _, summary in decoded(chunk, staged(DriftSummary), follows):
                watched = state.setdefault(summary.model, Watched())
                follows.extend(self._estimates.expected(watched.estimators, summary))
            return follows
        for _, rows in decoded(chunk, staged(Outcomes), follows):
            watched = state.setdefault(rows.model, Watched())
            watched.waiting.append(rows)
            while watched.rows >= self._settings.window_labels:
                follows.extend(self._closed(watched, rows.model))
        return follows

    def _closed(self, watched: Watched, model: str) -> list[Event]:
        window, watched.waiting = _cut(watched.waiting, self._settings.window_labels)
        watched.labelled += len(window.ids)
        poststratified = self._estimates.learned(watched.estimators, window)
        measured = _measured(model, window, watched.labelled, poststratified)
        return [measured, *self._concepts(watched, window, measured)]

    def _concepts(self, watched: Watched, window: Outcomes, measured: PerformanceMeasured) -> list[Event]:
        labels, scores, versions = _arrays(window)
        at = np.asarray(window.at, dtype=np.int64)
        detected: list[Event] = []
        for version in measured.versions:
            rows = versions == version
            task = Task.BINARY if performance.classes(labels, scores) else Task.REGRESSION
            concept = watched.concepts.pop(version, None) or ConceptDrift(self._settings, task)
            watched.concepts[version] = concept  # newest last
            alarms = concept.update(labels[rows], scores[rows], at[rows])
            detected.extend(_detected(measured, version, alarm) for alarm in alarms[-1:])
        while len(watched.concepts) > KEPT:
            del watched.concepts[next(iter(watched.concepts))]
        return detected

    def _packed(self, watched: Watched) -> Mapping[str, object]:
        return {
            "labelled": watched.labelled,
            "waiting": [rows.model_dump() for rows in watched.waiting],
            "concepts": {v: base64.b64encode(one.dump()).decode() for v, one in watched.concepts.items()},
            "estimators": self._estimates.dump(watched.estimators),
        }

    def _unpacked(self, fields: Mapping[str, Any]) -> Watched:
        return Watched(
            labelled=fields["labelled"],
            waiting=[Outcomes.model_validate(rows) for rows in fields["waiting"]],
            concepts={
                version: ConceptDrift.load(base64.b64decode(data), self._settings)
                for version, data in fields["concepts"].items()
            },
            # States from before estimates were made have none.
            estimators=self._estimates.load(fields.get("estimators", {})),
        )


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


def _measured(
    model: str, window: Outcomes, labelled: int, poststratified: Mapping[str, PostStratified]
) -> PerformanceMeasured:
    """Its times are those of the labels: a straggler's prediction may be old, its label is new."""
    since, until = _quartiles(window.labelled_at)
    return PerformanceMeasured(
        id=ids.derived(model, "performance", labelled, window.ids[-1]),
        at=until,
        model=model,
        since=since,
        until=until,
        rows=len(window.ids),
        labelled=labelled,
        versions=performance.by_version(*_arrays(window)),
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


def _detected(measured: PerformanceMeasured, version: str, alarm: ConceptAlarm) -> DriftDetected:
    return DriftDetected.following(
        measured,
        id=ids.derived(measured.id, "DriftDetected", version),
        version=version,
        kind=DriftKind.CONCEPT,
        columns=[],
        severity=alarm.severity,
        changed_at=alarm.changed_at,
        sentence=alarm.sentence,
    )

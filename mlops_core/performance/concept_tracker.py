"""The half of the performance agent that listens for concept drift: a detector and its episodes a version."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from driftloop.mlops_core.drift.concept import ConceptAlarm, ConceptClosed, ConceptDrift, ConceptVerdict
from driftloop.mlops_core.performance import metrics
from driftloop.mlops_core.ports import Task
from driftloop.schemas import ids
from driftloop.schemas.events import DriftDetected, DriftKind, DriftResolved, Event, PerformanceMeasured, Span
from driftloop.schemas.settings import PerformanceSettings
from driftloop.schemas.summaries import DriftSummary, Outcomes

KEPT = 8
"""Versions whose errors are watched; older ones have no traffic any more."""
GONE = 32_768
"""Predictions of other versions, none of its own between, after which a version answers no more. One with 1 %
of the traffic fills 32 rows, without which nobody hears of it, once in 3,200 predictions on average."""


@dataclass
class PredictionCounts:
    """How many predictions of a model were summarised.

    A chunk is summarised version by version. So until the next one of its partition comes, those who seem to
    be missing in it may only be told of later: its rows are not `settled`.

    >>> predicted, span = PredictionCounts(), Span(topic="predictions", partition=0, first=0, last=99)
    >>> predicted.add(span, 5000)
    >>> predicted.rows, predicted.complete_rows
    (5000, 0)
    >>> predicted.add(span.model_copy(update={"first": 100, "last": 199}), 320)
    >>> predicted.rows, predicted.complete_rows
    (5320, 5000)
    """

    rows: int = 0
    newest: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By topic and partition: the last offset of the newest chunk, and how many rows it had so far."""

    def add(self, span: Span, rows: int) -> None:
        """A version's rows of the chunk that `span` is."""
        place = f"{span.topic}/{span.partition}"
        last, known = self.newest.get(place, (span.last, 0))
        self.newest[place] = span.last, rows + (known if last == span.last else 0)
        self.rows += rows

    @property
    def complete_rows(self) -> int:
        """Rows of chunks of which all versions were told."""
        return self.rows - sum(rows for _, rows in self.newest.values())


@dataclass
class VersionConcept:
    """One version's detector, and what its next events need to know."""

    concept: ConceptDrift
    detections: list[str] = field(default_factory=list)
    """Ids of the events that told of the open episode."""
    answered: int = 0
    """Predictions of the model when this version answered last, or when the episode began."""


Concepts = dict[str, VersionConcept]
"""By version, the one that got labels last at the end."""


class ConceptTracker:
    """What goes in and out of the detectors of a model.

    An alarm in an open episode is told too: it is evidence for the retraining policy, which may have refused
    the first.
    """

    def __init__(self, settings: PerformanceSettings) -> None:
        self._settings = settings

    def on_labels(
        self, known: Concepts, window: Outcomes, measured: PerformanceMeasured, predicted: int
    ) -> list[Event]:
        """Alarms and ends of episodes in a window of labels, after so many predictions of the model."""
        labels, scores = (np.asarray(one, dtype=np.float64) for one in (window.labels, window.scores))
        versions, at = np.asarray(window.versions, dtype=object), np.asarray(window.at, dtype=np.int64)
        task = Task.BINARY if metrics.is_classification(labels, scores) else Task.REGRESSION
        said: list[Event] = []
        for version in measured.versions:
            rows = versions == version
            own = known.pop(version, None) or VersionConcept(ConceptDrift(self._settings, task))
            known[version] = own  # newest last
            was_open = bool(own.detections)
            said += _events_of(
                own, version, measured, own.concept.update(labels[rows], scores[rows], at[rows])
            )
            own.answered = own.answered if was_open else predicted
        return said + _evict(known, measured)

    def on_predictions(
        self, known: Concepts, summary: DriftSummary, predicted: PredictionCounts
    ) -> list[Event]:
        """Ends of the episodes of versions that don't answer any more, after so many predictions."""
        if summary.version in known:
            known[summary.version].answered = predicted.rows
        said: list[Event] = []
        for version, own in known.items():
            if own.detections and predicted.complete_rows - own.answered >= GONE:
                own.concept.settle()
                at = max(last for _, last in summary.times)
                said += _drift_resolved(own, summary.model, version, at, f"version {version} answers no more")
        return said

    def retire(self, known: Concepts, model: str, at: int) -> list[Event]:
        """Ends of the episodes of a model that is let go of."""
        said: list[Event] = []
        for version, own in known.items():
            said += _drift_resolved(
                own, model, version, at, "nobody registered the model, and there are too many such"
            )
        return said

    def dump(self, known: Concepts) -> Mapping[str, object]:
        """Fit for JSON."""
        return {
            version: {
                "concept": base64.b64encode(one.concept.dump()).decode(),
                "detections": one.detections,
                "answered": one.answered,
            }
            for version, one in known.items()
        }

    def load(self, fields: Mapping[str, Any]) -> Concepts:
        """Back from `dump`, also from before there were episodes, when a version had a detector only."""
        whole: dict[str, dict[str, Any]] = {
            version: {"concept": one} if isinstance(one, str) else one for version, one in fields.items()
        }
        return {
            version: VersionConcept(
                ConceptDrift.load(base64.b64decode(one["concept"]), self._settings),
                one.get("detections", []),
                one.get("answered", 0),
            )
            for version, one in whole.items()
        }


def _events_of(
    own: VersionConcept, version: str, measured: PerformanceMeasured, verdicts: Sequence[ConceptVerdict]
) -> list[Event]:
    """One detection of a window's alarms, the last of them, before each end of an episode and after it."""
    said: list[Event] = []
    for verdict, following in pairwise([*verdicts, None]):
        match verdict:
            case ConceptAlarm() if not isinstance(following, ConceptAlarm):
                detected = _drift_detected(measured, version, verdict, len(said))
                own.detections.append(detected.id)
                said.append(detected)
            case ConceptAlarm():
                pass
            case ConceptClosed():
                said += _drift_resolved(own, measured.model, version, measured.at, verdict.sentence)
    return said


def _evict(known: Concepts, measured: PerformanceMeasured) -> list[Event]:
    """Versions of which others got labels since are let go, with their episodes."""
    said: list[Event] = []
    while len(known) > KEPT:
        version = next(iter(known))
        own = known.pop(version)
        said += _drift_resolved(
            own, measured.model, version, measured.at, f"version {version} gets no more labels"
        )
    return said


def _drift_detected(
    measured: PerformanceMeasured, version: str, alarm: ConceptAlarm, before: int
) -> DriftDetected:
    return DriftDetected.following(
        measured,
        id=ids.derive(measured.id, "DriftDetected", version, *([before] if before else [])),
        version=version,
        kind=DriftKind.CONCEPT,
        columns=[],
        severity=alarm.severity,
        changed_at=alarm.changed_at,
        sentence=alarm.sentence,
        rows=alarm.rows,
    )


def _drift_resolved(own: VersionConcept, model: str, version: str, at: int, sentence: str) -> list[Event]:
    """The end of everything that was told of the episode."""
    detections, own.detections = own.detections, []
    return [
        DriftResolved(
            id=ids.derive(detection, "DriftResolved"),
            at=at,
            model=model,
            caused_by=detection,
            version=version,
            kind=DriftKind.CONCEPT,
            columns=[],
            sentence=sentence,
        )
        for detection in detections
    ]

"""The half of the performance agent that looks at predictions without labels: an estimator a version."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftloop.mlops_core.data.profile import BINS_MAX, Profile
from driftloop.mlops_core.drift.estimation import Estimated, PerformanceEstimator
from driftloop.mlops_core.drift.microbatches import UnpackedSummary
from driftloop.mlops_core.ports import Task
from driftloop.schemas import ids
from driftloop.schemas.events import PerformanceEstimated, PostStratified
from driftloop.schemas.settings import PerformanceSettings
from driftloop.schemas.summaries import DriftSummary, Outcomes

KEPT = 8
"""Versions that are estimated; older ones have no traffic any more."""


@dataclass
class VersionEstimator:
    """One version's estimator, and where its predictions are in a summary."""

    estimator: PerformanceEstimator
    column: int
    """Place of the score among the columns."""
    origin: str = ""
    """The micro-batch that it began with, of which all its estimates follow; empty in older states."""

    def fits(self, one: UnpackedSummary) -> bool:
        """Whether a summary has a column there with as many bins as any can have."""
        return self.column < one.summary.columns and one.summary.bins == BINS_MAX


Estimators = dict[str, VersionEstimator]
"""By version, the one that was needed last at the end; none for a version that the registry doesn't know."""


class Estimates:
    """What goes in and out of the estimators of a model."""

    def __init__(self, settings: PerformanceSettings) -> None:
        self._settings = settings

    def admit(self, known: Estimators, version: str, profile: Profile) -> None:
        """Estimate the version from now on."""
        estimator = PerformanceEstimator(profile.score, self._settings, profile.held_out)
        known[version] = VersionEstimator(estimator, len(profile.features))
        while len(known) > KEPT:
            del known[next(iter(known))]

    def on_predictions(self, known: Estimators, one: UnpackedSummary) -> list[PerformanceEstimated]:
        """What labels will say about the predictions of a summary."""
        own = _newest(known, one.summary.version)
        if own is None or not own.fits(one):  # binned by another profile: registered anew
            return []
        if not own.estimator.predictions:
            own.origin = one.first_batch_id
        found = own.estimator.on_predictions(one.counts[:, own.column], one.times)
        return [_performance_estimated(one.summary, own.origin, window) for window in found]

    def on_labels(self, known: Estimators, window: Outcomes) -> Mapping[str, PostStratified]:
        """What labelled rows say of all predictions, per version; then the estimators learn from them."""
        labels, scores = (np.asarray(one, dtype=np.float64) for one in (window.labels, window.scores))
        versions = np.asarray(window.versions, dtype=object)
        found: dict[str, PostStratified] = {}
        for version in sorted(set(window.versions)):
            own = _newest(known, version)
            if own is not None:
                rows = versions == version
                weighted = own.estimator.poststratify(labels[rows], scores[rows])
                found |= {} if weighted is None else {version: weighted}
                own.estimator.learn(labels[rows], scores[rows])
        return found

    def dump(self, known: Estimators) -> Mapping[str, object]:
        """Fit for JSON."""
        return {
            version: {
                "column": one.column,
                "origin": one.origin,
                "state": base64.b64encode(one.estimator.dump()).decode(),
            }
            for version, one in known.items()
        }

    def load(self, fields: Mapping[str, Any]) -> Estimators:
        """Back from `dump`."""
        return {
            version: VersionEstimator(
                PerformanceEstimator.load(base64.b64decode(one["state"]), self._settings),
                one["column"],
                one["origin"],
            )
            for version, one in fields.items()
        }


def _newest(known: Estimators, version: str) -> VersionEstimator | None:
    """The version's estimator, which is now the one used last."""
    own = known.pop(version, None)
    if own is not None:
        known[version] = own
    return own


def _performance_estimated(summary: DriftSummary, origin: str, found: Estimated) -> PerformanceEstimated:
    return PerformanceEstimated(
        id=ids.derive(summary.model, summary.version, origin, "estimated", found.seen),
        at=found.until,
        model=summary.model,
        version=summary.version,
        rows=found.rows,
        since=found.since,
        until=found.until,
        labelled=found.labelled,
        error_rate=found.error if found.task is Task.BINARY else None,
        absolute_error=found.error if found.task is Task.REGRESSION else None,
        loss=found.loss,
        calibration_error=found.calibration_error,
        trusted=found.trusted,
        sentence=found.sentence,
    )

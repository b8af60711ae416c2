"""All of it on arrays, without Kafka: the detectors that the agents run, for a script or a notebook."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlops_core.data.features import Column, Floats
from mlops_core.data.profile import Profile
from mlops_core.drift.adwins import adwin
from mlops_core.drift.calibration import settled
from mlops_core.drift.concept import ConceptDrift, ConceptVerdict
from mlops_core.drift.detector import DetectorFactory
from mlops_core.drift.distribution import DistributionDrift, Verdict
from mlops_core.drift.microbatches import Summariser
from mlops_core.errors import BadData
from mlops_core.ports import Task
from schemas.events import EVERY_MODEL
from schemas.settings import DriftSettings, PerformanceSettings


@dataclass(frozen=True)
class Batch:
    """Predictions of one version, in the order in which they were made."""

    features: Mapping[str, Column]
    """Columns of shape (rows,); None, NaN and infinities are missing."""
    scores: Floats
    """What the model said, shape (rows,), finite."""
    at: NDArray[np.int64]
    """When (UTC, ms), shape (rows,)."""
    labels: Floats | None = None
    """The truth, shape (rows,), if it is known already; else `OnlineDrift.labelled` takes it later."""


class OnlineDrift:
    """Feature, prediction and concept drift of one model version.

    >>> from mlops_core.drift import Batch, OnlineDrift, Opened, Profile
    >>> rng = np.random.default_rng(11)
    >>> def flights(rows: int, visibility: float) -> Batch:
    ...     visib, late = rng.normal(visibility, 2, rows), rng.random(rows)
    ...     return Batch({"visib": visib}, scores=late, at=1_767_225_600_000 + 60_000 * np.arange(rows))
    >>> trained = flights(10_000, visibility=9)
    >>> drift = OnlineDrift(Profile.of(trained.features, trained.scores))
    >>> [found for found in drift.update(flights(2000, visibility=9)) if isinstance(found, Opened)]
    []
    >>> verdicts = drift.update(flights(2000, visibility=6))
    >>> [found.sentence for found in verdicts if isinstance(found, Opened)]
    ['visib moved down by 1.4 standard deviations (median 9.05 -> 6.03), 100 % of the drift']
    """

    def __init__(
        self,
        profile: Profile,
        task: Task = Task.BINARY,
        drift: DriftSettings | None = None,
        performance: PerformanceSettings | None = None,
        detector: DetectorFactory = adwin,
    ) -> None:
        """Compare with `profile`, the reference that training made or `Profile.of` makes of any rows."""
        self._profile, self._detector = profile, detector
        self._drift, _ = settled(drift or DriftSettings(), EVERY_MODEL, profile.watched)
        self._performance = performance or PerformanceSettings()
        self._summariser = Summariser(len(profile.columns))
        self.distribution = DistributionDrift(profile, self._drift, detector)
        self.concept = ConceptDrift(self._performance, task)

    def update(self, batch: Batch) -> list[Verdict | ConceptVerdict]:
        """Take in rows; returns windows, episodes that open or close, of the concept too, oldest first.

        How rows are cut into batches changes nothing. 32 rows are looked at together, so that up to 31 wait.

        Raises:
            BadData: columns of different lengths.
        """
        if len(batch.at) != len(batch.scores):
            raise BadData(f"{len(batch.scores)} scores have {len(batch.at)} times")
        bins = self._profile.bins(batch.features, batch.scores, len(batch.scores))
        found: list[Verdict | ConceptVerdict] = []
        found += self.distribution.update(*self._summariser.add(bins, batch.at, self._profile.pairs))
        if batch.labels is not None:
            found += self.labelled(batch.labels, batch.scores, batch.at)
        return found

    def labelled(self, labels: Floats, scores: Floats, at: NDArray[np.int64]) -> list[ConceptVerdict]:
        """Take in labels as they arrive, with the scores that they answer; arrays of shape (rows,)."""
        return self.concept.update(labels, scores, at)

    def state(self) -> Mapping[str, Any]:
        """Everything that is remembered, to go on elsewhere with `restored`; bytes and plain JSON."""
        return {
            "distribution": self.distribution.dump(),
            "concept": self.concept.dump(),
            "waiting": self._summariser.state(),
        }

    def restored(self, state: Mapping[str, Any]) -> Self:
        """Go on where `state` was taken, with the same profile and settings."""
        self.distribution = DistributionDrift.load(
            state["distribution"], self._profile, self._drift, self._detector
        )
        self.concept = ConceptDrift.load(state["concept"], self._performance)
        self._summariser = Summariser.restore(state["waiting"])
        return self

"""All of it on arrays, without Kafka: the detectors that the agents run, for a script or a notebook."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.any_column import plain_column, plain_columns
from driftloop.mlops_core.data.features import Column, numbers
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.adwin_bank import adwin
from driftloop.mlops_core.drift.calibration import settings_for_model
from driftloop.mlops_core.drift.concept import ConceptDrift, ConceptVerdict
from driftloop.mlops_core.drift.cusum_bank import CusumBank
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.verdicts import Verdict
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Task
from driftloop.schemas.events import EVERY_MODEL
from driftloop.schemas.settings import DriftSettings, PerformanceSettings

_OURS: Mapping[str, DetectorFactory] = {"adwin": adwin, "cusum": CusumBank}
"""What `drift.detector` may name here; any other is given as a factory."""
_PARTS = ("distribution", "concept", "waiting")
"""Of a state."""


@dataclass(frozen=True)
class Batch:
    """Predictions of one version, in the order in which they were made."""

    features: Mapping[str, Column]
    """Columns of shape (rows,); None, NaN and infinities are missing."""
    scores: Column
    """What the model said, shape (rows,); missing where it is not finite."""
    at: Column
    """When (UTC), shape (rows,): ms since 1970, or numpy's datetime64."""
    labels: Column | None = None
    """The truth, shape (rows,), if it is known already; else `OnlineDrift.labelled` takes it later."""


class OnlineDrift:
    """Feature, prediction and concept drift of one model version.

    >>> from driftloop.mlops_core.drift import Batch, OnlineDrift, Opened, Profile
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
        detector: DetectorFactory | None = None,
    ) -> None:
        """Compare with `profile`, the reference that training made or `Profile.of` makes of any rows.

        A season is learned by the profile (`mlops_core.data.season_profiles.learned`); segments are watched
        by the agents only. `detector` goes before the one that `drift.detector` names. A budget of false
        alarms that can't be promised is a UserWarning, as it is an alert of the agents; `calibration` says
        how it went.

        Raises:
            InvalidData: `drift.detector` names none of ours, and no `detector` is given.
            Conflict: a budget, for a detector of which nobody measured what its deltas promise.
        """
        asked = drift or DriftSettings()
        self._profile, self._detector = profile, detector or _ours(asked.detector)
        self._drift, self.calibration = settings_for_model(
            asked, EVERY_MODEL, profile.watched_series, self._detector
        )
        if self.calibration is not None and not self.calibration.kept:
            warnings.warn(self.calibration.sentence, stacklevel=2)
        self._performance = performance or PerformanceSettings()
        self._summariser = Summariser(len(profile.columns))
        self.distribution = DistributionDrift(profile, self._drift, self._detector)
        self.concept = ConceptDrift(self._performance, Task(task))

    def update(self, batch: Batch) -> list[Verdict | ConceptVerdict]:
        """Take in rows; returns windows, episodes that open or close, of the concept too, oldest first.

        How rows are cut into batches changes nothing. 32 rows are looked at together, so that up to 31 wait.

        Raises:
            InvalidData: columns of different lengths, values that are no features, or times that are none.
        """
        features = plain_columns(batch.features)
        scores, at = numbers(plain_column("scores", batch.scores)), _times(batch.at)
        if not len(at) == len(scores) == len(scores if batch.labels is None else batch.labels):
            labels = "no" if batch.labels is None else len(batch.labels)
            raise InvalidData(f"{len(scores)} scores have {len(at)} times and {labels} labels")
        bins = self._profile.bins(features, scores, len(scores))
        found: list[Verdict | ConceptVerdict] = []
        found += self.distribution.update(*self._summariser.add(bins, at, self._profile.pairs))
        if batch.labels is not None:
            found += self.update_labels(batch.labels, scores, at)
        return found

    def update_labels(self, labels: Column, scores: Column, at: Column) -> list[ConceptVerdict]:
        """Take in labels as they arrive, with the scores that they answer; all of shape (rows,)."""
        return self.concept.update(numbers(labels), numbers(scores), _times(at))

    def state(self) -> Mapping[str, Any]:
        """Everything that is remembered, to go on elsewhere with `restored`; bytes and plain JSON."""
        return {
            "distribution": self.distribution.dump(),
            "concept": self.concept.dump(),
            "waiting": self._summariser.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Go on where `state` was taken, with the same profile and settings.

        Raises:
            InvalidData: not what `state` returned, or of another profile; nothing has changed then.
        """
        missing = [part for part in _PARTS if part not in state]
        if missing:
            raise InvalidData(
                f"no state of an OnlineDrift: it has no {', '.join(missing)}; `state()` makes one"
            )
        try:
            waiting = Summariser.restore(state["waiting"])
            concept = ConceptDrift.load(state["concept"], self._performance)
            distribution = DistributionDrift.load(
                state["distribution"], self._profile, self._drift, self._detector
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"no state of an OnlineDrift: {error!r}; `state()` makes one") from error
        if waiting.columns != len(self._profile.columns):
            raise InvalidData(
                f"{waiting.columns} columns wait in the state, the profile has {len(self._profile.columns)}"
            )
        self.distribution, self.concept, self._summariser = distribution, concept, waiting
        return self


def _ours(name: str) -> DetectorFactory:
    if name not in _OURS:
        raise InvalidData(
            f"drift.detector: no {name!r} here; possible: {', '.join(_OURS)}, or give a `detector`"
        )
    return _OURS[name]


def _times(at: Column) -> NDArray[np.int64]:
    """Times as ms.

    >>> _times(np.array(["1970-01-01T00:00:01"], dtype="datetime64[ns]")), _times([5.0, 7])
    (array([1000]), array([5, 7]))
    """
    given = np.asarray(at)
    try:
        return (given.astype("datetime64[ms]") if given.dtype.kind == "M" else given).astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidData(
            f"at: whole numbers (ms since 1970) or datetime64 were expected: {error}"
        ) from error

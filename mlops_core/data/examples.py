"""Labelled examples: what a challenger learns from and is judged on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlops_core.data.features import Floats


@dataclass(frozen=True)
class Examples:
    """Predictions that met their labels, as columns of shape (rows,), ordered by `at`.

    A feature column is float64 (NaN is missing) or object (text, None is missing). A row that was
    never predicted (a backfill) has score NaN and version "".
    """

    ids: NDArray[np.object_]
    at: NDArray[np.int64]
    """When the prediction was made (UTC, ms)."""
    labels: Floats
    labelled_at: NDArray[np.int64]
    """When the label arrived (UTC, ms)."""
    scores: Floats
    versions: NDArray[np.object_]
    features: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Self:
        """The chosen rows."""
        return type(self)(
            ids=self.ids[rows],
            at=self.at[rows],
            labels=self.labels[rows],
            labelled_at=self.labelled_at[rows],
            scores=self.scores[rows],
            versions=self.versions[rows],
            features={name: column[rows] for name, column in self.features.items()},
        )

    def split(self, share: float) -> tuple[Self, Self]:
        """The older rows and the newest `share` of them."""
        cut = len(self) - int(np.ceil(len(self) * share))
        return self[:cut], self[cut:]


def backfill(
    ids: Sequence[str], at: Sequence[int], labels: Sequence[float], features: Mapping[str, NDArray[Any]]
) -> Examples:
    """Examples from history that no model of ours predicted."""
    times = np.asarray(at, dtype=np.int64)
    return Examples(
        ids=np.asarray(ids, dtype=object),
        at=times,
        labels=np.asarray(labels, dtype=np.float64),
        labelled_at=times,
        scores=np.full(len(times), np.nan),
        versions=np.full(len(times), "", dtype=object),
        features=features,
    )

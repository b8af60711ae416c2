"""Labelled examples: what a challenger learns from and is judged on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.categorical import Categorical
from driftloop.mlops_core.data.features import Column, Floats, categories, numbers, numbers_as_text
from driftloop.schemas.events import Span
from driftloop.schemas.summaries import LabelledExamples, Outcomes

ROWS_A_MESSAGE = 2_000
"""Joined rows in one message: 1 MB with 40 features."""


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

    def split_newest(self, share: float) -> tuple[Self, Self]:
        """The older rows and the newest `share` of them."""
        cut = len(self) - int(np.ceil(len(self) * share))
        return self[:cut], self[cut:]

    @classmethod
    def of(cls, rows: LabelledExamples) -> Self:
        """Back from `columns`; features without any text become float64."""
        return cls(
            ids=np.asarray(rows.ids, dtype=object),
            at=np.asarray(rows.at, dtype=np.int64),
            labels=np.asarray(rows.labels, dtype=np.float64),
            labelled_at=np.asarray(rows.labelled_at, dtype=np.int64),
            scores=np.asarray(rows.scores, dtype=np.float64),
            versions=np.asarray(rows.versions, dtype=object),
            features={name: column(values) for name, values in rows.features.items()},
        )

    def columns(self) -> dict[str, object]:
        """As plain lists, named as `driftloop.schemas.summaries.LabelledExamples` names them."""
        return {
            "ids": self.ids.tolist(),
            "versions": self.versions.tolist(),
            "scores": _plain(self.scores),
            "labels": self.labels.tolist(),
            "at": self.at.tolist(),
            "labelled_at": self.labelled_at.tolist(),
        }

    def feature_columns(self) -> dict[str, list[Any]]:
        """Features as plain lists; missing is None."""
        return {name: _plain(values) for name, values in self.features.items()}


def _plain(values: NDArray[Any]) -> list[Any]:
    """As a list in which missing is None; most columns miss nothing, and of text it is None already."""
    if values.dtype == object or not np.isnan(values).any():
        return list(values.tolist())
    return [None if value != value else value for value in values.tolist()]


def concatenate(parts: Sequence[Examples]) -> Examples:
    """All rows of `parts`, in their order; a feature that a part lacks is missing there.

    One that is text in any part is text in all, numbers as `features.spelled` has them.
    """
    names = dict.fromkeys(name for part in parts for name in part.features)
    return Examples(
        ids=np.concatenate([part.ids for part in parts]),
        at=np.concatenate([part.at for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        labelled_at=np.concatenate([part.labelled_at for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        versions=np.concatenate([part.versions for part in parts]),
        features={name: _concatenate_column(name, parts) for name in names},
    )


def column(values: Column) -> NDArray[Any]:
    """A feature's values as `Examples` keep them: float64, or object if there is any text.

    >>> column([1, None, True, float("inf")])
    array([ 1., nan,  1., nan])
    >>> column(["JFK", None, 3, float("nan")])
    array(['JFK', None, '3', None], dtype=object)
    """
    if isinstance(values, Categorical):
        return column(values.categories)[values.codes]
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "biuf":
            return numbers(values)
        values = values.tolist()
    kinds = set(map(type, values))
    if str not in kinds:
        return numbers(np.array(values, dtype=np.float64))
    if kinds <= {str, type(None)}:
        return np.array(values, dtype=object)
    finite = [None if type(v) is float and not np.isfinite(v) else v for v in values]
    return np.array(categories(finite), dtype=object)


def _concatenate_column(name: str, parts: Sequence[Examples]) -> NDArray[Any]:
    cells = [part.features.get(name, np.full(len(part), np.nan)) for part in parts]
    columns = [column(one) for one in cells]
    text = any(one.dtype == object for one in columns)
    return np.concatenate([numbers_as_text(one) if text and one.dtype != object else one for one in columns])


def backfill(
    ids: Sequence[str], at: Sequence[int], labels: Sequence[float], features: Mapping[str, Column]
) -> Examples:
    """Examples from history that no model of ours predicted; features as `column` takes them."""
    times = np.asarray(at, dtype=np.int64)
    return Examples(
        ids=np.asarray(ids, dtype=object),
        at=times,
        labels=np.asarray(labels, dtype=np.float64),
        labelled_at=times,
        scores=np.full(len(times), np.nan),
        versions=np.full(len(times), "", dtype=object),
        features={name: column(values) for name, values in features.items()},
    )


def joined_messages(model: str, span: Span, rows: Examples) -> Iterator[LabelledExamples | Outcomes]:
    """Rows that met their labels, as messages of `ROWS_A_MESSAGE` rows: with features, then without.

    `span` are the records that the newest of them came with. The columns are not validated again.
    """
    for first in range(0, len(rows), ROWS_A_MESSAGE):
        part = rows[first : first + ROWS_A_MESSAGE]
        columns: dict[str, Any] = {"model": model, "span": span, **part.columns()}
        yield LabelledExamples.model_construct(**columns, features=part.feature_columns())
        yield Outcomes.model_construct(**columns)

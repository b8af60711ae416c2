"""Whether data can be trained on at all; every reason against it, not only the first."""

from collections.abc import Iterator

import numpy as np

from driftloop.mlops_core.data.examples import Examples
from driftloop.schemas.configs import ValidationResult
from driftloop.schemas.settings import TRAINING_ROWS

MIN_OF_CLASS = 10
"""Fewer rows of a class can't be learned or compared."""


class DataValidator:
    """The checks of this version; schema, ranges and leakage come with the training issue."""

    def __init__(self, min_rows: int = TRAINING_ROWS) -> None:
        self._min_rows = min_rows

    def validate(self, examples: Examples, task: str) -> ValidationResult:
        """Every reason against training on `examples`."""
        return ValidationResult(errors=list(_reasons(examples, task, self._min_rows)))


def _reasons(examples: Examples, task: str, min_rows: int) -> Iterator[str]:
    if len(examples) < min_rows:
        yield f"{len(examples)} labelled rows; at least {min_rows} are needed"
        return
    if not examples.features:
        yield "no features: the predictions came without any, and no feature rows had their ids"
    if not np.isfinite(examples.labels).all():
        yield f"{int((~np.isfinite(examples.labels)).sum())} labels are no finite numbers"
    if task == "binary":
        yield from _classes(examples)
    elif float(np.ptp(examples.labels)) == 0:
        yield f"the label is always {examples.labels[0]:g}"
    yield from (
        f"feature {name!r} is missing in every row" for name in examples.features if _empty(examples, name)
    )


def _classes(examples: Examples) -> Iterator[str]:
    values, counts = np.unique(examples.labels, return_counts=True)
    if not set(values) <= {0.0, 1.0}:
        yield f"labels of a class are 0 or 1; found {', '.join(f'{value:g}' for value in values[:5])}"
    elif len(values) < 2 or counts.min() < MIN_OF_CLASS:
        found = ", ".join(f"{count} of {value:g}" for value, count in zip(values, counts, strict=True))
        yield f"at least {MIN_OF_CLASS} rows of each class are needed; there are {found}"


def _empty(examples: Examples, name: str) -> bool:
    column = examples.features[name]
    return all(value is None or value != value for value in column.tolist())

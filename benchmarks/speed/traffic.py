"""The rows that are measured: 20 features by the definition of the goals, as records and as messages."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from driftloop.mlops_core.data.features import Column
from driftloop.mlops_core.data.profile import Profile
from driftloop.schemas.records import Label, LabelBatch, Prediction, PredictionBatch

MODEL, VERSION = "bench", "1"
REFERENCE_ROWS = 10_000
LABEL_DELAY_MS = 60_000
MESSAGE_ROWS = 500
"""Rows of a columnar message, as the Publisher's default has it."""


BASE_ROWS = 100_000
"""Rows that `lasting` traffic is made of."""


@dataclass(frozen=True)
class Traffic:
    """What is to be published: as many rows as `rows` says."""

    rows: int
    records: Iterable[Prediction | PredictionBatch | LabelBatch]
    models: int = 1


def columns(rows: int, features: int = 20, seed: int = 7) -> dict[str, Column]:
    """Of ten features seven are numbers, one has missing values, two are categories."""
    random = np.random.default_rng(seed)
    found: dict[str, Column] = {}
    for number in range(features):
        kind = number % 10
        if kind >= 8:
            found[f"c{number}"] = random.choice(np.array(list("abcdef"), dtype=object), rows)
        else:
            values = random.normal(size=rows).round(3)
            if kind == 7:
                values[random.random(rows) < 0.1] = np.nan
            found[f"n{number}"] = values
    return found


def profile(features: int = 20) -> Profile:
    """The reference that the rows are compared with: more of the same."""
    scores = np.random.default_rng(1).random(REFERENCE_ROWS)
    return Profile.of(columns(REFERENCE_ROWS, features, seed=8), scores)


def single_events(rows: int) -> Traffic:
    """Rows that travel one by one."""
    return Traffic(rows, singles(rows))


def columnar(rows: int, partitions: int = 4, features: int = 20, models: Sequence[str] = (MODEL,)) -> Traffic:
    """Rows that travel `MESSAGE_ROWS` a message, once they are split over the partitions; models in turn."""
    every = batches(rows, MESSAGE_ROWS * partitions, features)
    turns = (
        record.model_copy(update={"model": model})
        for record, model in zip(every, cycle(models), strict=False)
    )
    return Traffic(rows, turns, len(models))


def lasting(rows: int, partitions: int) -> Traffic:
    """Like `columnar`, without holding all rows in memory: the same values again, with ids of their own."""

    def made() -> Iterator[PredictionBatch]:
        first = 0
        for base in cycle(list(batches(BASE_ROWS, MESSAGE_ROWS * partitions))):
            if first >= rows:
                return
            numbers = range(first, first + len(base.ids))
            first = numbers.stop
            yield base.model_copy(update={"ids": [f"id-{number}" for number in numbers], "at": list(numbers)})

    return Traffic(rows, made())


def batches(rows: int, size: int, features: int = 20) -> Iterator[PredictionBatch]:
    """Predictions, `size` of them a batch."""
    every = columns(rows, features)
    scores = np.random.default_rng(2).random(rows).round(4)
    for first in range(0, rows, size):
        part = slice(first, min(first + size, rows))
        numbers = range(*part.indices(rows))
        yield PredictionBatch(
            model=MODEL,
            version=VERSION,
            ids=[f"id-{number}" for number in numbers],
            at=list(numbers),
            scores=scores[part].tolist(),
            features={name: plain(values[part]) for name, values in every.items()},
        )


def singles(rows: int) -> Iterator[Prediction]:
    """Predictions, one by one."""
    for batch in batches(rows, 1000):
        names = list(batch.features)
        values: Any = zip(*batch.features.values(), strict=True)
        for id_, at, score, row in zip(batch.ids, batch.at, batch.scores, values, strict=True):
            features: Mapping[str, Any] = dict(zip(names, row, strict=True))
            yield Prediction(model=MODEL, version=VERSION, id=id_, at=at, score=score, features=features)


def label_batches(rows: int, size: int) -> Iterator[LabelBatch]:
    """The labels of `batches`, a minute later."""
    for first in range(0, rows, size):
        numbers = range(first, min(first + size, rows))
        yield LabelBatch(
            model=MODEL,
            ids=[f"id-{number}" for number in numbers],
            at=[number + LABEL_DELAY_MS for number in numbers],
            labels=[float(number % 2) for number in numbers],
        )


def labels(rows: int) -> Iterator[Label]:
    """The labels of `singles`."""
    for batch in label_batches(rows, 1000):
        for id_, at, label in zip(batch.ids, batch.at, batch.labels, strict=True):
            yield Label(model=MODEL, id=id_, at=at, label=label)


def plain(values: Any) -> list[Any]:
    """A column as JSON has it: missing is null."""
    return [None if value != value else value for value in values.tolist()]

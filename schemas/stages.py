"""What the first stage of an agent hands to the second: per partition in, per model out."""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schemas import columns as column
from schemas.events import Part, Span
from schemas.records import Millis, Name, Value

Texts = Annotated[Sequence[str], column.text(Sequence[str])]
Numbers = Annotated[Sequence[float], column.finite(Sequence[float])]
Scores = Annotated[Sequence[float | None], column.numbers(Sequence[float | None])]
Times = Annotated[Sequence[Millis], column.whole(Sequence[Millis], 1 << 53)]
Values = Annotated[Sequence[Value], column.scalars(Sequence[Value])]


class DriftSummary(Part):
    """Binned micro-batches of 32 rows that one partition saw of one version."""

    model: Name
    version: Name
    segment: str = ""
    """The segment whose rows these are, as `country=FR`; empty for all rows."""
    span: Span
    """The records that completed these micro-batches."""
    batches: int
    columns: int
    bins: int
    counts: str
    """(batches, columns, bins) counts as uint8: zlib, base64. Sparse, so about 5 bytes a row."""
    times: Sequence[tuple[Millis, Millis]]
    """First and last `at` of each micro-batch, without rows far from most."""
    deviations: Mapping[str, Literal["missing", "extra", "retyped"]] = Field(default_factory=dict)
    """Columns that are not as in training, in all rows of the chunk that completed these micro-batches; new
    ones in most."""
    sums: str = ""
    """Sums over groups of 256 rows that these micro-batches completed, as int32: zlib, base64."""
    ends: Sequence[int] = ()
    """Which of the micro-batches, counted from 1, completed each group."""
    since: Sequence[Millis] = ()
    """Earliest `at` of each group."""

    @classmethod
    def of(
        cls, model: str, version: str, span: Span, counts: NDArray[np.uint8], times: NDArray[np.int64]
    ) -> Self:
        """Pack `counts` of shape (batches, columns, bins) and `times` of shape (batches, 2)."""
        batches, columns, bins = counts.shape
        return cls(
            model=model,
            version=version,
            span=span,
            batches=batches,
            columns=columns,
            bins=bins,
            counts=b64encode(zlib.compress(counts.tobytes(), 1)).decode(),
            times=[(int(first), int(last)) for first, last in times],
        )

    def grouped(self, sums: NDArray[np.int64], ends: NDArray[np.int64], since: NDArray[np.int64]) -> Self:
        """The same with sums of shape (groups, width), and ends and beginnings of shape (groups,)."""
        if not len(sums):
            return self
        packed = b64encode(zlib.compress(sums.astype("<i4").tobytes(), 1)).decode()
        return self.model_copy(update={"sums": packed, "ends": ends.tolist(), "since": since.tolist()})

    def groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Back from `grouped`."""
        flat = np.frombuffer(zlib.decompress(b64decode(self.sums)), dtype="<i4") if self.sums else np.empty(0)
        sums = flat.astype(np.int64).reshape(len(self.ends), -1 if len(self.ends) else 0)
        return sums, np.array(self.ends, dtype=np.int64), np.array(self.since, dtype=np.int64)

    def unpacked(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Counts of shape (batches, columns, bins) and times of shape (batches, 2)."""
        flat = np.frombuffer(zlib.decompress(b64decode(self.counts)), dtype=np.uint8)
        times = np.array(self.times, dtype=np.int64).reshape(self.batches, 2)
        return flat.reshape(self.batches, self.columns, self.bins), times


class Outcomes(Part):
    """Predictions of one model that met their labels in one partition, as columns."""

    model: Name
    span: Span
    """The records that completed these rows."""
    ids: Texts
    versions: Texts
    scores: Scores
    labels: Numbers
    at: Times
    """When each was predicted."""
    labelled_at: Times

    @model_validator(mode="after")
    def _columns_have_the_same_length(self) -> Self:
        rows = len(self.ids)
        for name, values in self._columns():
            if len(values) != rows:
                raise ValueError(f"{name} has {len(values)} rows, ids has {rows}")
        return self

    def _columns(self) -> Iterator[tuple[str, Sequence[object]]]:
        for name in ("versions", "scores", "labels", "at", "labelled_at"):
            yield name, getattr(self, name)


class LabelledExamples(Outcomes):
    """The same rows with their features, for the offline store."""

    features: Mapping[str, Values]

    def _columns(self) -> Iterator[tuple[str, Sequence[object]]]:
        yield from super()._columns()
        yield from ((f"features.{name}", values) for name, values in self.features.items())

"""Messages from agents that read partitions to agents that read models."""

import binascii
import math
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from driftloop.schemas import column_types as column
from driftloop.schemas import topics
from driftloop.schemas.events import Agreement, Span
from driftloop.schemas.messages import Output
from driftloop.schemas.records import Millis, Name, Value

Texts = Annotated[Sequence[str], column.text(Sequence[str])]
Numbers = Annotated[Sequence[float], column.finite(Sequence[float])]
Scores = Annotated[Sequence[float | None], column.numbers(Sequence[float | None])]
Times = Annotated[Sequence[Millis], column.whole(Sequence[Millis], 1 << 53)]
Values = Annotated[Sequence[Value], column.scalars(Sequence[Value])]


class Summary(Output):
    """A message about one model, from one partition."""

    model: Name

    @property
    def kafka_key(self) -> str:
        """The model: its summaries are merged by one agent."""
        return self.model


class CanaryScores(Summary):
    """Scores that a canary's replica computed with its own model, whatever it answered, and their features.

    The scoring agent computes them again: a difference is skew between training and serving.
    """

    kafka_topic: ClassVar = topics.CANARY_SCORES
    version: Name
    at: Times
    scores: Numbers
    features: Mapping[str, Values]


class DriftSummary(Summary):
    """Counts per bin of micro-batches of 32 rows, of one version in one partition."""

    kafka_topic: ClassVar = topics.SUMMARIES
    version: Name
    segment: str = ""
    """The segment whose rows these are, as `country=FR`; empty for all rows."""
    span: Span
    """The records that completed these micro-batches."""
    batches: Annotated[int, Field(ge=1)]
    columns: Annotated[int, Field(ge=1)]
    bins: Annotated[int, Field(ge=1)]
    counts: str
    """(batches, columns, bins) counts as uint8: packed, base64. About 15 bytes a row."""
    packing: Literal["zlib", "nibbles"] = "zlib"
    """Encoding of the counts: `nibbles` under lz4 are nearly as small as `zlib`, with 1/15 of its CPU."""
    times: Sequence[tuple[Millis, Millis]]
    """First and last `at` of each micro-batch, without rows far from most."""
    after: Sequence[int] = ()
    """Of a segment, for each of its micro-batches: how many micro-batches of the whole the same chunk had
    completed before it. Empty for the whole."""
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
            counts=b64encode(pack_nibbles(counts)).decode(),
            packing="nibbles",
            times=times.tolist(),
        )

    def with_groups(self, sums: NDArray[np.int64], ends: NDArray[np.int64], since: NDArray[np.int64]) -> Self:
        """The summary with sums of shape (groups, width), `ends` and `since` of shape (groups,)."""
        if not len(sums):
            return self
        packed = b64encode(zlib.compress(sums.astype("<i4").tobytes(), 1)).decode()
        return self.model_copy(update={"sums": packed, "ends": ends.tolist(), "since": since.tolist()})

    def groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """What `with_groups` packed, as three arrays. Raises ValueError: sizes and sums disagree."""
        ends, since = np.array(self.ends, dtype=np.int64), np.array(self.since, dtype=np.int64)
        if not self.sums:
            return np.empty((0, 0), dtype=np.int64), ends[:0], since[:0]
        data, groups = _decompress("sums", self.sums), len(self.ends)
        if not groups or len(data) % (4 * groups):
            raise ValueError(f"sums: {len(data):,} bytes are no {groups} groups of whole numbers")
        sums = np.frombuffer(data, dtype="<i4").astype(np.int64)
        return sums.reshape(groups, -1), ends, since

    def unpack(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Counts (batches, columns, bins) and times (batches, 2). Raises ValueError: sizes disagree."""
        shape = self.batches, self.columns, self.bins
        times = np.array(self.times, dtype=np.int64).reshape(self.batches, 2)
        return self._counts(math.prod(shape)).reshape(shape), times

    def _counts(self, expected: int) -> NDArray[np.uint8]:
        if self.packing == "nibbles":
            return unpack_nibbles(_bytes("counts", self.counts), expected)
        data = _decompress("counts", self.counts, expected)
        if len(data) != expected:
            raise ValueError(f"counts: {expected:,} bytes were expected, got {len(data):,}")
        return np.frombuffer(data, dtype=np.uint8)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(self.times) != self.batches:
            raise ValueError(f"{self.batches} micro-batches have {len(self.times)} times")
        ends = (0, *self.ends)
        if len(self.since) != len(self.ends) or any(now <= last for last, now in pairwise(ends)):
            raise ValueError(
                f"groups end after {list(self.ends)} micro-batches and have {len(self.since)} beginnings"
            )
        if self.batches < ends[-1]:
            raise ValueError(f"a group ends after {ends[-1]} of {self.batches} micro-batches")
        if self.after and (len(self.after) != self.batches or min(self.after) < 0):
            raise ValueError(f"{self.batches} micro-batches came after {list(self.after)} of the whole")
        return self


class Outcomes(Summary):
    """Predictions of one model that met their labels in one partition, as columns."""

    kafka_topic: ClassVar = topics.OUTCOMES
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

    kafka_topic: ClassVar = topics.EXAMPLES
    features: Mapping[str, Values]

    @property
    def kafka_partition(self) -> int:
        """The partition of their ids: as many workers write a model's examples as join them."""
        return self.span.partition

    def _columns(self) -> Iterator[tuple[str, Sequence[object]]]:
        yield from super()._columns()
        yield from ((f"features.{name}", values) for name, values in self.features.items())


class PairedLosses(Summary):
    """Losses of several versions of a model on the same labelled rows of a partition: sums, which add up."""

    kafka_topic: ClassVar = topics.LOSSES
    span: Span
    """The records that brought the rows."""
    loss: Literal["squared error", "absolute error"]
    versions: Sequence[Name]
    rows: Annotated[int, Field(ge=0)]
    sums: Sequence[float]
    """Sum of losses per version."""
    products: Sequence[float]
    """Sums of products of the losses of each two versions, row by row: of shape (versions, versions). The
    variance of any pair's difference follows from them, whichever version is champion by then."""
    since: Millis
    until: Millis
    """Times of the first and last label."""
    agreement: Mapping[str, Agreement] = Field(default_factory=dict)
    unscored: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_sum_per_version(self) -> Self:
        count = len(self.versions)
        if len(self.sums) != count or len(self.products) != count * count:
            raise ValueError(f"{count} versions have {len(self.sums)} sums and {len(self.products)} products")
        return self


def _bytes(name: str, packed: str) -> bytes:
    try:
        return b64decode(packed, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name}: {error}") from error


def _decompress(name: str, packed: str, most: int = 0) -> bytes:
    """Bytes from zlib and base64; with `most`, no more than one beyond that, however many there are."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(_bytes(name, packed), most and most + 1)
    except zlib.error as error:
        raise ValueError(f"{name}: {error}") from error
    if not (most or inflater.eof):
        raise ValueError(f"{name}: their end is missing")
    return data


NIBBLE_MAX = 15
"""Nibble of a count of 15 or more, which follows whole after all nibbles."""


def pack_nibbles(counts: NDArray[np.uint8]) -> bytes:
    """Counts of any shape, two a byte, the first in the lower nibble; then the counts of 15 and more.

    Most counts are below 15, so that this is half the size.
    """
    flat = counts.ravel()
    low = np.zeros(len(flat) + len(flat) % 2, dtype=np.uint8)
    np.minimum(flat, NIBBLE_MAX, out=low[: len(flat)])
    pairs = low.view("<u2")  # shifts two counts with one operation
    return b"".join([(pairs | pairs >> 4).astype(np.uint8).tobytes(), flat[flat >= NIBBLE_MAX].tobytes()])


def unpack_nibbles(data: bytes, size: int) -> NDArray[np.uint8]:
    """The counts that `pack_nibbles` packed, shape (size,).

    Allocates memory in proportion to `data`, whatever `size` is.

    Raises:
        ValueError: `data` does not hold `size` counts.

    >>> unpack_nibbles(pack_nibbles(np.array([[1, 2, 3], [14, 15, 32]], dtype=np.uint8)), size=6).tolist()
    [1, 2, 3, 14, 15, 32]
    """
    values = np.frombuffer(data, dtype=np.uint8)
    nibbles = values[: (size + 1) // 2].astype("<u2")
    flat: NDArray[np.uint8] = ((nibbles | nibbles << 4) & 0x0F0F).astype("<u2").view(np.uint8)[:size]
    full, whole = flat == NIBBLE_MAX, values[len(nibbles) :]
    if len(flat) != size or np.count_nonzero(full) != len(whole):
        raise ValueError(f"{len(data):,} bytes are not {size:,} counts")
    flat[full] = whole
    return flat

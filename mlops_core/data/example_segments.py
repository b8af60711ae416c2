"""Labelled examples that wait to be written as one segment of the offline store."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from driftloop.mlops_core.data.examples import Examples, concatenate
from driftloop.schemas.settings import StoreSettings
from driftloop.schemas.summaries import LabelledExamples

HOUR_MS = 3_600_000
LEAST_MS = 1_000
"""Kafka's time that a segment with fewer rows lasts at least. Data that is replayed passes an hour every few
rows, and each segment costs about 10 ms: a file, its sync, and its folding."""


@dataclass
class Waiting:
    """Rows of one model that wait for their segment to be full."""

    parts: list[LabelledExamples] = field(default_factory=list)
    first: int = 0
    """Offset of the first part."""
    since: int = 0
    """When the first part was written, Kafka's time (UTC, ms)."""
    rows: int = 0

    def add(self, part: LabelledExamples, offset: int, written: int) -> None:
        """Append a part: its record's offset, and when that was written (Kafka's time, UTC, ms)."""
        if not self.parts:
            self.first, self.since = offset, written
        self.parts.append(part)
        self.rows += len(part.ids)

    def full(self, settings: StoreSettings, written: int) -> bool:
        """Whether they make a segment; the newest part was written at `written`, Kafka's time (UTC, ms)."""
        if not self.parts or self.rows >= settings.segment_rows:
            return bool(self.parts)
        times = [self.parts[0].labelled_at[0], self.parts[-1].labelled_at[-1]]
        aged = max(times) - min(times) >= settings.segment_hours * HOUR_MS
        return aged and written - self.since >= LEAST_MS


@dataclass(frozen=True)
class Segment:
    """Rows of one model that are written as one file."""

    model: str
    partition: int
    first: int
    """Offset of the first record."""
    last: int
    parts: Sequence[LabelledExamples]

    @property
    def examples(self) -> Examples:
        """All rows."""
        return concatenate([Examples.of(part) for part in self.parts])


def take_full(
    waiting: dict[str, Waiting],
    partition: int,
    arrived: Iterable[tuple[int, int, LabelledExamples]],
    settings: StoreSettings,
) -> Sequence[Segment]:
    """Add parts to those that wait; returns the segments that are full with them, whose rows wait no more.

    `arrived` has the offset of each part's record and when it was written (Kafka's time, UTC, ms).
    """
    full: list[Segment] = []
    for offset, written, part in arrived:
        own = waiting.setdefault(part.model, Waiting())
        own.add(part, offset, written)
        if own.full(settings, written):
            full.append(Segment(part.model, partition, own.first, offset, own.parts))
            waiting[part.model] = Waiting()
    return full


def dump(waiting: Mapping[str, Waiting]) -> bytes:
    """The waiting rows by model, as JSON."""
    fields = {
        model: {"first": one.first, "since": one.since, "parts": [vars(part) for part in one.parts]}
        for model, one in waiting.items()
    }
    return orjson.dumps(fields, default=vars, option=orjson.OPT_SERIALIZE_NUMPY)


def load(data: bytes) -> dict[str, Waiting]:
    """Back from `dump`."""
    return {model: _waiting(one) for model, one in orjson.loads(data).items()}


def _waiting(fields: Mapping[str, Any]) -> Waiting:
    parts = [LabelledExamples.model_validate(part) for part in fields["parts"]]
    return Waiting(parts, fields["first"], fields["since"], sum(len(part.ids) for part in parts))


def name_of(partition: int, first: int, last: int, examples: Examples) -> str:
    """A segment's name: where its rows come from (offsets, both ends included), and which they are."""
    ids = hashlib.sha256("\n".join(examples.ids.tolist()).encode()).hexdigest()
    return f"{partition:03d}-{first:012d}-{last:012d}-{ids[:8]}"

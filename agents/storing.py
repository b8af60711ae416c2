"""Writes labelled examples to the offline store, exactly once in effect.

A segment's rows follow from the topic alone (so many rows, or an hour of the data and a second of Kafka's
time, from where the last one ended), and its name from where they come from and from their ids; so whoever
writes it again after a crash writes the same, and the store knows the name. A topic that was made anew counts
from 0 again, and its segments are others all the same.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from driftloop.mlops_core.data.examples import Examples, concatenate
from driftloop.mlops_core.ports import ExampleStore
from driftloop.schemas import topics
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import StoreSettings
from driftloop.schemas.summaries import LabelledExamples
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Resolved, WithoutEffects
from driftloop.streams.processing.decoding import decode_stage
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec

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

    def add(self, part: LabelledExamples, record: ConsumerRecord) -> None:
        """Append a part, which came as `record`."""
        if not self.parts:
            self.first, self.since = record.offset, record.timestamp
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


class StoringAgent(WithoutEffects):
    """One row of waiting examples a model and partition."""

    name = "storing"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.EXAMPLES,)

    def __init__(self, store: ExampleStore, settings: StoreSettings) -> None:
        self._store = store
        self._settings = settings

    def initial_state(self) -> dict[str, Waiting]:
        """Nothing waits."""
        return {}

    def dump(self, state: dict[str, Waiting]) -> bytes:
        """The waiting rows by model."""
        return orjson.dumps(
            {
                model: {
                    "first": one.first,
                    "since": one.since,
                    "parts": [orjson.Fragment(codec.encode(part)) for part in one.parts],
                }
                for model, one in state.items()
            }
        )

    def load(self, data: bytes) -> dict[str, Waiting]:
        """Back from `dump`."""
        return {model: _waiting(one) for model, one in orjson.loads(data).items()}

    def questions(self, state: dict[str, Waiting], chunk: Chunk) -> Sequence[Segment] | None:
        """Segments that are full with the chunk."""
        waiting = {model: replace(one, parts=[*one.parts]) for model, one in state.items()}
        return self._take_full(waiting, chunk, []) or None

    def resolve(self, questions: Sequence[Segment], /) -> Resolved:
        """Write them, and let the store merge small ones. Writing one again changes nothing."""
        for segment in questions:
            examples = concatenate([Examples.of(part) for part in segment.parts])
            name = name_of(segment.partition, segment.first, segment.last, examples)
            self._store.append(segment.model, name, examples)
            self._store.tend(segment.model)
        return Resolved(None)

    def handle(self, state: dict[str, Waiting], chunk: Chunk) -> list[Output]:
        """Forget the rows of segments that were written."""
        follows: list[Output] = []
        self._take_full(state, chunk, follows)
        return follows

    def _take_full(self, state: dict[str, Waiting], chunk: Chunk, letters: list[Output]) -> Sequence[Segment]:
        """Add the chunk's rows to those that wait; returns the segments that are full, which wait no more."""
        full: list[Segment] = []
        for record, rows in decode_stage(chunk, LabelledExamples, letters):
            waiting = state.setdefault(rows.model, Waiting())
            waiting.add(rows, record)
            if waiting.full(self._settings, record.timestamp):
                full.append(Segment(rows.model, chunk.partition, waiting.first, record.offset, waiting.parts))
                state[rows.model] = Waiting()
        return full


def _waiting(fields: Mapping[str, Any]) -> Waiting:
    """From a dump."""
    parts = [LabelledExamples.model_validate(part) for part in fields["parts"]]
    return Waiting(parts, fields["first"], fields["since"], sum(len(part.ids) for part in parts))


def name_of(partition: int, first: int, last: int, examples: Examples) -> str:
    """A segment's name: where its rows come from (offsets, both ends included), and which they are."""
    ids = hashlib.sha256("\n".join(examples.ids.tolist()).encode()).hexdigest()
    return f"{partition:03d}-{first:012d}-{last:012d}-{ids[:8]}"

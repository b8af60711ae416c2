"""Writes labelled examples to the offline store, exactly once in effect.

A segment's rows follow from the topic alone (so many rows, or an hour of the data and a second of Kafka's
time, from where the last one ended), and its name from where they come from and from their ids; so whoever
writes it again after a crash writes the same, and the store knows the name. A topic that was made anew counts
from 0 again, and its segments are others all the same.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from driftloop.mlops_core.data.examples import Examples, concatenate
from driftloop.mlops_core.ports import ExampleStore
from driftloop.schemas import topics
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import StoreSettings
from driftloop.schemas.summaries import LabelledExamples
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import WithoutEffects
from driftloop.streams.processing.decoding import decode_each, stage_decoder
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

    def handle(self, state: dict[str, Waiting], chunk: Chunk) -> list[Output]:
        """Write every segment that is full, and let the store tidy up after it."""
        follows: list[Output] = []
        for record, rows in decode_each(chunk, stage_decoder(LabelledExamples), follows):
            waiting = state.setdefault(rows.model, Waiting())
            waiting.add(rows, record)
            if waiting.full(self._settings, record.timestamp):
                examples = concatenate([Examples.of(part) for part in waiting.parts])
                segment = name_of(chunk.partition, waiting.first, record.offset, examples)
                self._store.append(rows.model, segment, examples)
                self._store.tend(rows.model)
                state[rows.model] = Waiting()
        return follows


def _waiting(fields: Mapping[str, Any]) -> Waiting:
    """From a dump; older ones have no `since`."""
    parts = [LabelledExamples.model_validate(part) for part in fields["parts"]]
    return Waiting(parts, fields["first"], fields.get("since", 0), sum(len(part.ids) for part in parts))


def name_of(partition: int, first: int, last: int, examples: Examples) -> str:
    """A segment's name: where its rows come from (offsets, both ends included), and which they are."""
    ids = hashlib.sha256("\n".join(examples.ids.tolist()).encode()).hexdigest()
    return f"{partition:03d}-{first:012d}-{last:012d}-{ids[:8]}"

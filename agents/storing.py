"""Writes labelled examples to the offline store, exactly once in effect.

A segment's rows follow from the topic alone (so many rows, or an hour of the data, from where the last one
ended), and its name from where they come from and from their ids; so whoever writes it again after a crash
writes the same, and the store knows the name. A topic that was made anew counts from 0 again, and its
segments are others all the same.
"""

import hashlib
from dataclasses import dataclass, field

import orjson

from agents.reading import decoded, staged
from mlops_core.data.examples import Examples, joined
from mlops_core.ports import ExampleStore
from schemas.settings import StoreSettings
from schemas.stages import LabelledExamples
from streams import bases, codec, topics
from streams.agent import WithoutEffects
from streams.chunks import Chunk
from streams.routes import Emitted

HOUR_MS = 3_600_000


@dataclass
class Waiting:
    """Rows of one model that wait for their segment to be full."""

    parts: list[LabelledExamples] = field(default_factory=list)
    first: int = 0
    """Offset of the first part."""

    def add(self, part: LabelledExamples, offset: int) -> None:
        """One more part waits."""
        if not self.parts:
            self.first = offset
        self.parts.append(part)

    @property
    def rows(self) -> int:
        """How many."""
        return sum(len(part.ids) for part in self.parts)

    def full(self, settings: StoreSettings) -> bool:
        """Whether they make a segment."""
        if not self.parts:
            return False
        times = [self.parts[0].labelled_at[0], self.parts[-1].labelled_at[-1]]
        aged = max(times) - min(times) >= settings.segment_hours * HOUR_MS
        return aged or self.rows >= settings.segment_rows


class StoringAgent(WithoutEffects):
    """One row of waiting examples a model and partition."""

    name = "storing"
    steps = bases.MANY_STEPS
    topics = (topics.EXAMPLES,)

    def __init__(self, store: ExampleStore, settings: StoreSettings) -> None:
        self._store = store
        self._settings = settings

    def fresh(self) -> dict[str, Waiting]:
        """Nothing waits."""
        return {}

    def dump(self, state: dict[str, Waiting]) -> bytes:
        """The waiting rows by model."""
        return orjson.dumps(
            {
                model: {
                    "first": one.first,
                    "parts": [orjson.Fragment(codec.encode(part)) for part in one.parts],
                }
                for model, one in state.items()
            }
        )

    def load(self, data: bytes) -> dict[str, Waiting]:
        """Back from `dump`."""
        return {
            model: Waiting([LabelledExamples.model_validate(part) for part in one["parts"]], one["first"])
            for model, one in orjson.loads(data).items()
        }

    def handle(self, state: dict[str, Waiting], chunk: Chunk) -> list[Emitted]:
        """Write every segment that is full, and let the store tidy up after it."""
        follows: list[Emitted] = []
        for record, rows in decoded(chunk, staged(LabelledExamples), follows):
            waiting = state.setdefault(rows.model, Waiting())
            waiting.add(rows, record.offset)
            if waiting.full(self._settings):
                examples = joined([Examples.of(part) for part in waiting.parts])
                segment = name_of(chunk.partition, waiting.first, record.offset, examples)
                self._store.append(rows.model, segment, examples)
                self._store.tend(rows.model)
                state[rows.model] = Waiting()
        return follows


def name_of(partition: int, first: int, last: int, examples: Examples) -> str:
    """A segment's name: where its rows come from (offsets, both ends included), and which they are."""
    ids = hashlib.sha256("\n".join(examples.ids.tolist()).encode()).hexdigest()
    return f"{partition:03d}-{first:012d}-{last:012d}-{ids[:8]}"

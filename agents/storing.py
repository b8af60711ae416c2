"""Writes labelled examples to the offline store, exactly once in effect.

A segment's rows follow from the topic alone (so many rows, or an hour of the data and a second of Kafka's
time, from where the last one ended), and its name from where they come from and from their ids; so whoever
writes it again after a crash writes the same, and the store knows the name. A topic that was made anew counts
from 0 again, and its segments are others all the same.
"""

from collections.abc import Sequence
from dataclasses import replace

from driftloop.mlops_core.data import example_segments
from driftloop.mlops_core.data.example_segments import Segment, Waiting, name_of
from driftloop.mlops_core.ports import ExampleStore
from driftloop.schemas import topics
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import StoreSettings
from driftloop.schemas.summaries import LabelledExamples
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Resolved, WithoutEffects
from driftloop.streams.processing.decoding import decode_stage
from driftloop.streams.records import Chunk


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
        return example_segments.dump(state)

    def load(self, data: bytes) -> dict[str, Waiting]:
        """Back from `dump`."""
        return example_segments.load(data)

    def questions(self, state: dict[str, Waiting], chunk: Chunk) -> Sequence[Segment] | None:
        """Segments that are full with the chunk."""
        waiting = {model: replace(one, parts=[*one.parts]) for model, one in state.items()}
        return self._take_full(waiting, chunk, []) or None

    def resolve(self, questions: Sequence[Segment], /) -> Resolved:
        """Write them, and let the store merge small ones. Writing one again changes nothing."""
        for segment in questions:
            examples = segment.examples
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
        arrived = decode_stage(chunk, LabelledExamples, letters)
        rows = ((record.offset, record.timestamp, part) for record, part in arrived)
        return example_segments.take_full(state, chunk.partition, rows, self._settings)

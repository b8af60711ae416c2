"""Stage one of drift: bins predictions against the reference of the version that answered.

Features that come by themselves meet their prediction first, by id.
"""

from collections.abc import Iterator

from driftloop.mlops_core.data.profile_lookup import Key, Known, ProfileLookup, enters_state
from driftloop.mlops_core.data.rows import RowKind, Rows
from driftloop.mlops_core.drift.aggregation import State, refusal, summarise, take_answers
from driftloop.mlops_core.ports import ModelReader
from driftloop.schemas import topics
from driftloop.schemas.events import Span
from driftloop.schemas.messages import Output
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Resolved, WithoutEffects
from driftloop.streams.processing.decoding import decode_runs
from driftloop.streams.records import Chunk, dead_letter
from driftloop.streams.wire.rows import RowRun


class DriftAggregationAgent(WithoutEffects):
    """One summariser a version; what is left over from a chunk waits for the next one."""

    name = "summarising"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.PREDICTIONS, topics.FEATURES)

    def __init__(self, registry: ModelReader) -> None:
        self._lookup = ProfileLookup(registry)

    def initial_state(self) -> State:
        """No version was seen."""
        return State()

    def dump(self, state: State) -> bytes:
        """Profiles and left-over rows by model and version, and rows whose features are still to come."""
        return state.dump()

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        return State.load(data)

    def questions(self, state: State, chunk: Chunk) -> Known | None:
        """Versions whose profiles the state lacks."""
        runs = (run.rows for run in decode_runs(chunk, []))
        named = {(rows.model, rows.version) for rows in runs if rows.kind is RowKind.PREDICTIONS}
        return self._lookup.questions(named, state.profiles)

    def resolve(self, questions: Known, /) -> Resolved:
        """Their profiles, or that the registry doesn't know them."""
        found = self._lookup.answers(questions)
        return Resolved(found, enters_state(questions, found))

    def handle(self, state: State, chunk: Chunk) -> list[Output]:
        """Complete micro-batches, and a dead letter for each row of a model that is not registered."""
        follows: list[Output] = []
        absent = take_answers(state, chunk.resolved)
        by_version: dict[Key, list[Rows]] = {}
        for run in decode_runs(chunk, follows):
            refused = refusal(run.rows, state.profiles, absent)
            if refused is not None:
                follows.extend(_dead_letters(chunk, run, *refused))
                continue
            for rows in state.descriptions.take(run.rows):
                by_version.setdefault((rows.model, rows.version), []).append(rows)
        span = Span(topic=chunk.topic, partition=chunk.partition, first=chunk.first, last=chunk.last)
        for key, parts in by_version.items():
            if key in state.profiles:  # else the version was given up while its rows waited for features
                follows.extend(summarise(state, key, parts, span))
        for model in {model for model, _ in by_version}:
            state.evict(model)
        return follows


def _dead_letters(chunk: Chunk, run: RowRun, reason: str, detail: str) -> Iterator[Output]:
    return (dead_letter(chunk, chunk.records[place], reason, detail) for place in run.places)

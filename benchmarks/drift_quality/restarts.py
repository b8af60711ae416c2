"""Killed at a random event, with 1 % of the messages delivered twice: the same alarms as without.

Both stages of drift as the consuming loop runs them: the state of the newest dump, the records since then
again, and a memory that knows each record by its place and its sender's count (see
`streams.processing.checkpoints`).
"""

import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np

from benchmarks.drift_quality import cases, ours
from benchmarks.drift_quality.cases import Columns, Random, named
from driftloop.agents.drift import DriftAgent
from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.readers import reader_for
from driftloop.mlops_core.data.features import FeatureSpec
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.ports import Fitted, ModelReader, Task
from driftloop.schemas.events import DriftDetected, DriftResolved
from driftloop.schemas.messages import Output
from driftloop.schemas.records import PredictionBatch
from driftloop.schemas.settings import DriftSettings
from driftloop.streams.processing.agent import Agent, State
from driftloop.streams.processing.checkpoints import Checkpoint
from driftloop.streams.processing.resolver import resolve_here
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec

_MODEL, _VERSION = "bench", "1"
_BATCH = 100
"""Rows of a message."""
_SINCE = 5
"""Messages since the newest dump; as many from before it are delivered again, too."""
_TWICE = 0.01
"""Share of the messages that are delivered twice."""


def same_alarms(random: Random, rows: int = 20_000) -> tuple[int, bool]:
    """How many episodes opened and closed on a stream that shifts; whether the killed run says the same."""
    column = np.concatenate([part(random, 1, rows // 4)[0] for part in _parts()])
    with tempfile.TemporaryDirectory() as folder:
        profile = ours.profiled(named(cases.normal()(random, 1, ours.REFERENCE)))
        reader = _registered(Path(folder), profile)
        messages = _sent(column, random)
        kill = int(random.integers(1, len(messages)))
        whole, killed = _drift_ids(reader, messages, None), _drift_ids(reader, messages, kill)
    return len(whole), whole == killed


def _parts() -> Sequence[cases.Draw]:
    return cases.normal(), cases.normal(0.5), cases.normal(), cases.normal(0.0, 2.0)


def _registered(folder: Path, profile: Profile) -> ModelReader:
    spec = FeatureSpec.infer({"x0": np.zeros(2)})
    folder_reader.save(folder, _MODEL, _VERSION, Fitted(Task.BINARY, "xgboost", b"", spec), profile)
    return reader_for(folder.as_uri())


def _sent(column: Columns, random: Random) -> list[ConsumerRecord]:
    """The messages in the order of their delivery; a repetition has an offset of its own."""
    arrived: list[ConsumerRecord] = []
    for seq, first in enumerate(range(0, len(column), _BATCH), 1):
        x = column[first : first + _BATCH]
        rows = range(first, first + len(x))
        batch = PredictionBatch(
            model=_MODEL,
            version=_VERSION,
            ids=[str(row) for row in rows],
            at=list(rows),
            scores=np.resize([0.25, 0.75], len(x)).tolist(),
            features={"x0": x.tolist()},
        )
        headers = {"source": "bench", "seq": str(seq)}
        for _ in range(1 + int(random.random() < _TWICE)):
            arrived.append(ConsumerRecord(len(arrived), 0, None, codec.encode(batch), headers))
    return arrived


def _drift_ids(reader: ModelReader, messages: Sequence[ConsumerRecord], kill: int | None) -> list[str]:
    """Ids of what both stages say; each message is a chunk, and each process dies before one of them."""
    summaries = _run(DriftAggregationAgent(reader), messages, kill)
    staged = [
        ConsumerRecord(place, 0, None, codec.encode(summary), {"source": "stage", "seq": str(seq)})
        for place, (seq, summary) in enumerate(summaries)
    ]
    later = None if kill is None else max(kill * len(staged) // len(messages), 1)
    published = dict(_run(DriftAgent(reader, DriftSettings()), staged, later))
    return [event.id for event in published.values() if isinstance(event, DriftDetected | DriftResolved)]


def _run(
    agent: Agent[State], records: Sequence[ConsumerRecord], kill: int | None
) -> list[tuple[int, Output]]:
    """What follows, each with its `seq`; what is published again after the kill has the same as before.

    The newest dump is some records older than the kill. What was read since then is read again, and a little
    from before it, which the memory knows.
    """
    memory, state = Checkpoint(incarnation="bench", state=b""), agent.initial_state()
    published: list[tuple[int, Output]] = []
    dumped = len(records) if kill is None else max(kill - _SINCE, 0)
    for record in records[:dumped]:
        published += _apply(agent, memory, state, record)
    if kill is None:
        return published
    packed, known = agent.dump(state), deepcopy(memory)
    for record in records[dumped:kill]:
        published += _apply(agent, memory, state, record)
    again = agent.load(packed)
    for record in records[max(dumped - _SINCE, 0) :]:
        published += _apply(agent, known, again, record)
    return published


def _apply(
    agent: Agent[State], memory: Checkpoint, state: State, record: ConsumerRecord
) -> list[tuple[int, Output]]:
    chunk = Chunk(agent.topics[0].name, 0, [record])
    published = agent.handle(state, resolve_here(agent, state, chunk)) if memory.new_records(chunk) else []
    memory.mark_applied(chunk)
    memory.sequence += len(published)
    return list(enumerate(published, memory.sequence - len(published) + 1))

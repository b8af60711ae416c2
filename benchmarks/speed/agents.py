"""What a row costs each agent beside Faust and Kafka: from the bytes of a message to what follows from it."""

import gc
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.speed import registry, traffic
from benchmarks.speed.table import Row
from driftloop.agents.drift import DriftAgent
from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.agents.joining import JoiningAgent
from driftloop.agents.performance import PerformanceAgent
from driftloop.agents.storing import StoringAgent
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.infra.adapters.readers import reader_for
from driftloop.infra.wiring import agents
from driftloop.mlops_core.ports import ModelReader
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import DriftSettings, KafkaSettings, PerformanceSettings, StoreSettings
from driftloop.schemas.summaries import DriftSummary, LabelledExamples, Outcomes
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Agent, State
from driftloop.streams.processing.faust_transport import CHUNK_BYTES
from driftloop.streams.processing.resolver import resolve_here
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from driftloop.streams.wire.blocks import Block

ROWS = 100_000
SINGLE_ROWS = 20_000
BATCH_ROWS = 500
MOST = KafkaSettings().chunk_records
"""Records in a chunk."""


def measure(rows: int = ROWS, single_rows: int = SINGLE_ROWS) -> list[Row]:
    """Each agent in its turn, fed with what the one before it said, over so many rows."""
    with tempfile.TemporaryDirectory() as folder, _collecting_as_workers_do():
        reader = reader_for(registry.write_models(Path(folder)))
        return [*_columnar(reader, rows), *_single(reader, single_rows)]


@contextmanager
def _collecting_as_workers_do() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.set_threshold(agents.GARBAGE_AFTER, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _single(reader: ModelReader, rows: int) -> list[Row]:
    messages = [codec.encode(record) for record in traffic.singles(rows)]
    labels = [codec.encode(record) for record in traffic.labels(rows)]
    agent = JoiningAgent(reader, PerformanceSettings(waiting_rows=rows))
    joined = agent.initial_state()
    _, summarising = _cost_of_agent(DriftAggregationAgent(reader), messages, rows)
    _, waiting = _cost_of_agent(agent, messages, rows, joined)
    _, meeting = _cost_of_agent(agent, labels, rows, joined)
    return [
        Row("summarising, single JSON events", summarising, "us/row"),
        Row("joining, single JSON events, a prediction and its label", waiting + meeting, "us/row"),
    ]


def _columnar(reader: ModelReader, rows: int) -> list[Row]:
    predictions = [Block.from_batch(batch).encode() for batch in traffic.batches(rows, BATCH_ROWS)]
    labels = [Block.from_batch(batch).encode() for batch in traffic.label_batches(rows, BATCH_ROWS)]
    summaries, summarising = _cost_of_agent(DriftAggregationAgent(reader), predictions, rows)
    _cost_of_agent(DriftAgent(reader, DriftSettings()), _encode(summaries[:1], DriftSummary), rows)  # imports
    _, drift = _cost_of_agent(DriftAgent(reader, DriftSettings()), _encode(summaries, DriftSummary), rows)
    agent = JoiningAgent(reader, PerformanceSettings(waiting_rows=rows))
    joined = agent.initial_state()
    _, waiting = _cost_of_agent(agent, predictions, rows, joined)
    follows, meeting = _cost_of_agent(agent, labels, rows, joined)
    _, performance = _cost_of_agent(
        PerformanceAgent(reader, PerformanceSettings()), _encode(follows, Outcomes), rows
    )
    with tempfile.TemporaryDirectory() as folder:
        store = StoringAgent(ParquetStore(Path(folder)), StoreSettings())
        _, storing = _cost_of_agent(store, _encode(follows, LabelledExamples), rows)
    bytes_a_row = sum(map(len, predictions)) / rows
    return [
        Row("a prediction in a columnar message of 500", bytes_a_row, "bytes"),
        Row("summarising (stage one of drift)", summarising, "us/row"),
        Row("drift (stage two, no episode open)", drift, "us/row"),
        Row("joining, a prediction that waits", waiting, "us/row"),
        Row("joining, its label", meeting, "us/row"),
        Row.at_least(
            "label join, decoding and encoding included",
            1e6 / (waiting + meeting),
            "labels per CPU second",
            100_000,
        ),
        Row("performance", performance, "us/row"),
        Row("storing (Parquet)", storing, "us/row"),
    ]


def _cost_of_agent(
    agent: Agent[State], values: Sequence[bytes], rows: int, state: State | None = None
) -> tuple[list[Output], float]:
    """What the agent says, and its microseconds a row with its states written as often as the loop does."""
    held = agent.initial_state() if state is None else state
    follows: list[Output] = []
    size, passed = len(agent.dump(held)), 0
    began = time.process_time()
    for chunk in _chunks(agent.topics[0].name, values):
        outputs = agent.handle(held, resolve_here(agent, held, chunk))
        passed += chunk.size + sum(len(codec.encode(message)) for message in outputs)
        follows += outputs
        if checkpoints.should_checkpoint(size, passed):
            size, passed = len(agent.dump(held)), 0
    return follows, (time.process_time() - began) / rows * 1e6


def _encode(messages: Iterable[Output], kind: type[Output]) -> list[bytes]:
    return [codec.encode(message) for message in messages if type(message) is kind]


def _chunks(topic: str, values: Sequence[bytes]) -> Iterator[Chunk]:
    records: list[ConsumerRecord] = []
    size = 0
    for offset, value in enumerate(values):
        records.append(ConsumerRecord(offset, 0, b"key", value, {}))
        size += len(value)
        if len(records) == MOST or size >= CHUNK_BYTES:
            yield Chunk(topic, 0, records)
            records, size = [], 0
    if records:
        yield Chunk(topic, 0, records)

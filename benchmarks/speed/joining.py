"""The label join over many events, in a process of its own: `python -m benchmarks.speed.joining PREDICTIONS`.

Prints JSON: labels per CPU second (from bytes to bytes, dumps of the state as often as the consuming loop
takes them), rows kept at the end and what the horizon allows, and memory.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.speed import traffic, workers
from benchmarks.speed.memory import Memory
from driftloop.agents.joining import HOUR_MS, JoiningAgent
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.infra.wiring import agents
from driftloop.mlops_core.data.label_join import SWEEPS
from driftloop.schemas.records import Batch
from driftloop.schemas.settings import PerformanceSettings
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.resolver import resolve_here
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from driftloop.streams.wire.blocks import Block

HORIZON_MS = 100_000
"""Longer than `traffic.LABEL_DELAY_MS`; a row comes each millisecond, so it is as many rows."""
CHUNK_MESSAGES = 14
"""A megabyte of predictions."""


def main(rows: int) -> None:
    """Predictions, and their labels `LABEL_DELAY_MS` behind."""
    agent = JoiningAgent(FolderReader(Path()), PerformanceSettings(horizon_hours=HORIZON_MS / HOUR_MS))
    state, took = agent.initial_state(), 0.0
    size = passed = 0
    gc.set_threshold(agents.GARBAGE_AFTER, *gc.get_threshold()[1:])  # as workers do
    samples: list[tuple[int, int]] = []
    for number, chunk in enumerate(_chunks(rows), 1):
        began = time.process_time()
        follows = agent.handle(state, resolve_here(agent, state, chunk))
        passed += chunk.size + sum(len(codec.encode(message)) for message in follows)
        if checkpoints.should_checkpoint(size, passed):
            size, passed = len(agent.dump(state)), 0
        took += time.process_time() - began
        samples.append((number, workers.resident_bytes(os.getpid())))
    counts = state.counts()
    bound = traffic.LABEL_DELAY_MS + HORIZON_MS * (SWEEPS + 1) // SWEEPS
    result = {
        "labels": counts["joined"] / took,
        "kept": counts["waiting"] + counts["waiting_labels"] + counts["remembered"],
        "bound": bound,
        "memory": asdict(Memory.of(samples, full=min(max(0.1, bound / rows), 0.4))),
    }
    print(json.dumps(result))  # noqa: T201


def _chunks(rows: int) -> Iterator[Chunk]:
    """Both topics in turn, as they come where labels are as late as that."""
    predictions = _as_chunks("predictions", traffic.lasting(rows, partitions=1))
    labels = _as_chunks("labels", traffic.Traffic(rows, traffic.label_batches(rows, traffic.MESSAGE_ROWS)))
    ahead = traffic.LABEL_DELAY_MS // (traffic.MESSAGE_ROWS * CHUNK_MESSAGES)
    for number, chunk in enumerate(predictions):
        yield chunk
        if number >= ahead:
            yield next(labels)
    yield from labels


def _as_chunks(topic: str, traffic: traffic.Traffic) -> Iterator[Chunk]:
    waiting: list[ConsumerRecord] = []
    for offset, batch in enumerate(traffic.records):
        assert isinstance(batch, Batch)
        waiting.append(ConsumerRecord(offset, 0, b"key", Block.from_batch(batch).encode(), {}))
        if len(waiting) == CHUNK_MESSAGES:
            yield Chunk(topic, 0, waiting)
            waiting = []
    if waiting:
        yield Chunk(topic, 0, waiting)


if __name__ == "__main__":
    main(int(sys.argv[1]))

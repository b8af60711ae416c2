"""A summary that can't be unpacked is a dead letter of its own, whatever is wrong with it; no other waits."""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.agents.drift import DriftAgent
from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.agents.performance import PerformanceAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.data.profile import Profile
from driftloop.schemas import summaries
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.records import PredictionBatch
from driftloop.schemas.settings import DriftSettings, PerformanceSettings
from driftloop.schemas.summaries import DriftSummary
from driftloop.streams.processing.agent import Agent
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from tests.support import seeds
from tests.support.handling import handle
from tests.support.serving_processes import fitted

Fields = dict[str, Any]
Spoil = Callable[[Fields], Fields]


@pytest.fixture
def reader(tmp_path: Path) -> FolderReader:
    rng = seeds.generator()
    columns = {name: rng.normal(size=5000) for name in ("x", "y")}
    folder_reader.save(tmp_path, "m", "1", fitted(), Profile.of(columns, rng.random(5000)))
    return FolderReader(tmp_path)


def summary(reader: FolderReader) -> Fields:
    rng, rows = seeds.generator(), 1024
    batch = PredictionBatch(
        model="m",
        version="1",
        ids=[f"id-{row}" for row in range(rows)],
        at=list(range(rows)),
        scores=rng.random(rows).tolist(),
        features={name: rng.normal(size=rows).tolist() for name in ("x", "y")},
    )
    agent = DriftAggregationAgent(reader)
    chunk = Chunk("predictions", 0, [ConsumerRecord(0, 1, None, codec.encode(batch), {})])
    [said] = handle(agent, agent.initial_state(), chunk)
    assert isinstance(said, DriftSummary)
    fields = orjson.loads(codec.encode(said))
    assert isinstance(fields, dict)
    assert fields["sums"]
    return fields


def cut(text: str) -> str:
    """The same text without the end of what was packed."""
    return b64encode(b64decode(text)[:-9]).decode()


def packed(data: bytes) -> str:
    return b64encode(zlib.compress(data)).decode()


SPOILED: Mapping[str, Spoil] = {
    "no base64": lambda one: {**one, "counts": "???"},
    "text beyond ASCII": lambda one: {**one, "counts": "é"},
    "nothing packed": lambda one: {**one, "counts": ""},
    "cut short": lambda one: {**one, "counts": cut(one["counts"])},
    "too many bytes": lambda one: {**one, "counts": b64encode(b64decode(one["counts"]) + b"x").decode()},
    "counts that are missing": lambda one: {**one, "counts": b64encode(b"\xff" * 1584).decode()},
    "too few counts": lambda one: {**one, "packing": "zlib", "counts": packed(bytes(7))},
    "too many counts": lambda one: {**one, "packing": "zlib", "counts": packed(bytes(5_000_000))},
    "sums cut short": lambda one: {**one, "sums": cut(one["sums"])},
    "sums of no whole numbers": lambda one: {**one, "sums": packed(bytes(7))},
    "sums without groups": lambda one: {**one, "ends": [], "since": []},
}
UNFIT: Mapping[str, Spoil] = {
    "no micro-batch": lambda one: {**one, "batches": 0, "times": []},
    "fewer than none": lambda one: {**one, "batches": -1},
    "a time is missing": lambda one: {**one, "times": one["times"][1:]},
    "a group ends later": lambda one: {**one, "ends": [*one["ends"][:-1], 99]},
    "groups that go back": lambda one: {**one, "ends": one["ends"][::-1]},
    "a group began never": lambda one: {**one, "since": one["since"][1:]},
}


def drift(reader: FolderReader) -> Agent[Any]:
    return DriftAgent(reader, DriftSettings())


def performance(reader: FolderReader) -> Agent[Any]:
    return PerformanceAgent(reader, PerformanceSettings())


def chunk(*bodies: Fields) -> Chunk:
    return Chunk(
        "drift-summaries",
        0,
        [ConsumerRecord(offset, 1, b"m", orjson.dumps(body), {}) for offset, body in enumerate(bodies)],
    )


@pytest.mark.parametrize("what", [*SPOILED, *UNFIT])
@pytest.mark.parametrize("stage", [drift, performance])
def test_a_spoiled_summary_is_parked_and_the_others_count(
    what: str, stage: Callable[[FolderReader], Agent[Any]], reader: FolderReader
) -> None:
    whole, agent = summary(reader), stage(reader)
    spoiled = {**SPOILED, **UNFIT}[what](whole)
    state, undisturbed = agent.initial_state(), agent.initial_state()
    [letter, *said] = handle(agent, state, chunk(spoiled, whole))
    assert said == handle(agent, undisturbed, chunk(whole))
    assert agent.dump(state) == agent.dump(undisturbed)
    assert isinstance(letter, DeadLetter)
    assert letter.reason == ("malformed" if what in SPOILED else "invalid")
    assert letter.detail
    assert orjson.loads(letter.original()) == spoiled


def test_a_summary_that_was_packed_by_zlib_is_still_read(reader: FolderReader) -> None:
    one = summary(reader)
    counts, times = DriftSummary.model_validate(one).unpack()
    old = {name: value for name, value in one.items() if name != "packing"}
    again, same = DriftSummary.model_validate({**old, "counts": packed(counts.tobytes())}).unpack()
    assert np.array_equal(again, counts)
    assert np.array_equal(same, times)


@given(st.lists(st.integers(0, 255), max_size=40))
def test_counts_in_half_bytes_come_back(counts: list[int]) -> None:
    data = summaries.pack_nibbles(np.array(counts, dtype=np.uint8))
    assert summaries.unpack_nibbles(data, len(counts)).tolist() == counts


@given(st.binary(max_size=40), st.integers(0, 2**62))
def test_bytes_that_are_no_half_bytes_are_refused_whatever_their_number(data: bytes, size: int) -> None:
    try:
        counts = summaries.unpack_nibbles(data, size)
    except ValueError as error:
        assert f"{len(data):,} bytes" in str(error)
    else:
        assert len(counts) == size


def test_what_was_packed_and_inflates_without_end_is_not_inflated(reader: FolderReader) -> None:
    bomb = SPOILED["too many counts"](summary(reader))
    with pytest.raises(ValueError, match="counts: 3,168 bytes were expected"):
        DriftSummary.model_validate(bomb).unpack()

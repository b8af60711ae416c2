"""However a stream is cut into messages, chunks and summaries, the same is told, under the same ids.

And an id that was given once is given to nothing else, though a detector that is anew counts from 0 again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from driftloop.agents.drift import DriftAgent
from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.agents.performance import PerformanceAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.data.segment_profiles import with_segments
from driftloop.mlops_core.drift.trackers import KEPT
from driftloop.schemas.events import DriftDetected, DriftMeasured, DriftResolved, Event, PerformanceEstimated
from driftloop.schemas.records import PredictionBatch
from driftloop.schemas.settings import DriftSettings, PerformanceSettings
from driftloop.schemas.summaries import DriftSummary
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from tests.support.handling import handle
from tests.support.serving_processes import fitted

Columns = dict[str, np.ndarray]
MODEL = "shop"
COUNTRIES = np.array(["FR", "DE", "IT"], dtype=object)
SHARP = DriftSettings(delta=1e-4, open_severity=0.4)
"""What is found by chance must be found again, too: the more is told, the more can differ. Italy by itself
moves the whole by 0.2."""


def visits(rng: np.random.Generator, rows: int, price: float = 0.0, italy: float = 0.0) -> Columns:
    """Price and size move together unless `italy` or `price` move the one."""
    country = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    size = rng.normal(size=rows)
    moved = 0.8 * size + 0.6 * rng.normal(size=rows) + price + italy * (country == 2)
    return {"country": COUNTRIES[country], "price": moved, "size": size, "score": rng.random(rows)}


def eventful(rng: np.random.Generator) -> Columns:
    """Everything happens: one country moves, then all, they are back, and two columns part."""
    apart = visits(rng, 6000)
    apart["size"] = rng.permutation(apart["size"])
    parts = [
        visits(rng, 6000),
        visits(rng, 10_000, italy=1.0),
        visits(rng, 3000, price=1.0),
        visits(rng, 6000),
    ]
    parts.append(apart)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def register(folder: Path, rng: np.random.Generator, versions: Sequence[str] = ("1",)) -> FolderReader:
    columns = visits(rng, 20_000)
    scores = columns.pop("score").astype(float)
    profile = with_segments(Profile.of(columns, scores), ("country",), columns, scores)
    for version in versions:
        folder_reader.save(folder, MODEL, version, fitted(), profile)
    return FolderReader(folder)


def batch(columns: Columns, first: int, last: int, version: str = "1", at: int = 0) -> PredictionBatch:
    rows = range(first, last)
    return PredictionBatch(
        model=MODEL,
        version=version,
        ids=[f"id-{row}" for row in rows],
        at=[at + 1000 * row for row in rows],
        scores=columns["score"][first:last].tolist(),
        features={name: columns[name][first:last].tolist() for name in ("country", "price", "size")},
    )


def places(rng: np.random.Generator, end: int, cuts: int) -> list[tuple[int, int]]:
    return list(pairwise([0, *sorted(rng.choice(np.arange(1, end), cuts, replace=False).tolist()), end]))


class Stages:
    """Both stages over one partition, cut anywhere."""

    def __init__(self, reader: FolderReader) -> None:
        self.first, self.drift = DriftAggregationAgent(reader), DriftAgent(reader, SHARP)
        self.performance = PerformanceAgent(reader, PerformanceSettings())
        self.binned, self.state = self.first.initial_state(), self.drift.initial_state()
        self.estimated = self.performance.initial_state()
        self.offset = self.summarised = 0

    def feed(self, messages: Iterable[PredictionBatch]) -> list[DriftSummary]:
        """One chunk."""
        records = [self._arrived(codec.encode(one)) for one in messages]
        said = handle(self.first, self.binned, Chunk("predictions", 0, records))
        return [one for one in said if isinstance(one, DriftSummary)]

    def tell(self, summaries: Sequence[DriftSummary]) -> list[Event]:
        """One chunk."""
        if not summaries:
            return []
        records = [self._arrived(codec.encode(one)) for one in summaries]
        chunk = Chunk("drift-summaries", 0, records)
        told = handle(self.drift, self.state, chunk) + handle(self.performance, self.estimated, chunk)
        return [one for one in told if isinstance(one, Event)]

    def restart(self) -> None:
        """Every worker is another one, with the state that was kept."""
        self.binned = self.first.load(self.first.dump(self.binned))
        self.state = self.drift.load(self.drift.dump(self.state))
        self.estimated = self.performance.load(self.performance.dump(self.estimated))

    def _arrived(self, body: bytes) -> ConsumerRecord:
        self.offset += 1
        return ConsumerRecord(self.offset, 1, None, body, {})


def told(
    reader: FolderReader, columns: Columns, rng: np.random.Generator, cuts: int, restarts: bool = False
) -> list[Event]:
    """All events of a stream that is cut into messages, these into chunks, and the summaries into chunks."""
    stages, rows = Stages(reader), len(columns["price"])
    messages = [batch(columns, first, last) for first, last in places(rng, rows, 2 * cuts)]
    summaries: list[DriftSummary] = []
    for first, last in places(rng, len(messages), cuts):
        summaries += stages.feed(messages[first:last])
        if restarts:
            stages.restart()
    events: list[Event] = []
    for first, last in places(rng, len(summaries), min(cuts, len(summaries) - 1)):
        events += stages.tell(summaries[first:last])
        if restarts:
            stages.restart()
    return events


def bare(event: Event) -> Event:
    """Without where its rows lie in Kafka: that is told by chunks."""
    return event.model_copy(update={"spans": []}) if isinstance(event, DriftMeasured) else event


def by_id(events: Iterable[Event]) -> Mapping[str, Event]:
    known = [bare(event) for event in events]
    found = {event.id: event for event in known}
    assert len(found) == len(known), "no two events have one id"
    return found


def test_another_cut_of_the_same_rows_tells_the_same_under_the_same_ids(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    reader, columns = register(tmp_path, rng), eventful(rng)
    once = by_id(told(reader, columns, rng, cuts=3))
    segments = {one.segment for one in once.values() if isinstance(one, DriftDetected)}
    assert {"", "country=IT"} <= segments
    assert any(isinstance(one, DriftMeasured) and one.partial and one.pairs for one in once.values())
    for cuts in (10, 400):
        assert by_id(told(reader, columns, rng, cuts)) == once
    assert by_id(told(reader, columns, rng, cuts=40, restarts=True)) == once


def test_what_the_whole_tells_comes_in_the_same_order_however_it_is_cut(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    reader, columns = register(tmp_path, rng), eventful(rng)

    def whole(cuts: int) -> Iterator[str]:
        for event in told(reader, columns, rng, cuts):
            if isinstance(event, DriftMeasured | DriftDetected | DriftResolved) and not event.segment:
                yield event.id

    assert list(whole(3)) == list(whole(100))


def test_a_version_that_was_forgotten_and_comes_again_repeats_no_id(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    versions = [str(number) for number in range(KEPT + 1)]
    stages, columns = Stages(register(tmp_path, rng, versions)), visits(rng, 3000, price=1.0)
    events: list[Event] = []
    for turn in range(2):
        for version in versions:
            events += stages.tell(stages.feed([batch(columns, 0, 3000, version, at=turn * 10_000_000)]))
    assert {type(event) for event in events} >= {DriftDetected, DriftMeasured, PerformanceEstimated}
    by_id(events)


def test_each_window_says_where_its_rows_lie(tmp_path: Path, rng: np.random.Generator) -> None:
    columns = visits(rng, 5000)
    events = told(register(tmp_path, rng), columns, rng, cuts=1)
    windows = [event for event in events if isinstance(event, DriftMeasured) and not event.partial]
    assert len(windows) == 4
    assert all(window.spans for window in windows)

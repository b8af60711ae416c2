"""The accounts: what became of every id, from the first topic to the Parquet files.

    published ─ predictions ─┬─ outcomes ─ examples ─ store        orphans ─ labels ─ dead letters
              └ labels ──────┘

A repetition (a worker that was killed says its last words again) is recognised as our agents do it: by
`source` and `seq`, a partition at a time.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from confluent_kafka import Message
from pydantic import Field, TypeAdapter

from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.schemas import topics
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import PerformanceMeasured
from driftloop.schemas.records import AnyRecord, Label, Prediction, PredictionBatch
from driftloop.schemas.settings import Settings
from driftloop.schemas.summaries import DriftSummary, LabelledExamples, Outcomes
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec
from tests.support.chaos.load import Ledger, rows_of

MICROBATCH = 32
ORPHAN = "label without prediction"
HISTORY = "history"
"""The segment with what was there before; nobody published it."""
SHOWN = 8
"""Ids named in a complaint; all of them would fill the screen."""
CHAIN = ("predictions topic", "labels topic", "outcomes", "examples", "store")
"""Where each labelled id has to be, in this order."""
RECORD: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="type")])
"""What `schemas` says of one written as JSON."""


class Once:
    """Topics as a reader sees them that knows repetitions."""

    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader
        self._newest: dict[tuple[str, int, bytes], int] = {}
        self.repetitions = 0

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there has been read."""
        return self._reader.caught_up

    def poll(self, seconds: float) -> Iterator[tuple[topics.Topic, Message]]:
        """What arrived for the first time."""
        for topic, message in self._reader.poll(seconds):
            headers = dict(message.headers() or ())
            if "source" in headers and headers.get("seq", b"").isdigit():
                place, seq = (topic.name, message.partition(), headers["source"]), int(headers["seq"])
                if seq <= self._newest.get(place, 0):
                    self.repetitions += 1
                    continue
                self._newest[place] = seq
            yield topic, message


@dataclass
class Accounts:
    """Everything that was found, by model."""

    once: Once
    places: defaultdict[str, Counter[tuple[str, str]]] = field(default_factory=lambda: defaultdict(Counter))
    """Place -> (model, id) -> how often."""
    rows: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """Predictions of a model and version in a partition that brought their features, duplicates included."""
    bare: defaultdict[tuple[str, str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    """Ids of the others: they meet their features, and count once."""
    summarised: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """Micro-batches of the same."""
    letters: dict[str, DeadLetter] = field(default_factory=dict)
    """By id: what two agents read and can't use is parked by both, as one letter."""
    windows: dict[str, PerformanceMeasured] = field(default_factory=dict)

    def read(self, seconds: float) -> None:
        """Take what arrived."""
        for topic, message in self.once.poll(seconds):
            value = message.value()
            match topic:
                case topics.PREDICTIONS | topics.LABELS:
                    self._published(topic, message.partition(), value)
                case topics.OUTCOMES:
                    self._count("outcomes", Outcomes.model_validate_json(value))
                case topics.EXAMPLES:
                    self._count("examples", LabelledExamples.model_validate_json(value))
                case topics.SUMMARIES:
                    summary = DriftSummary.model_validate_json(value)
                    self.summarised[summary.model, summary.version, summary.span.partition] += summary.batches
                case topics.METRICS if b'"PerformanceMeasured"' in value:
                    window = PerformanceMeasured.model_validate_json(value)
                    self.windows[window.id] = window
                case topics.DEAD_LETTERS:
                    letter = DeadLetter.model_validate_json(value)
                    self.letters[letter.id] = letter

    def drain(self, done: Callable[[], bool], patience: float, meanwhile: Callable[[], None]) -> None:
        """Read until `done()`, or until nothing more has come for `patience` seconds.

        Which of both it was, the complaints will say.
        """
        newest, since = self._size, time.monotonic()
        while not done() and time.monotonic() - since < patience:
            meanwhile()
            self.read(0.2)
            if self._size != newest:
                newest, since = self._size, time.monotonic()

    def stored(self, folder: Path, models: Iterable[str]) -> None:
        """Look into the files, as anybody could once all that waits is folded in."""
        self.places["store"].clear()
        for model in models:
            list(ParquetStore(folder).compact(model))
            for path in (folder / model).glob("*.parquet"):
                if path.stem == HISTORY:
                    continue
                self.places["store"].update((model, id_) for id_ in _ids(path))

    def outcomes_of(self, ledgers: Mapping[str, Ledger]) -> int:
        """How many of the labelled ids have become outcomes."""
        found = self.places["outcomes"]
        return sum((model, id_) in found for model, one in ledgers.items() for id_ in one.labelled)

    def _published(self, topic: topics.Topic, partition: int, value: bytes) -> None:
        record = codec.decode_record(value)
        rows = rows_of(record)
        self.places[f"{topic.name} topic"].update(rows)
        if isinstance(record, Prediction | PredictionBatch):
            place = record.model, record.version, partition
            if record.features:
                self.rows[place] += len(rows)
            else:
                self.bare[place].update(id_ for _, id_ in rows)

    def _count(self, place: str, rows: Outcomes) -> None:
        self.places[place].update((rows.model, id_) for id_ in rows.ids)

    @property
    def _size(self) -> int:
        return sum(found.total() for found in self.places.values()) + len(self.letters) + len(self.windows)


def complaints(ledgers: Mapping[str, Ledger], accounts: Accounts, settings: Settings) -> list[str]:
    """Everything that isn't as it should be, a sentence each; none when all is accounted for."""
    return [
        *_lost(ledgers, accounts),
        *_doubled(accounts),
        *_uninvited(ledgers, accounts),
        *_letters(ledgers, accounts),
        *_summaries(accounts),
        *_windows(ledgers, accounts, settings.performance.window_labels),
    ]


def _lost(ledgers: Mapping[str, Ledger], accounts: Accounts) -> Iterator[str]:
    """Each id is named once: at the first place where it should be and isn't."""
    for model, ledger in ledgers.items():
        left, before = {(model, id_) for id_ in ledger.labelled}, "the publisher"
        for place in CHAIN:
            missing = left - accounts.places[place].keys()
            if missing:
                yield f"{model}: {len(missing)} ids lost between {before} and {place}: {_named(missing)}"
            left, before = left - missing, place
        unlabelled = {(model, id_) for id_ in ledger.predicted} - accounts.places["predictions topic"].keys()
        if unlabelled:
            yield f"{model}: {len(unlabelled)} predictions never got to their topic: {_named(unlabelled)}"


def _doubled(accounts: Accounts) -> Iterator[str]:
    for place in ("outcomes", "examples", "store"):
        twice = {key for key, times in accounts.places[place].items() if times > 1}
        if twice:
            yield f"{len(twice)} ids are more than once in {place}: {_named(twice)}"


def _uninvited(ledgers: Mapping[str, Ledger], accounts: Accounts) -> Iterator[str]:
    """Rows that nobody labelled, and so nobody can have joined."""
    invited = {(m, id_) for m, ledger in ledgers.items() for id_ in ledger.labelled | ledger.closing}
    for place in ("outcomes", "examples", "store"):
        strangers = accounts.places[place].keys() - invited
        if strangers:
            yield f"{len(strangers)} ids in {place} should not be there: {_named(strangers)}"


def _letters(ledgers: Mapping[str, Ledger], accounts: Accounts) -> Iterator[str]:
    """Each orphan is a dead letter, and there is no other one.

    One that came twice may be two: a worker that lags may have given up on the first before the second came.
    """
    letters = accounts.letters.values()
    labels = [Label.model_validate_json(one.original()) for one in letters if one.reason == ORPHAN]
    parked = Counter((label.model, label.id) for label in labels)
    orphans = {(model, id_) for model, ledger in ledgers.items() for id_ in ledger.orphans}
    if orphans - parked.keys():
        missing = orphans - parked.keys()
        yield f"{len(missing)} of {len(orphans)} orphans are in no dead letter: {_named(missing)}"
    if parked.keys() - orphans:
        given_up = parked.keys() - orphans
        yield f"{len(given_up)} labels were given up though they had a prediction: {_named(given_up)}"
    often = {key for key, times in parked.items() if times > accounts.places["labels topic"][key]}
    if often:
        yield f"{len(often)} orphans were parked more often than they came: {_named(often)}"
    others = Counter((one.reason, one.detail) for one in letters if one.reason != ORPHAN)
    for (reason, detail), times in others.most_common(3):
        yield f"{times} dead letters of reason {reason!r}: {detail}"


def _summaries(accounts: Accounts) -> Iterator[str]:
    """Whole micro-batches of each partition; the rest waits in the summarising agent."""
    for model, version, partition in sorted({*accounts.rows, *accounts.bare}):
        place = model, version, partition
        rows, binned = accounts.rows[place] + len(accounts.bare[place]), accounts.summarised[place]
        if binned != rows // MICROBATCH:
            yield (
                f"{model}:{version}, partition {partition}: {rows} predictions are "
                f"{rows // MICROBATCH} whole micro-batches, but {binned} were summarised"
            )


def _windows(ledgers: Mapping[str, Ledger], accounts: Accounts, size: int) -> Iterator[str]:
    """Labels counted in windows: all of them but the last window's beginning."""
    for model in ledgers:
        joined = sum(times for (whose, _), times in accounts.places["outcomes"].items() if whose == model)
        measured = sum(window.rows for window in accounts.windows.values() if window.model == model)
        if measured != joined // size * size:
            yield (
                f"{model}: {joined} outcomes make {joined // size * size} rows in windows of {size}, "
                f"but {measured} were measured"
            )


def _ids(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    ids: list[str] = pq.ParquetFile(path).read(columns=["id"])["id"].to_pylist()
    return ids


def _named(keys: Iterable[tuple[str, str]]) -> str:
    ids = sorted(id_ for _, id_ in keys)
    return ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")

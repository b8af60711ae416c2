"""A load that remembers what it sent: late labels, shuffled, some twice, some of predictions nobody made.

    row n ──▶ prediction ── 20 %: features apart ── label up to 50 minutes later (98 %)
                   └─ 5 % come twice ─┘                └─ 5 % twice ─┘    2 % more labels belong to nobody

Times are those of the data: two seconds a row. The seed decides everything but the pace.
"""

import heapq
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from driftloop.schemas.records import (
    Batch,
    FeatureBatch,
    FeatureRow,
    Label,
    LabelBatch,
    Prediction,
    PredictionBatch,
    Value,
)
from driftloop.streams.producer.publisher import Publisher

BEGINNING = 1_700_000_000_000
STEP_MS, MINUTE_MS, HOUR_MS = 2_000, 60_000, 3_600_000
LATEST_MS = 50 * MINUTE_MS
TWICE, ORPHANS, APART, LABELLED = 0.05, 0.02, 0.2, 0.98
SLICE = 40
"""Rows a model between two breaths."""
CLOSING_ROWS = 150
"""A partition and model: more than the 63 rows that the join's clock is the median of."""
LONG_AFTER_MS = 1000 * HOUR_MS

Single = Prediction | FeatureRow | Label


@dataclass
class Ledger:
    """What was published of one model."""

    predicted: list[str] = field(default_factory=list)
    labelled: set[str] = field(default_factory=set)
    orphans: set[str] = field(default_factory=set)
    twice: int = 0
    closing: set[str] = field(default_factory=set)
    """Rows that only move the clocks on at the end."""


@dataclass
class Load:
    """Publishes rows of some models; `run` until told to stop, then `close`."""

    publisher: Publisher
    seed: int
    models: Sequence[str]
    version: str = "1"
    rows_a_second: float = 300.0
    """Of each model."""
    ledgers: dict[str, Ledger] = field(init=False)
    _random: random.Random = field(init=False)
    _due: list[tuple[float, int, Single]] = field(default_factory=list)
    _asides: deque[Callable[[], None]] = field(default_factory=deque)
    _row: int = 0
    _slices: int = 0

    def __post_init__(self) -> None:
        self.ledgers = {model: Ledger() for model in self.models}
        self._random = random.Random(self.seed)  # noqa: S311 - chaos that can be repeated

    @property
    def labels(self) -> int:
        """Labels that belong to a prediction, of all models."""
        return sum(len(ledger.labelled) for ledger in self.ledgers.values())

    def run(self, enough: Callable[[], bool]) -> None:
        """Publish at the pace until `enough()`, then what is still due at once.

        Raises:
            NotDelivered: what was accepted was not delivered; nothing can be proved then.
        """
        began = time.monotonic()
        while not enough():
            while self._asides:
                self._asides.popleft()()
            self._predict(SLICE)
            self._send(self.now)
            ahead = self._row / self.rows_a_second - (time.monotonic() - began)
            threading.Event().wait(max(0.0, ahead))
        self._send(float("inf"))
        self.publisher.flush()

    @property
    def now(self) -> int:
        """The load's calendar (UTC, ms)."""
        return BEGINNING + self._row * STEP_MS

    def close(self, partitions: int, turn: int = 0) -> None:
        """Rows long after all others: whoever waits gives up, and segments of a second and more are closed.

        Those who gave up have opened segments of their own, which the rows of the next turn close.
        """
        at = self.now + (turn + 1) * LONG_AFTER_MS
        for model, ledger in self.ledgers.items():
            ids = [f"closing-{model}-{turn}-{n}" for n in range(CLOSING_ROWS * partitions)]
            ledger.closing.update(ids)
            rows = [
                Prediction(**self._said(model, id_, at), features=features_of(n)) for n, id_ in enumerate(ids)
            ]
            _publish(self.publisher, rows, batch=True)
            labels = [Label(model=model, id=id_, at=at, label=n % 2) for n, id_ in enumerate(ids)]
            _publish(self.publisher, labels, batch=True)
        self.publisher.flush()

    def stray(self, rows: int, ahead_ms: int) -> None:
        """In between, rows of a client whose clock is wrong; they count like any others."""
        self._asides.append(lambda: self._stray(rows, ahead_ms))

    def _stray(self, rows: int, ahead_ms: int) -> None:
        at = self.now + ahead_ms
        for model, ledger in self.ledgers.items():
            ids = [f"stray-{model}-{self._number()}" for _ in range(rows)]
            ledger.predicted += ids
            ledger.labelled.update(ids)
            said = [Prediction(**self._said(model, id_, at), features=features_of(0)) for id_ in ids]
            _publish(self.publisher, said, batch=False)
            labels = [Label(model=model, id=id_, at=at + MINUTE_MS, label=1) for id_ in ids]
            _publish(self.publisher, labels, batch=False)

    def _predict(self, rows: int) -> None:
        for n in range(self._row, self._row + rows):
            at = BEGINNING + n * STEP_MS
            for model, ledger in self.ledgers.items():
                self._row_of(model, ledger, n, at)
        self._row += rows

    def _row_of(self, model: str, ledger: Ledger, n: int, at: int) -> None:
        id_ = f"{model}-{n}"
        apart = self._random.random() < APART
        ledger.predicted.append(id_)
        given = {} if apart else features_of(n)
        self._plan(ledger, Prediction(**self._said(model, id_, at), features=given), at)
        if apart:
            self._plan(ledger, FeatureRow(model=model, id=id_, at=at, features=features_of(n)), at)
        late = int(self._random.random() ** 3 * LATEST_MS)
        if self._random.random() < LABELLED:
            ledger.labelled.add(id_)
            self._plan(ledger, Label(model=model, id=id_, at=at + late, label=n % 2), at + late)
        if self._random.random() < ORPHANS:
            ledger.orphans.add(f"orphan-{id_}")
            self._plan(ledger, Label(model=model, id=f"orphan-{id_}", at=at + late, label=1), at + late)

    def _said(self, model: str, id_: str, at: int) -> dict[str, object]:
        return {"model": model, "version": self.version, "id": id_, "at": at, "score": 0.5}

    def _plan(self, ledger: Ledger, record: Single, at: int) -> None:
        """Due a little later than it says (that is the shuffling), and some of it once more."""
        heapq.heappush(self._due, (at + self._random.random() * 5 * MINUTE_MS, self._number(), record))
        if self._random.random() < TWICE:
            ledger.twice += 1
            again = at + self._random.random() * 20 * MINUTE_MS
            heapq.heappush(self._due, (again, self._number(), record))

    def _number(self) -> int:
        self._slices += 1
        return self._slices

    def _send(self, until: float) -> None:
        due = []
        while self._due and self._due[0][0] <= until:
            due.append(heapq.heappop(self._due)[2])
        for group in _alike(due):
            _publish(self.publisher, group, batch=self._random.random() < 0.5)  # half of it one by one


def _alike(records: Sequence[Single]) -> Iterator[list[Single]]:
    """What can share a batch."""

    def kind(record: Single) -> tuple[str, str, bool]:
        return record.model, record.type, isinstance(record, Prediction) and not record.features

    for _, group in groupby(sorted(records, key=kind), key=kind):
        yield list(group)


def _publish(publisher: Publisher, records: Sequence[Single], batch: bool) -> None:
    if batch:
        publisher.publish_batch(batch_of(records))
    else:
        for record in records:
            publisher.publish(record)


def batch_of(records: Sequence[Single]) -> PredictionBatch | FeatureBatch | LabelBatch:
    """Records of one model and kind (and with the same features) as columns."""
    first = records[0]
    columns = {"ids": [one.id for one in records], "at": [one.at for one in records]}
    named = {"model": first.model, **columns}
    if isinstance(first, Label):
        return LabelBatch.model_validate({**named, "labels": [_label(one) for one in records]})
    features = {name: [_feature(one, name) for one in records] for name in first.features}
    if isinstance(first, FeatureRow):
        return FeatureBatch.model_validate({**named, "features": features})
    scores = [one.score for one in records if isinstance(one, Prediction)]
    return PredictionBatch.model_validate(
        {**named, "version": first.version, "scores": scores, "features": features}
    )


def _label(record: Single) -> float:
    assert isinstance(record, Label)
    return record.label


def _feature(record: Single, name: str) -> Value:
    assert not isinstance(record, Label)
    return record.features[name]


def features_of(n: int) -> dict[str, Value]:
    """Features of row n; they repeat, so that nothing drifts."""
    return {"n": n % 97, "share": n % 13 / 13, "parity": "odd" if n % 2 else "even"}


def rows_of(record: Single | Batch) -> list[tuple[str, str]]:
    """(model, id) of each row."""
    ids = record.ids if isinstance(record, Batch) else [record.id]
    return [(record.model, id_) for id_ in ids]

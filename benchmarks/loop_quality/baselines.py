"""What a few lines of Python reach on the same rows with the same delay, without the system.

- *static*: the loop's first model, never changed.
- *cron 5k*, *cron 20k*: every 1,000 labels a fit on the newest 5,000 or 20,000 labelled rows, which serves
  at once.
- *gate*: every 1,000 labels two challengers, fitted on the same windows without their newest 1,000 rows; the
  better one on those rows serves at once if the paired gate (`mlops_core.training.gate`) lets it pass.

Fits don't depend on each other, so processes of low priority share them while the loop runs. Scores are kept
on the disk by everything they depend on, so that a repeated run doesn't repeat them.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks.loop_quality.data import Stream
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.ports import Fitted
from driftloop.mlops_core.training import gate
from driftloop.mlops_core.training.gate import Incumbent
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer, XGBoostTrainer
from driftloop.schemas.settings import TrainingSettings

EVERY = 1_000
"""Labels between two fits."""
WINDOWS = {"cron 5k": 5_000, "cron 20k": 20_000}
"""Newest labelled rows that a cron job fits on."""
GATE = "gate"
GATE_ROWS = 1_000
"""Newest labelled rows that the gate's challengers don't learn from."""
STATIC = "static"
_NICE = 10
_VERSION = 1
"""Grows when the computation changes, so that older scores on the disk are not used."""


@dataclass(frozen=True)
class Baseline:
    """Scores of all rows, shape (rows,), NaN in the warm ones."""

    scores: Floats
    fits: int = 0
    promotions: int = 0
    """Models that served after the first."""


@dataclass(frozen=True)
class Tick:
    """A moment at which the cron job runs."""

    asked: int
    """Rows predicted by then; the fitted model scores from this row on."""
    labelled: int
    """Rows whose labels are known."""


def ticks(stream: Stream, every: int = EVERY) -> list[Tick]:
    """After which blocks the cron job runs: as soon as `every` more labels are known than before."""
    found, due = [], stream.warm + every
    for asked in range(stream.warm + stream.block, len(stream), stream.block):
        labelled = stream.labels_known(asked)
        if labelled >= due:
            found.append(Tick(asked, labelled))
            due = labelled + every
    return found


def window(tick: Tick, rows: int, held_out: int = 0) -> tuple[int, int]:
    """The first row and the end of the newest `rows` labelled ones, without the newest `held_out` of them."""
    return max(0, tick.labelled - rows), tick.labelled - held_out


class Baselines:
    """Computes them in processes of its own from the moment it is made; `close` it, or use `with`."""

    def __init__(self, stream: Stream, training: TrainingSettings, cache: Path, processes: int) -> None:
        self._stream, self._training, self._cache = stream, training, cache
        self._ticks = ticks(stream)
        self._fits: dict[tuple[int, int], Future[Fitted | None]] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._processes = processes
        for name, rows in WINDOWS.items():
            if self._cached(name) is None:
                self._start([window(tick, rows) for tick in self._ticks])
        if self._cached(GATE) is None:
            self._start([window for tick in self._ticks for window in _challengers(tick)])

    def results(self, first: Fitted) -> Mapping[str, Baseline]:
        """All baselines, once they are computed; `first` is the loop's first model."""
        named = hashlib.sha256(first.payload).hexdigest()[:16]
        found = {STATIC: Baseline(_served_scores(self._stream, [(self._stream.warm, first)]))}
        for name, rows in WINDOWS.items():
            found[name] = self._once(name, named, lambda rows=rows: self._cron(first, rows))  # type: ignore[misc]
        found[GATE] = self._once(GATE, named, lambda: self._gate(first))
        return found

    def close(self) -> None:
        """Give up what isn't computed yet."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cron(self, first: Fitted, rows: int) -> Baseline:
        windows = [window(tick, rows) for tick in self._ticks]
        self._start(windows)
        fitted = [self._fits[window].result() for window in windows]
        serving = [
            (tick.asked, model) for tick, model in zip(self._ticks, fitted, strict=True) if model is not None
        ]
        scores = _served_scores(self._stream, [(self._stream.warm, first), *serving])
        return Baseline(scores, len(windows), len(serving))

    def _gate(self, first: Fitted) -> Baseline:
        windows = [_challengers(tick) for tick in self._ticks]
        self._start([window for both in windows for window in both])
        serving, champion = [(self._stream.warm, first)], first
        for tick, both in zip(self._ticks, windows, strict=True):
            challengers = [model for model in (self._fits[key].result() for key in both) if model is not None]
            admitted = admit(self._stream, tick, challengers, champion, self._training)
            if admitted is not None:
                champion = admitted
                serving.append((tick.asked, admitted))
        return Baseline(_served_scores(self._stream, serving), 2 * len(windows), len(serving) - 1)

    def _start(self, windows: Sequence[tuple[int, int]]) -> None:
        """Have these windows fitted, each once."""
        if self._pool is None:
            begun = (self._stream, self._training)
            spawn = get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, spawn, initializer=_begin, initargs=begun)
        for window in windows:
            if window not in self._fits:
                self._fits[window] = self._pool.submit(_fit, *window)

    def _once(self, name: str, first: str, compute: Callable[[], Baseline]) -> Baseline:
        """From the disk if it is there; the model that served first is part of a file's name."""
        kept = self._cached(name, first)
        if kept is None:
            kept = compute()
            self._cache.mkdir(parents=True, exist_ok=True)
            counts = np.array([kept.fits, kept.promotions])
            np.savez_compressed(self._place(name, first), scores=kept.scores, counts=counts)
        return kept

    def _cached(self, name: str, first: str = "*") -> Baseline | None:
        place = next(iter(self._cache.glob(self._place(name, first).name)), None)
        if place is None:
            return None
        with np.load(place) as file:
            fits, promotions = (int(count) for count in file["counts"])
            return Baseline(file["scores"], fits, promotions)

    def _place(self, name: str, first: str) -> Path:
        what = f"{_VERSION} {EVERY} {GATE_ROWS} {WINDOWS} {version('xgboost')} {self._training!r}"
        made = hashlib.sha256(what.encode()).hexdigest()[:8]
        stream = f"{self._stream.name}-{self._stream.fingerprint}"
        return self._cache / f"{stream}-{name.replace(' ', '-')}-{made}-{first}.npz"


def admit(
    stream: Stream, tick: Tick, challengers: Sequence[Fitted], champion: Fitted, training: TrainingSettings
) -> Fitted | None:
    """The challenger with the least loss on the newest labelled rows, if the gate lets it pass; else None."""
    first, last = tick.labelled - GATE_ROWS, tick.labelled
    labels = stream.labels[first:last]
    scored = [(model, _scores(stream, model, first, last)) for model in challengers]
    if not scored:
        return None
    best, scores = min(scored, key=lambda pair: float(np.square(labels - pair[1]).mean()))
    incumbent = Incumbent("champion", _scores(stream, champion, first, last))
    return best if gate.compare(labels, scores, incumbent, training).passed else None


def _challengers(tick: Tick) -> list[tuple[int, int]]:
    """The windows that the gate's challengers of that moment learn from."""
    return [window(tick, rows, GATE_ROWS) for rows in WINDOWS.values()]


def _served_scores(stream: Stream, serving: Sequence[tuple[int, Fitted]]) -> Floats:
    """Scores of all rows after the warm ones; each model serves from its row until the next one's."""
    scores = np.full(len(stream), np.nan)
    ends = [first for first, _ in serving[1:]] + [len(stream)]
    for (first, fitted), last in zip(serving, ends, strict=True):
        scores[first:last] = _scores(stream, fitted, first, last)
    return scores


def _scores(stream: Stream, fitted: Fitted, first: int, last: int) -> Floats:
    columns = {name: column[first:last] for name, column in stream.features.items()}
    return XGBoostScorer(fitted)(columns, last - first)


_begun: tuple[Stream, TrainingSettings] | None = None


def _begin(stream: Stream, training: TrainingSettings) -> None:
    """Of a process of the pool."""
    global _begun  # noqa: PLW0603 - a pool's process has no other place
    os.nice(_NICE)
    _begun = (stream, training)


def _fit(first: int, last: int) -> Fitted | None:
    """A model of these rows; None where they have one class only."""
    assert _begun is not None
    stream, training = _begun
    examples = stream.rows(first, last)
    if float(np.ptp(examples.labels)) == 0:
        return None
    return XGBoostTrainer(training.rounds, training.threads).fit(examples, stream.task, {})

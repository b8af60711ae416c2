"""Concept drift: scores that fit the truth worse than they did, seen as labels arrive.

Two river ADWINs listen to each labelled row. The *error* (0 or 1 for a class, else |label - score| in its
usual size) alarms when it rises. The *residual* (label - score) alarms either way: where fewer positives come
than before, the error falls, and only the residual tells that scores are too high.

An alarm opens an episode, or tells that an open one got worse; it is over when both are back near what they
were before (see `recovery`). With a season, both are listened to without what the hour usually does to them
(see `phases`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import HUGE, Floats
from driftloop.mlops_core.drift import serialization
from driftloop.mlops_core.drift.adwin_bank import AdwinBank
from driftloop.mlops_core.drift.change_times import RecentTimes
from driftloop.mlops_core.drift.detector import Alarm
from driftloop.mlops_core.drift.online_season import BLOCK, SeasonalBaseline
from driftloop.mlops_core.drift.recovery import Recovery
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Task
from driftloop.schemas.settings import PerformanceSettings

CLOCK = 32
"""Rows between two looks for a change: half the cost, and no later in practice."""
_KEPT = 4096
"""Rows remembered to date a change."""
_STRIDE = 16
"""Every 16th row's time is kept, so that 16,384 rows can be dated."""
_LEARNED = 200
"""Rows from which the usual size of a number's residual is learned."""
_CLIP = 10.0
"""A residual counts as at most ten times its usual size: one wild label is no drift."""
_LEAST_SPREAD = 0.1
"""Least standard deviation of an error rate that a change is measured in."""


class Signal(StrEnum):
    """What was listened to."""

    ERROR = "error"
    RESIDUAL = "residual"


_SIGNALS = (Signal.ERROR, Signal.RESIDUAL)


@dataclass(frozen=True)
class ConceptAlarm:
    """Scores fit the truth otherwise than before."""

    signal: Signal
    task: Task
    changed_at: int
    """Estimate of when it began (ms), in the times given to `update`."""
    at: int
    """The row that gave it away (ms)."""
    rows: int
    """Labelled rows since the change."""
    before: float
    """Mean error (a share for classes, else in the label's unit) or residual before the change."""
    after: float
    """The same since."""
    severity: float
    """The change, in standard deviations of a row."""

    @property
    def sentence(self) -> str:
        """What happened, for a person."""
        since = f"over the last {self.rows} labels"
        if self.signal is Signal.RESIDUAL:
            side = "low" if self.after > 0 else "high"
            now = f"scores are too {side} by {_number(abs(self.after))} on average {since}"
            return f"{now} (label - score was {self.before:+.2g})"
        if self.task is Task.BINARY:
            return f"wrong answers went from {100 * self.before:.0f} % to {100 * self.after:.0f} % {since}"
        return f"the mean error went from {_number(self.before)} to {_number(self.after)} {since}"


@dataclass(frozen=True)
class ConceptClosed:
    """Scores fit the truth about as well as they did before the episode."""

    signal: Signal
    """What was the last to come back."""
    task: Task
    at: int
    """The newest row by then (ms)."""
    level: float
    """Mean error or residual before the episode, and about now."""

    @property
    def sentence(self) -> str:
        """What happened, for a person."""
        if self.signal is Signal.RESIDUAL:
            return f"label - score is about {self.level:+.2g} again"
        if self.task is Task.BINARY:
            return f"wrong answers are about {100 * self.level:.0f} % again"
        return f"the mean error is about {_number(self.level)} again"


ConceptVerdict = ConceptAlarm | ConceptClosed


class ConceptDrift:
    """Listens to the labelled rows of one version, in the order in which labels arrive.

    >>> rng = np.random.default_rng(3)
    >>> scores = rng.random(4000)
    >>> labels = (rng.random(4000) < np.where(np.arange(4000) < 3000, scores, 1 - scores)).astype(float)
    >>> drift = ConceptDrift(PerformanceSettings())
    >>> alarms = drift.update(labels, scores, at=np.arange(4000))
    >>> [(alarm.signal.value, abs(alarm.changed_at - 3000) < 32) for alarm in alarms]
    [('error', True)]
    """

    def __init__(
        self, settings: PerformanceSettings, task: Task = Task.BINARY, spread: float | None = None
    ) -> None:
        """`spread` is the usual size of a number's residual; learned from the first 200 rows if not given."""
        self._task = task
        self._spread = 1.0 if task is Task.BINARY else spread
        self._learning = np.empty((0, 2))
        """Residuals and times that wait until their usual size is known."""
        self._adwins = AdwinBank(len(_SIGNALS), settings.delta, CLOCK, _KEPT)
        self._times = RecentTimes(_STRIDE)
        self._recovery = Recovery(np.array([signal is Signal.ERROR for signal in _SIGNALS]))
        self._phases = None if settings.season is None else SeasonalBaseline(settings.season, len(_SIGNALS))
        self._waiting = np.empty((len(_SIGNALS) + 1, 0))
        """Errors, residuals and times that wait for the rest of their block, with a season."""

    @property
    def rows(self) -> int:
        """Rows listened to so far."""
        return self._times.seen

    @property
    def open(self) -> bool:
        """Whether an episode is."""
        return bool(self._recovery.open.any())

    def settle(self) -> None:
        """The episode is over for another reason: nobody asks this version any more."""
        self._recovery.open[:] = False

    def update(self, labels: Floats, scores: Floats, at: NDArray[np.int64]) -> list[ConceptVerdict]:
        """Take in labelled rows, each array of shape (rows,); rows that are not finite are left out.

        Returns:
            Alarms and ends of episodes, oldest first. How rows are chunked changes nothing.

        Raises:
            InvalidData: arrays of different lengths.
        """
        if not labels.shape == scores.shape == at.shape:
            raise InvalidData(
                f"labels {labels.shape}, scores {scores.shape} and at {at.shape} differ in length"
            )
        sane = (np.abs(labels) <= HUGE) & (np.abs(scores) <= HUGE)
        labels, scores, at = labels[sane], scores[sane], at[sane]
        residuals = labels - scores
        if self._task is Task.BINARY:
            errors = ((scores >= 0.5) != (labels >= 0.5)).astype(np.float64)
            return self._update_signals(errors, np.clip(residuals, -1.0, 1.0), at)
        return self._scale_residuals(residuals, at)

    def dump(self) -> bytes:
        """The state as bytes."""
        meta = {"task": self._task, "spread": self._spread, "seen": self._times.seen}
        arrays: dict[str, NDArray[Any]] = {
            "learning": self._learning,
            "times": self._times.recent,
            "adwins": np.frombuffer(self._adwins.dump(), dtype=np.uint8),
            "waiting": self._waiting,
            **self._recovery.state(),
            **({} if self._phases is None else self._phases.state()),
        }
        return serialization.dump_state(meta, arrays)

    @classmethod
    def load(cls, data: bytes, settings: PerformanceSettings) -> Self:
        """Continue where `dump` was taken; after an upgrade of river, with fresh detectors.

        Raises:
            InvalidData: not such a state.
        """
        meta, arrays = serialization.load_state(data)
        loaded = cls(settings, Task(meta["task"]), meta["spread"])
        loaded._learning = arrays["learning"]
        loaded._times = RecentTimes(_STRIDE, arrays["times"], meta["seen"])
        loaded._adwins.load(arrays["adwins"].tobytes())
        if "waiting" in arrays:  # states from before there were episodes have none
            loaded._waiting = arrays["waiting"]
            loaded._recovery.restore(arrays)
        if loaded._phases is not None and "clock" in arrays:
            loaded._phases.restore(arrays)
        return loaded

    def _scale_residuals(self, residuals: Floats, at: NDArray[np.int64]) -> list[ConceptVerdict]:
        """Residuals of numbers, in their usual size once that is known."""
        if self._spread is None:
            arrived = np.stack([residuals, at.astype(np.float64)], axis=1)  # ms below 2^53 stay exact
            self._learning = np.concatenate([self._learning, arrived])
            if len(self._learning) < _LEARNED:
                return []
            residuals, at = self._learning[:, 0], self._learning[:, 1].astype(np.int64)
            self._learning = np.empty((0, 2))
            self._spread = usual_size(residuals[:_LEARNED])
        sized = np.clip(residuals / self._spread, -_CLIP, _CLIP)
        return self._update_signals(np.abs(sized), sized, at)

    def _update_signals(
        self, errors: Floats, residuals: Floats, at: NDArray[np.int64]
    ) -> list[ConceptVerdict]:
        if self._phases is None:
            return self._update_detectors(np.stack([errors, residuals]), at)
        arrived = np.stack([errors, residuals, at.astype(np.float64)])
        waiting = np.concatenate([self._waiting, arrived], axis=1)
        whole = waiting.shape[1] // BLOCK * BLOCK
        self._waiting = waiting[:, whole:].copy()
        verdicts: list[ConceptVerdict] = []
        for first in range(0, whole, BLOCK):
            block = waiting[:, first : first + BLOCK]
            times = block[-1].astype(np.int64)
            level = self._phases.subtract(block[:-1], times)
            if level is not None:
                verdicts += self._update_detectors(level, times)
        return verdicts

    def _update_detectors(self, values: Floats, at: NDArray[np.int64]) -> list[ConceptVerdict]:
        """What `values` of both signals, shape (signals, rows), lead to, looking every 32 rows."""
        if not len(at):
            return []
        first, held = self._times.seen, self._adwins.recent
        self._times.add(at.tolist())
        alarms = sorted(self._adwins.update(values), key=lambda alarm: alarm.position)
        if not alarms and not self.open:
            return []
        series = np.concatenate([held, values.astype(np.float32)], axis=1)
        verdicts: list[ConceptVerdict] = []
        for end in sorted({*range(CLOCK - first % CLOCK, len(at) + 1, CLOCK), len(at)}):
            while alarms and alarms[0].position < end:
                verdicts += self._on_alarm(alarms.pop(0), first, at)
            if self.open and (first + end) % CLOCK == 0:
                settled = self._recovery.recovered_series(series[:, : held.shape[1] + end], first + end)
                verdicts += self._close_episode(settled, int(at[end - 1]))
        return verdicts

    def _on_alarm(self, alarm: Alarm, first: int, at: NDArray[np.int64]) -> list[ConceptVerdict]:
        changed = first + alarm.position + 1 - alarm.width
        was = self.open
        deviation = self._deviation(alarm)
        if self._recovery.on_alarm(alarm.channel, alarm.before, alarm.after, deviation, changed):
            return [self._concept_alarm(alarm, first, at)]
        return self._close_episode([alarm.channel], int(at[alarm.position])) if was else []

    def _close_episode(self, settled: Sequence[int], at: int) -> list[ConceptVerdict]:
        """The end of the episode, if nothing else is open."""
        if self.open or not settled:
            return []
        level = float(self._recovery.home[settled[-1]]) * (self._spread or 1.0)
        return [ConceptClosed(_SIGNALS[settled[-1]], self._task, at, level)]

    def _concept_alarm(self, alarm: Alarm, first: int, at: NDArray[np.int64]) -> ConceptAlarm:
        unit, now = self._spread or 1.0, first + alarm.position + 1
        return ConceptAlarm(
            signal=_SIGNALS[alarm.channel],
            task=self._task,
            changed_at=self._times.at(now - alarm.width, now),
            at=int(at[alarm.position]),
            rows=alarm.width,
            before=alarm.before * unit,
            after=alarm.after * unit,
            severity=abs(alarm.after - alarm.before) / self._deviation(alarm),
        )

    def _deviation(self, alarm: Alarm) -> float:
        """Of one row's value, before the change: that of a share, else its usual size, which is the unit."""
        if self._task is not Task.BINARY:
            return 1.0
        share = abs(alarm.before) if _SIGNALS[alarm.channel] is Signal.ERROR else 0.5
        return max(float(np.sqrt(max(share * (1 - share), 0.0))), _LEAST_SPREAD)


def usual_size(residuals: Floats) -> float:
    """The size that 68 % stay within, so that a wild one doesn't count; more where most are exact."""
    sizes = np.abs(residuals - np.median(residuals))
    quantiles = np.quantile(sizes, [0.68, 0.95, 1.0])
    return float(next((size for size in quantiles if size > 0), 1.0))


def _number(value: float) -> str:
    return f"{value:.3g}"

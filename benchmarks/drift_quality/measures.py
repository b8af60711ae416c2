"""Figures of detectors on streams whose change is known, named as in the literature on evaluating them.

Gama, Zliobaite et al., "A survey on concept drift adaptation", ACM Computing Surveys 46(4), 2014, section 5.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MILLION = 1_000_000


@dataclass(frozen=True)
class Trial:
    """One feature's stream and what a detector said of it."""

    alarms: Sequence[int]
    """Events seen when it alarmed, in order: 1 is the first."""
    events: int
    """Length of the stream."""
    change: int | None = None
    """Events before the change; None: there is none."""

    @property
    def stable(self) -> int:
        """Events without a change."""
        return self.events if self.change is None else self.change

    @property
    def false_alarms(self) -> int:
        """Alarms without a change."""
        return sum(alarm <= self.stable for alarm in self.alarms)

    @property
    def delay(self) -> int | None:
        """Events from the change to the first alarm after it; None: missed."""
        after = (alarm - self.stable for alarm in self.alarms if alarm > self.stable)
        return next(after, None)


@dataclass(frozen=True)
class Figures:
    """What a detector is worth on one case."""

    false_alarm_rate: float
    """Per feature and million events without a change."""
    stable_events: int
    """Over how many of these, all features together."""
    missed_detection_rate: float
    """Share of changes that were never found; NaN without changes."""
    detection_delay: tuple[float, float]
    """Median and 95th percentile in events, missed ones counted as infinitely late; NaN without changes."""
    changes: int

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> "Figures":
        """Over all trials of a case.

        >>> found = Trial(alarms=[120], events=200, change=100)
        >>> Figures.of([found, found, Trial(alarms=[40], events=200, change=100)])
        ... # doctest: +NORMALIZE_WHITESPACE
        Figures(false_alarm_rate=3333.3333333333335, stable_events=300,
            missed_detection_rate=0.3333333333333333, detection_delay=(20.0, inf), changes=3)
        """
        trials = list(trials)
        stable = sum(trial.stable for trial in trials)
        delays = [trial.delay for trial in trials if trial.change is not None]
        return cls(
            false_alarm_rate=sum(trial.false_alarms for trial in trials) * MILLION / max(stable, 1),
            stable_events=stable,
            missed_detection_rate=_share(delay is None for delay in delays),
            detection_delay=_percentiles([np.inf if delay is None else delay for delay in delays]),
            changes=len(delays),
        )


def _share(flags: Iterable[bool]) -> float:
    flags = list(flags)
    return sum(flags) / len(flags) if flags else float("nan")


def _percentiles(delays: Sequence[float]) -> tuple[float, float]:
    """The 50th and 95th, each one that was observed."""
    if not delays:
        return float("nan"), float("nan")
    low, high = np.quantile(delays, [0.5, 0.95], method="inverted_cdf").tolist()
    return low, high

"""What a run comes to: a line for the loop and for each baseline, the share of the cron's gain, the goals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.loop_quality.baselines import STATIC, WINDOWS, Baseline
from benchmarks.loop_quality.data import Stream
from benchmarks.loop_quality.replay import Replayed
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.ports import Task
from driftloop.mlops_core.training import evaluation

LEAST_GAIN = 0.001
"""A cron's gain (AUC or MAE) under which a share of it says nothing."""


@dataclass(frozen=True)
class Figures:
    """One line of the table."""

    name: str
    quality: float
    """Prequential, over all rows after the first model: AUC of classes, mean absolute error of numbers."""
    error: float
    """Share of wrong classes; root mean squared error of numbers."""
    fits: int = 0
    """Models fitted after the first one."""
    promotions: int = 0
    """Models that became champion after the first one."""
    trainings: int | None = None
    rollbacks: int | None = None
    seconds: float | None = None
    share: float | None = None
    """Of the better cron's gain over the static model; None where there is no gain."""


@dataclass(frozen=True)
class Compared:
    """One stream: the loop by strategy, and the baselines."""

    stream: Stream
    loops: Sequence[Figures]
    baselines: Sequence[Figures]

    @property
    def cron_fits(self) -> int:
        """Fits of one cron job."""
        return next(baseline.fits for baseline in self.baselines if baseline.name in WINDOWS)


def quality(task: Task, labels: Floats, scores: Floats) -> tuple[float, float]:
    """AUC and share of wrong classes, or MAE and RMSE, of `scores` against `labels`, shape (rows,)."""
    found = evaluation.metrics(task, labels, scores)
    return (found["mae"], found["rmse"]) if task is Task.REGRESSION else (found["auc"], found["error"])


def share(task: Task, loop: float, static: float, crons: Sequence[float]) -> float | None:
    """Which share of the better cron's gain over static the loop has; None where there is no gain.

    >>> share(Task.BINARY, 0.81, 0.73, [0.83, 0.81])
    0.8
    >>> share(Task.REGRESSION, 0.4, 1.2, [0.4, 0.5])
    1.0
    """
    sign = -1 if task is Task.REGRESSION else 1
    gain = max(sign * (cron - static) for cron in crons)
    return None if gain < LEAST_GAIN else round(sign * (loop - static) / gain, 4)


def compare(stream: Stream, replays: Sequence[Replayed], baselines: Mapping[str, Baseline]) -> Compared:
    """The figures of one stream, over the rows that each loop answered."""
    answered = np.isfinite(np.stack([replay.scores for replay in replays])).all(axis=0)
    labels = stream.labels[answered]
    lines = {
        name: Figures(
            name, *quality(stream.task, labels, baseline.scores[answered]), baseline.fits, baseline.promotions
        )
        for name, baseline in baselines.items()
    }
    static, crons = lines[STATIC].quality, [lines[name].quality for name in WINDOWS]
    loops = []
    for replay in replays:
        own, error = quality(stream.task, labels, replay.scores[answered])
        facts = replay.facts
        loops.append(
            Figures(
                f"loop, {replay.strategy}",
                own,
                error,
                max(facts.fits - 1, 0),
                facts.promotions,
                max(facts.trainings - 1, 0),
                facts.rollbacks,
                sum(replay.seconds.values()),
                share(stream.task, own, static, crons),
            )
        )
    return Compared(stream, loops, list(lines.values()))


@dataclass(frozen=True)
class Goal:
    """One goal, what was measured, and whether that meets it."""

    what: str
    measured: str
    met: bool


LEAST_SHARE = {
    "champion": {"elec": 0.80, "flights": 0.90, "bike": 0.90, "agrawal": 0.98, "stable": 0.90},
    "blend": {"elec": 0.95, "flights": 1.10, "agrawal": 1.00, "stable": 1.00},
}
"""Share of the better cron's gain, by strategy and stream."""
MOST_FITS = {"flights": 1 / 2, "bike": 1 / 2, "agrawal": 1 / 5}
"""Of a cron's fits, for the champion strategy."""


def goals(found: Compared, strategy: str, loop: Figures) -> Iterator[Goal]:
    """The goals for that strategy on that stream."""
    name = found.stream.name
    least = LEAST_SHARE[strategy].get(name)
    if least is not None:
        reached = "none, no cron gained anything" if loop.share is None else f"{loop.share:.0%}"
        yield Goal(f"share >= {least:.0%}", reached, loop.share is not None and loop.share >= least)
    if strategy != "champion":
        return
    if name in MOST_FITS:
        most = found.cron_fits * MOST_FITS[name]
        yield Goal(f"fits <= {most:.0f}", str(loop.fits), loop.fits <= most)
    if name == "agrawal":
        yield Goal("accuracy >= .93", f"{1 - loop.error:.3f}", 1 - loop.error >= 0.93)
    if name == "stable":
        yield Goal("fits <= 5", str(loop.fits), loop.fits <= 5)
    if name == "stable-40k":
        yield Goal("fits <= 1", str(loop.fits), loop.fits <= 1)
        yield Goal("promotions <= 1", str(loop.promotions), loop.promotions <= 1)

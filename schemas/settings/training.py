"""When a challenger is trained, and what it has to show."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from driftloop.schemas.settings.types import (
    AtLeastZero,
    Group,
    Hours,
    Positive,
    Real,
    Seconds,
    Share,
    TrainerName,
)

TRAINING_ROWS = 500
"""Fewer labelled rows teach noise, and leave the gate under its hundred."""


GATE_ROWS = 100
"""Fewer rows give a bootstrap interval that is wide, and wrong at its ends."""


WindowRows = Annotated[Positive, Field(ge=TRAINING_ROWS)]


class RetrainingSettings(Group):
    """When a challenger is worth its cost."""

    cooldown_hours: Annotated[AtLeastZero, Field(le=10_000_000)] = 0.0
    """Hours (of the data) between two trainings of one model. 0: labels alone decide."""
    min_new_labels: Positive = 300
    """Labels since the last training before another can teach anything new."""
    new_share: Annotated[AtLeastZero, Field(le=1)] = 0.02
    """The same as a share of the labelled rows that there are: the more a model has learned from, the less a
    few more can teach."""
    idle_ratio: Annotated[AtLeastZero, Field(le=1_000_000)] = 10.0
    """Time (of the data) between two trainings, as a multiple of what the last one took: trainings take at
    most a tenth of the time. Time, not labels, since these may come all at once, once a night."""
    follow_ups: Annotated[tuple[Positive, ...], Field(min_length=1)] = (300, 600, 1200, 2400, 4800)
    """Labels since a change of the truth at which a challenger is trained: while the window refills, each
    has twice the rows of the one before."""
    doubling: bool = True
    """Whether to train on everything when there are twice as many labelled rows as the last time."""
    windows: Annotated[tuple[WindowRows, ...], Field(min_length=1, max_length=4)] = (5000, 20_000, 60_000)
    """Numbers of newest labelled rows that challengers learn from, one version each: what changes quickly is
    predicted best by a short memory, what changes slowly by a long one, and the labels choose. Fewer than 500
    are no training data, and the share `training.holdout` of them has to be 100 or more."""
    confirm: Positive = 1
    """Changes that must have alarmed within `confirm_hours` (segments and columns of one count once);
    1, since an alarm is already a confirmed episode."""
    confirm_hours: Hours = 24.0
    """The hours (of the data) within which `confirm` alarms count together."""
    segment_share: Annotated[AtLeastZero, Field(le=1)] = 0.2
    """The share of the training rows from which a segment's drift asks for a training; of a smaller one an
    alert is all: a new model for everybody because of a few is a risk for the others."""
    max_failures: Positive = 3
    """Failed trainings in a row after which the breaker opens and waits for a person."""


class TrainingSettings(Group):
    """Fitting and the gate."""

    algorithm: Annotated[str, Field(min_length=1, max_length=100)] = "xgboost"
    """Name of the trainer of a model's first version, where its `ModelConfig.algorithm` names none; later
    versions keep the algorithm of their champion. Possible: `xgboost`, and what `trainers` names."""
    trainers: Mapping[str, TrainerName] = {}
    """Trainers of your own: name -> `module:class` (see `ports.Trainer`). Agents and replicas use the same
    class to load the models that it fitted."""
    rounds: Annotated[Positive, Field(le=100_000)] = 100
    """Boosted trees; what research/data.md's figures were reached with."""
    holdout: Annotated[Real, Field(ge=0.01, le=0.9)] = 0.2
    """The newest share of the window, kept from training, on which the gate compares."""
    margin: AtLeastZero = 0.02
    """A challenger is refused if it is surely worse than the champion by more than this (mean squared error
    of the score) on the newest rows. No more is refused: a version gets no traffic before labels prove it,
    and some that were worse yesterday are right tomorrow."""
    refit: bool = True
    """Fit once more on all rows, the newest included, after the gate. Without, the newest fifth would never
    be learned from: on electricity data that costs a fifth of what the loop gains."""
    confidence: Share = 0.95
    """Of the two-sided bootstrap interval whose upper end the margin is held against."""
    timeout: Seconds = 3600.0
    """Seconds until a training process is ended."""
    warm: bool = False
    """Keep a process ready that has imported everything: 6 s sooner for 200 MB."""
    threads: Annotated[Positive, Field(le=1024)] = 1
    """Threads of one fit. One, because threads that wait for each other on cores that agents share make a fit
    of half a second one of half a minute; give a machine of its own as many as it has cores."""

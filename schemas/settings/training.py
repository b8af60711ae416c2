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
    """When a training is requested."""

    cooldown_hours: Annotated[AtLeastZero, Field(le=10_000_000)] = 0.0
    """Hours (of the data) between two trainings of one model. 0: labels alone decide."""
    min_new_labels: Positive = 300
    """Fewest new labels between two trainings; 300, as many as the first of `follow_ups`."""
    new_share: Annotated[AtLeastZero, Field(le=1)] = 0.02
    """The same as a share of all labelled rows: the more rows there are, the less a few more change a fit."""
    idle_ratio: Annotated[AtLeastZero, Field(le=1_000_000)] = 10.0
    """Least time (of the data) between two trainings, as a multiple of the duration of the last one: 10, so
    that trainings take at most a tenth of the time, also where a day's labels arrive at once."""
    follow_ups: Annotated[tuple[Positive, ...], Field(min_length=1)] = (300, 600, 1200, 2400, 4800)
    """Numbers of labels after concept drift at which a challenger is trained: each has twice the fresh rows
    of the one before."""
    doubling: bool = True
    """Whether to train when the labelled rows have doubled since the last training on all of them."""
    windows: Annotated[tuple[WindowRows, ...], Field(min_length=1, max_length=4)] = (5000, 20_000, 60_000)
    """Numbers of newest labelled rows that challengers are trained on, one version each: short windows follow
    quick changes, long ones slow changes, and labels choose. Each has 500 rows or more, of which the share
    `training.holdout` is 100 or more."""
    confirm: Positive = 1
    """Changes that must alarm within `confirm_hours` before a training (segments and columns of one change
    count once); 1, since an alarm is already a confirmed episode."""
    confirm_hours: Hours = 24.0
    """Hours (of the data) within which `confirm` alarms count together."""
    segment_share: Annotated[AtLeastZero, Field(le=1)] = 0.2
    """Least share of the training rows with which a segment's drift starts a training. A smaller segment only
    raises an alert: a new model for few rows is a risk for all others."""
    max_failures: Positive = 3
    """Crashed trainings in a row after which no training starts until one that a person requests succeeds."""


class TrainingSettings(Group):
    """Fitting and the gate."""

    algorithm: Annotated[str, Field(min_length=1, max_length=100)] = "xgboost"
    """Name of the trainer of a model's first version, where its `ModelConfig.algorithm` names none; later
    versions keep the algorithm of their champion. Possible: `xgboost`, and what `trainers` names."""
    trainers: Mapping[str, TrainerName] = {}
    """Trainers of your own: name -> `module:class` (see `ports.Trainer`). Agents and replicas use the same
    class to load the models that it fitted."""
    rounds: Annotated[Positive, Field(le=100_000)] = 100
    """Boosted trees of a model; 100 is the number behind the figures of docs/loop-quality.md."""
    holdout: Annotated[Real, Field(ge=0.01, le=0.9)] = 0.2
    """The newest share of the window, held out from training, on which the gate compares."""
    margin: AtLeastZero = 0.02
    """A challenger is refused if it is surely worse than the champion by more than this (mean squared error
    of the score) on the newest rows. A smaller difference passes: a version gets no traffic before labels
    prove it, and after a change a version that was worse may be better."""
    refit: bool = True
    """Whether to fit again on all rows, the newest included, after the gate. Without it the newest fifth is
    not trained on, which on electricity data costs a fifth of what the loop gains."""
    confidence: Share = 0.95
    """Confidence of the two-sided bootstrap interval whose upper end is compared with `margin`."""
    timeout: Seconds = 3600.0
    """Seconds after which a training process is ended and counts as failed."""
    warm: bool = False
    """Whether to keep a process ready that has imported everything: 6 s faster, for 200 MB of memory."""
    threads: Annotated[Positive, Field(le=1024)] = 1
    """Threads of one fit. One, because threads that wait for each other on cores that agents share make a fit
    of half a second one of half a minute; give a machine of its own as many as it has cores."""

"""When a challenger is trained, and what it has to show."""

from typing import Annotated

from pydantic import Field

from schemas.quantities import AtLeastZero, Hours, Positive, Real, Seconds, Share, TrainerName
from schemas.settings.group import Group

TRAINING_ROWS = 500
"""Fewer labelled rows teach noise, and leave the gate under its hundred."""


GATE_ROWS = 100
"""Fewer rows give a bootstrap interval that is wide, and wrong at its ends."""


class RetrainingSettings(Group):
    """When a challenger is worth its cost."""

    cooldown_hours: Annotated[AtLeastZero, Field(le=10_000_000)] = 24.0
    """Hours (of the data) between two trainings of one model."""
    min_new_labels: Positive = 1000
    """Labels since the last training before another can teach anything new."""
    window_rows: Annotated[Positive, Field(ge=TRAINING_ROWS)] = 20_000
    """The newest labelled rows a challenger learns from; fewer than 500 are no training data, and the share
    `training.holdout` of them has to be 100 or more."""
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

    trainer: TrainerName = "mlops_core.training.trainer:XGBoostTrainer"
    """`module:class` of the trainer, so that you can bring your own (see `ports.Trainer`)."""
    rounds: Annotated[Positive, Field(le=100_000)] = 100
    """Boosted trees; what research/data.md's figures were reached with."""
    holdout: Annotated[Real, Field(ge=0.01, le=0.9)] = 0.2
    """The newest share of the window, kept from training, on which the gate compares."""
    margin: AtLeastZero = 0.0
    """How much worse (mean squared error of the score) a challenger may be. 0 asks for proof that it is
    no worse at all: two equal models pass by luck in 2.5 % of the cases."""
    confidence: Share = 0.95
    """Of the two-sided bootstrap interval whose lower end the margin is held against."""
    timeout: Seconds = 3600.0
    """Seconds until a training process is ended."""
    warm: bool = False
    """Keep a process ready that has imported everything: 6 s sooner for 200 MB."""
    threads: Annotated[Positive, Field(le=1024)] = 1
    """Threads of one fit. One, because threads that wait for each other on cores that agents share make a fit
    of half a second one of half a minute; give a machine of its own as many as it has cores."""

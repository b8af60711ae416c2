"""One training, from examples to a candidate: check, split, fit, compare.

The newest rows are kept from fitting and decide: a challenger will serve what comes after them, so they
are the nearest thing to its future.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlops_core.data.examples import Examples
from mlops_core.data.features import Floats, Kind
from mlops_core.data.profile import SCORE, ColumnProfile, Profile
from mlops_core.data.validation import DataValidator
from mlops_core.errors import BadData
from mlops_core.ports import Candidate, Fitted, Task, Trainer
from mlops_core.training import evaluation, gate
from schemas.configs import ModelConfig
from schemas.events import GateEvidence, RetrainRequested
from schemas.settings import TrainingSettings

SAMPLE_ROWS = 5
"""Rows that show the registry what the matrix looks like."""


@dataclass(frozen=True)
class Champion:
    """The version that serves, as a value."""

    version: str
    fitted: Fitted


def challenge(
    request: RetrainRequested,
    model: ModelConfig,
    examples: Examples,
    champion: Champion | None,
    trainer: Trainer,
    settings: TrainingSettings,
) -> Candidate | GateEvidence:
    """The challenger that `request` asks for, or the evidence with which the gate refused it.

    Raises:
        BadData: the examples can't be trained on (every reason), or a hyperparameter that is none.
    """
    task = Task(model.task)
    older, newest = _parted(examples, task, settings.holdout)
    fitted = trainer.fit(older, task, model.hyperparameters)
    scores = trainer.scores(fitted, newest)
    incumbent = None
    if champion is not None:
        incumbent = gate.Incumbent(champion.version, trainer.scores(champion.fitted, newest))
    evidence = gate.compare(newest.labels, scores, incumbent, settings)
    if not evidence.passed:
        return evidence
    return Candidate(
        model=request.model,
        fitted=fitted,
        profile=reference(examples, scores),
        gate=evidence,
        metrics=evaluation.metrics(task, newest.labels, scores),
        request=request.id,
        sample=fitted.features.encode(newest.features, len(newest))[:SAMPLE_ROWS],
        tags=_tags(request, model, examples),
    )


def reference(examples: Examples, scores: Floats) -> Profile:
    """What drift is measured against: features of the whole window, scores of its newest rows only.

    A model is surer of rows that it has learned from than it ever is again, so that its scores of them
    would look like prediction drift from the first request on.
    """
    whole = Profile.of(examples.features, np.zeros(len(examples)))
    fresh = ColumnProfile.of(SCORE, Kind.NUMERIC, scores)
    return whole.model_copy(update={"columns": (*whole.columns[:-1], fresh)})


def _parted(examples: Examples, task: Task, holdout: float) -> tuple[Examples, Examples]:
    reasons = DataValidator().validate(examples, task).errors
    if reasons:
        raise BadData("; ".join(reasons))
    older, newest = examples.split(holdout)
    if float(np.ptp(older.labels)) == 0:
        always = f"{older.labels[0]:g} in each of the older {len(older):,} rows"
        raise BadData(f"there is nothing to learn: the label is {always}")
    return older, newest


def _tags(request: RetrainRequested, model: ModelConfig, examples: Examples) -> Mapping[str, str]:
    return {
        "task": model.task,
        "hyperparameters": json.dumps(dict(model.hyperparameters)),
        "trigger": request.trigger,
        "reason": request.reason,
        "rows": str(len(examples)),
    }

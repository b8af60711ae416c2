"""One training, from examples to a candidate: check, split, fit, compare.

The newest rows are kept from fitting and decide: a challenger will serve what comes after them, so they
are the nearest thing to its future.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlops_core import performance
from mlops_core.data import calendar
from mlops_core.data.examples import Examples
from mlops_core.data.features import Floats, Kind
from mlops_core.data.profile import SCORE, ColumnProfile, HeldOut, Profile
from mlops_core.data.slicing import described, sliced
from mlops_core.data.validation import DataValidator
from mlops_core.drift import strata
from mlops_core.drift.concept import usual_size
from mlops_core.errors import BadData
from mlops_core.ports import Candidate, Fitted, Task, Trainer
from mlops_core.training import evaluation, gate
from mlops_core.training.importance import importance
from schemas.configs import ModelConfig
from schemas.events import GateEvidence, RetrainRequested
from schemas.quantities import Season
from schemas.records import Millis
from schemas.settings import DriftSettings, TrainingSettings

MIN_FRESH = 1000
"""Rows after a change that may be worth a fit of their own."""
MOST_FRESH = 0.8
"""Share of the window from which on a second fit would be the first one again."""
SAMPLE_ROWS = 5
"""Rows that show the registry what the matrix looks like."""


@dataclass(frozen=True)
class Champion:
    """The version that serves, as a value."""

    version: str
    fitted: Fitted


def challenge(  # noqa: PLR0913, PLR0917 - all that a training is told
    request: RetrainRequested,
    model: ModelConfig,
    examples: Examples,
    champion: Champion | None,
    trainer: Trainer,
    settings: TrainingSettings,
    drift: DriftSettings | None = None,
) -> Candidate | GateEvidence:
    """The challenger that `request` asks for, or the evidence with which the gate refused it.

    Its profile learns what `drift` names: how the hours of a season differ, how segments do.

    Raises:
        BadData: the examples can't be trained on (every reason), or a hyperparameter that is none.
    """
    task, drift = Task(model.task), drift or DriftSettings()
    older, newest = _parted(examples, task, settings.holdout)
    fits = [trainer.fit(rows, task, model.hyperparameters) for rows in lessons(older, request.since)]
    fitted, scores = _best([(one, trainer.scores(one, newest)) for one in fits], newest)
    incumbent = None
    if champion is not None:
        incumbent = gate.Incumbent(champion.version, trainer.scores(champion.fitted, newest))
    evidence = gate.compare(newest.labels, scores, incumbent, settings)
    if not evidence.passed:
        return evidence
    profile = _profile(examples, (fitted, scores), task, settings, drift)
    return Candidate(
        model=request.model,
        fitted=fitted,
        profile=profile,
        gate=evidence,
        metrics=evaluation.metrics(task, newest.labels, scores),
        request=request.id,
        sample=fitted.features.encode(newest.features, len(newest))[:SAMPLE_ROWS],
        tags={**_tags(request, model, examples), **_learned_tags(examples, profile, drift)},
    )


def lessons(older: Examples, since: Millis | None) -> Iterator[Examples]:
    """What to learn from: the whole window, and, where the truth changed, also only what came after.

    After an abrupt change the old rows teach the past; after a change that was none, the few new ones teach
    noise. Which it was, the newest rows tell.
    """
    yield older
    if since is not None:
        fresh = older[older.labelled_at >= since]
        if MIN_FRESH <= len(fresh) <= MOST_FRESH * len(older) and float(np.ptp(fresh.labels)) > 0:
            yield fresh


def _best(fits: Sequence[tuple[Fitted, Floats]], newest: Examples) -> tuple[Fitted, Floats]:
    """The fit with the least squared error on the newest rows, and its scores."""
    return min(fits, key=lambda one: float(np.square(newest.labels - one[1]).mean()))


def reference(examples: Examples, scores: Floats, task: Task, season: Season = None) -> Profile:
    """What drift is measured against: features of the whole window, predictions of its newest rows only.

    A model is surer of rows that it has learned from than it ever is again, so that its scores of them
    would look like prediction drift from the first request on.
    """
    whole = Profile.of(examples.features, np.zeros(len(examples)))
    profile = whole.predicting(scores, classes=task is Task.BINARY)
    if season is None:
        return profile
    scored_at = examples.at[len(examples) - len(scores) :]
    return calendar.learned(profile, season, examples.features, examples.at, scores, scored_at)


def _profile(
    examples: Examples,
    best: tuple[Fitted, Floats],
    task: Task,
    settings: TrainingSettings,
    drift: DriftSettings,
) -> Profile:
    """The reference, with what the newest rows say of the model and what the settings want to be learned."""
    (fitted, scores), (_, newest) = best, examples.split(settings.holdout)
    whole = (
        reference(examples, scores, task, drift.season)
        .weighed(importance(fitted, newest, settings.threads))
        .model_copy(update={"held_out": held_out(newest.labels, scores, task)})
    )
    return sliced(whole, drift.segments, examples.features, scores)


def held_out(labels: Floats, scores: Floats, task: Task) -> HeldOut:
    """What labels said of rows that were not learned from: where estimates without labels begin."""
    known = performance.sane(labels, scores)
    score = ColumnProfile.of(SCORE, Kind.NUMERIC, scores)
    errors, residuals = strata.judged(labels[known], scores[known], task)
    if task is Task.REGRESSION and len(errors):
        errors, residuals = strata.tamed(errors, residuals, usual_size(residuals))
    table = strata.summed(score.bins(scores[known]), errors, residuals, score.null)
    return HeldOut(task=task.value, sums=tuple(map(tuple, table.tolist())))


def _learned_tags(examples: Examples, profile: Profile, drift: DriftSettings) -> Mapping[str, str]:
    """Whether what the settings ask of a profile could be learned."""
    tags = {}
    if drift.season is not None:
        against = calendar.unlearnable(examples.at, drift.season)
        tags["season"] = f"{drift.season}" + (f", not learned: {against}" if against else "")
    if drift.segments:
        tags["segments"] = described(profile, drift.segments)
    return tags


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

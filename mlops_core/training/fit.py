"""One training, from examples to a candidate: check, split, fit, compare.

The newest rows are kept from fitting and decide: a challenger will serve what comes after them, so they
are the nearest thing to its future.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from driftloop.mlops_core.data import season_profiles
from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.features import Floats, Kind
from driftloop.mlops_core.data.profile import SCORE, ColumnProfile, HeldOut, Profile
from driftloop.mlops_core.data.segment_profiles import segment_summary, with_segments
from driftloop.mlops_core.data.validation import DataValidator
from driftloop.mlops_core.drift import poststratification
from driftloop.mlops_core.drift.concept import usual_size
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.performance import metrics
from driftloop.mlops_core.ports import Candidate, Explainer, Fitted, Scorer, Task, Trainer
from driftloop.mlops_core.training import evaluation, gate
from driftloop.mlops_core.training.importance import permutation_importance
from driftloop.schemas.configs import ModelConfig
from driftloop.schemas.events import GateEvidence, RetrainRequested
from driftloop.schemas.records import Millis
from driftloop.schemas.settings import GATE_ROWS, TRAINING_ROWS, DriftSettings, Season, TrainingSettings

SINCE = "since the change"
"""The window of what came after a change."""
MIN_FRESH = 300
"""Rows after a change that are worth a fit of their own: 100 of them are the gate's."""
MOST_FRESH = 0.8
"""Share of the largest window from which on a fit would be that of the window again."""
LEARNED_UNTIL = "learned_until"
"""Tag of a version: when the newest label that it learned from arrived (UTC, ms)."""
SAMPLE_ROWS = 5
"""Rows that show the registry what the matrix looks like."""


@dataclass(frozen=True)
class Champion:
    """The version that serves, loaded."""

    version: str
    scorer: Scorer
    learned_until: Millis | None = None
    """When the newest label that it learned from arrived; None where that is not known."""


def training_windows(request: RetrainRequested, examples: Examples) -> Mapping[str, Examples]:
    """What to learn from, a version each: newest rows, and, where the truth changed, what came after.

    After an abrupt change old rows teach the past; after one that was none, the few new rows teach noise.
    Which it was, labels tell. `examples` are ordered by `at`; names are those of `names`. Windows that
    would have the rows of a larger one, or too few, are left out.
    """
    found = {
        name: examples[-rows:]
        for name, rows in zip(window_names(request), sorted(request.windows or (request.rows,)), strict=False)
    }
    if request.since is not None and request.windows:
        fresh = examples[examples.at >= request.since]
        if MIN_FRESH <= len(fresh) <= MOST_FRESH * len(examples):
            found[SINCE] = fresh
    last = {len(rows): name for name, rows in found.items()}
    return {name: rows for name, rows in found.items() if last[len(rows)] == name}


def window_names(request: RetrainRequested) -> Sequence[str]:
    """Names of all windows that a request may lead to, the shortest first."""
    rows = [str(rows) for rows in sorted(request.windows or (request.rows,))]
    return [*rows, SINCE] if request.since is not None and request.windows else rows


def registration_key(request: RetrainRequested, window: str) -> str:
    """Under which name the registry keeps the version of one window of a request."""
    return f"{request.id}/{window}"


def train_challenger(  # noqa: PLR0913, PLR0917 - all that a training is told
    request: RetrainRequested,
    model: ModelConfig,
    examples: Examples,
    champion: Champion | None,
    trainer: Trainer,
    settings: TrainingSettings,
    drift: DriftSettings | None = None,
    window: str = "",
) -> Candidate | GateEvidence:
    """The challenger that learns from `examples`, or the evidence with which the gate refused it.

    The gate sees a model of the older rows; what is registered is fitted once more on all of them
    (`training.refit`). Its profile learns what `drift` names: how hours of a season differ, how segments do.

    Raises:
        InvalidData: the examples can't be trained on (every reason), or a hyperparameter that is none.
    """
    task, drift = Task(model.task), drift or DriftSettings()
    older, newest = _split_rows(
        examples, task, settings.holdout, MIN_FRESH if window == SINCE else TRAINING_ROWS
    )
    judged = trainer.fit(older, task, model.hyperparameters)
    scores = trainer.scorer(judged)(newest.features, len(newest))
    evidence = _compare_with_champion(newest, scores, champion, settings)
    if not evidence.passed:
        return evidence
    learned = examples if settings.refit else older
    fitted = trainer.fit(learned, task, model.hyperparameters) if settings.refit else judged
    profile = _profile(examples, _importance(trainer, fitted, newest), scores, task, settings, drift)
    return Candidate(
        model=request.model,
        fitted=fitted,
        profile=profile,
        gate=evidence,
        metrics=evaluation.metrics(task, newest.labels, scores),
        request=registration_key(request, window or window_names(request)[-1]),
        sample=fitted.features.encode(newest.features, len(newest))[:SAMPLE_ROWS],
        tags={
            **_tags(request, model, examples, settings),
            **_learned_tags(examples, profile, drift),
            LEARNED_UNTIL: str(int(learned.labelled_at.max())),
        },
    )


def _compare_with_champion(
    newest: Examples, scores: Floats, champion: Champion | None, settings: TrainingSettings
) -> GateEvidence:
    """Challenger against champion on the newest rows that neither learned from.

    A champion that was fitted on all rows of its window looks far better on these than it is.
    """
    if champion is None:
        return gate.compare(newest.labels, scores, None, settings)
    new = np.full(len(newest), True)
    if champion.learned_until is not None:
        new = newest.labelled_at > champion.learned_until
    if new.sum() < GATE_ROWS:
        return gate.incomparable(newest.labels, scores, champion.version, int(new.sum()))
    rows = newest[new]
    incumbent = gate.Incumbent(champion.version, champion.scorer(rows.features, len(rows)))
    return gate.compare(rows.labels, scores[new], incumbent, settings)


def _importance(trainer: Trainer, fitted: Fitted, examples: Examples) -> Mapping[str, float]:
    """Share of each feature in what moves the model's scores."""
    if isinstance(trainer, Explainer):
        return trainer.importance(fitted, examples)
    return permutation_importance(fitted.features.names, trainer.scorer(fitted), examples)


def reference_profile(examples: Examples, scores: Floats, task: Task, season: Season = None) -> Profile:
    """What drift is measured against: features of the whole window, predictions of its newest rows only.

    A model is surer of rows that it has learned from than it ever is again, so that its scores of them
    would look like prediction drift from the first request on.
    """
    whole = Profile.of(examples.features, np.zeros(len(examples)))
    profile = whole.predicting(scores, classes=task is Task.BINARY)
    if season is None:
        return profile
    scored_at = examples.at[len(examples) - len(scores) :]
    return season_profiles.with_season(profile, season, examples.features, examples.at, scores, scored_at)


def _profile(
    examples: Examples,
    importance: Mapping[str, float],
    scores: Floats,
    task: Task,
    settings: TrainingSettings,
    drift: DriftSettings,
) -> Profile:
    """The reference, with what the newest rows say of the model and what the settings want to be learned."""
    _, newest = _split_holdout(examples, settings.holdout)
    whole = (
        reference_profile(examples, scores, task, drift.season)
        .with_importance(importance)
        .model_copy(update={"held_out": held_out(newest.labels, scores, task)})
    )
    return with_segments(whole, drift.segments, examples.features, scores)


def held_out(labels: Floats, scores: Floats, task: Task) -> HeldOut:
    """What labels said of rows that were not learned from: where estimates without labels begin."""
    known = metrics.usable(labels, scores)
    score = ColumnProfile.of(SCORE, Kind.NUMERIC, scores)
    errors, residuals = poststratification.residuals(labels[known], scores[known], task)
    if task is Task.REGRESSION and len(errors):
        errors, residuals = poststratification.winsorise(errors, residuals, usual_size(residuals))
    table = poststratification.sum_by_bin(score.bins(scores[known]), errors, residuals, score.null)
    return HeldOut(task=task.value, sums=tuple(map(tuple, table.tolist())))


def _learned_tags(examples: Examples, profile: Profile, drift: DriftSettings) -> Mapping[str, str]:
    """Whether what the settings ask of a profile could be learned."""
    tags = {}
    if drift.season is not None:
        against = season_profiles.unlearnable(examples.at, drift.season)
        tags["season"] = f"{drift.season}" + (f", not learned: {against}" if against else "")
    if drift.segments:
        tags["segments"] = segment_summary(profile, drift.segments)
    return tags


def _split_holdout(examples: Examples, holdout: float) -> tuple[Examples, Examples]:
    """Older rows and the newest share, of which there are at least as many as the gate needs."""
    return examples.split_newest(max(holdout, GATE_ROWS / len(examples)))


def _split_rows(examples: Examples, task: Task, holdout: float, min_rows: int) -> tuple[Examples, Examples]:
    reasons = DataValidator(min_rows).validate(examples, task).errors
    if reasons:
        raise InvalidData("; ".join(reasons))
    older, newest = _split_holdout(examples, holdout)
    if float(np.ptp(older.labels)) == 0:
        always = f"{older.labels[0]:g} in each of the older {len(older):,} rows"
        raise InvalidData(f"there is nothing to learn: the label is {always}")
    return older, newest


def _tags(
    request: RetrainRequested, model: ModelConfig, examples: Examples, settings: TrainingSettings
) -> Mapping[str, str]:
    return {
        "task": model.task,
        "algorithm": model.algorithm or settings.algorithm,
        "hyperparameters": json.dumps(dict(model.hyperparameters)),
        "trigger": request.trigger,
        "reason": request.reason,
        "rows": str(len(examples)),
    }

"""One training, from examples to a candidate: check, split, fit, compare.

The newest rows are held out for the gate: a challenger will serve rows that come after them, and they are the
nearest rows to those.
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
"""Name of the window that holds the rows after a change."""
MIN_FRESH = 300
"""Fewest rows after a change that are fitted on their own: 100 of them are held out for the gate."""
MOST_FRESH = 0.8
"""Largest share of all rows: with more rows after the change, a fit of them would equal a fit of all."""
LEARNED_UNTIL = "learned_until"
"""Tag of a version: arrival of the newest label that it was trained on (UTC, ms)."""
SAMPLE_ROWS = 5
"""Rows from which MLflow infers the signature; a few suffice, as all columns are float."""


@dataclass(frozen=True)
class Champion:
    """The version that serves, loaded."""

    version: str
    scorer: Scorer
    learned_until: Millis | None = None
    """Arrival of the newest label that it was trained on (UTC, ms); None where that is unknown."""


def training_windows(request: RetrainRequested, examples: Examples) -> Mapping[str, Examples]:
    """Windows of rows to train on, one version each: the newest rows and, after concept drift, fresh rows.

    After an abrupt change old rows are wrong; after a false alarm the few fresh rows are noise. Both are
    trained, and later labels choose. `examples` are ordered by `at`; the names are those of `window_names`.
    A window with the same rows as a larger one, or with too few rows, is left out.
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
    """The key that identifies the version of one window of a request in the registry."""
    return f"{request.id}/{window}"


def train_challenger(  # noqa: PLR0913, PLR0917 - the inputs of a training
    request: RetrainRequested,
    model: ModelConfig,
    examples: Examples,
    champion: Champion | None,
    trainer: Trainer,
    settings: TrainingSettings,
    drift: DriftSettings | None = None,
    window: str = "",
) -> Candidate | GateEvidence:
    """The challenger that is trained on `examples`, or the evidence with which the gate refused it.

    The gate compares a model of the older rows; the candidate is fitted again on all rows (`training.refit`).
    Its profile holds the phases of `drift.season` and the segments of `drift.segments`.

    Raises:
        InvalidData: the examples can't be trained on (lists every reason), or a hyperparameter is unknown.
    """
    task, drift = Task(model.task), drift or DriftSettings()
    older, newest = _split_rows(
        examples, task, settings.holdout, MIN_FRESH if window == SINCE else TRAINING_ROWS
    )
    compared = trainer.fit(older, task, model.hyperparameters)
    scores = trainer.scorer(compared)(newest.features, len(newest))
    evidence = _compare_with_champion(newest, scores, champion, settings)
    if not evidence.passed:
        return evidence
    learned = examples if settings.refit else older
    fitted = trainer.fit(learned, task, model.hyperparameters) if settings.refit else compared
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
    """The gate's evidence on the newest rows that neither challenger nor champion was trained on.

    On rows that the champion was trained on, its loss would look far smaller than it is.
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
    """Share of each feature in the model's scores; the shares add up to 1."""
    if isinstance(trainer, Explainer):
        return trainer.importance(fitted, examples)
    return permutation_importance(fitted.features.names, trainer.scorer(fitted), examples)


def reference_profile(examples: Examples, scores: Floats, task: Task, season: Season = None) -> Profile:
    """The reference of drift detection: features of the whole window, predictions of its newest rows only.

    Scores of rows that the model was trained on are more extreme than those of new rows; a reference of them
    would show prediction drift from the first request.
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
    """The reference profile with importances, errors on held-out rows and segments."""
    _, newest = _split_holdout(examples, settings.holdout)
    whole = (
        reference_profile(examples, scores, task, drift.season)
        .with_importance(importance)
        .model_copy(update={"held_out": held_out(newest.labels, scores, task)})
    )
    return with_segments(whole, drift.segments, examples.features, scores)


def held_out(labels: Floats, scores: Floats, task: Task) -> HeldOut:
    """Errors on held-out rows per bin of the score, from which estimates without labels start."""
    known = metrics.usable(labels, scores)
    score = ColumnProfile.of(SCORE, Kind.NUMERIC, scores)
    errors, residuals = poststratification.residuals(labels[known], scores[known], task)
    if task is Task.REGRESSION and len(errors):
        errors, residuals = poststratification.winsorise(errors, residuals, usual_size(residuals))
    table = poststratification.sum_by_bin(score.bins(scores[known]), errors, residuals, score.null)
    return HeldOut(task=task.value, sums=tuple(map(tuple, table.tolist())))


def _learned_tags(examples: Examples, profile: Profile, drift: DriftSettings) -> Mapping[str, str]:
    """Tags that say whether the season and the segments of the settings could be learned."""
    tags = {}
    if drift.season is not None:
        reason = season_profiles.unlearnable(examples.at, drift.season)
        tags["season"] = f"{drift.season}" + (f", not learned: {reason}" if reason else "")
    if drift.segments:
        tags["segments"] = segment_summary(profile, drift.segments)
    return tags


def _split_holdout(examples: Examples, holdout: float) -> tuple[Examples, Examples]:
    """The older rows and the newest `holdout` share, which has at least as many rows as the gate needs."""
    return examples.split_newest(max(holdout, GATE_ROWS / len(examples)))


def _split_rows(examples: Examples, task: Task, holdout: float, min_rows: int) -> tuple[Examples, Examples]:
    reasons = DataValidator(min_rows).validate(examples, task).errors
    if reasons:
        raise InvalidData("; ".join(reasons))
    older, newest = _split_holdout(examples, holdout)
    if float(np.ptp(older.labels)) == 0:
        label = f"{older.labels[0]:g} in each of the older {len(older):,} rows"
        raise InvalidData(f"there is nothing to learn: the label is {label}")
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

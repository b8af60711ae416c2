"""When to request a training: what makes one due, and the reasons against it now.

A training is due after an alarm; after concept drift several times more, while rows after the change collect
(*follow-ups*); and when the labelled rows have doubled since all were trained on (*doubling*: a learning
curve is logarithmic). Reasons against it (too few new labels, a training that runs) pass: what is due is
checked again with every window of labels and at the end of every training.

Decisions are counted in labels. All times are those of the data (UTC, ms), so that a replayed year is judged
by its own calendar.
"""

from collections.abc import Sequence

from driftloop.mlops_core.training.preconditions import (
    HOUR,
    PACES,
    WAITS,
    RetrainingState,
    add_alarm,
    breaker,
    lacks_confirmation,
)
from driftloop.schemas import ids
from driftloop.schemas.events import (
    DeployRequested,
    DriftDetected,
    DriftKind,
    Event,
    PerformanceMeasured,
    RetrainRefused,
    RetrainRequested,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)
from driftloop.schemas.records import Millis
from driftloop.schemas.settings import RetrainingSettings

Outcome = TrainingCompleted | TrainingRefused | TrainingFailed
Answer = RetrainRequested | RetrainRefused


__all__ = ("HOUR", "Answer", "Outcome", "RetrainingState", "on_alarm", "on_event")


def on_alarm(
    state: RetrainingState, evidence: DriftDetected, settings: RetrainingSettings
) -> tuple[RetrainingState, Answer]:
    """The state after an alarm, and the request or refusal; the same alarm again has the same answer.

    An alarm that is refused for a reason of `WAITS` stays due.
    """
    if state.in_flight is not None and state.in_flight.caused_by == evidence.id:
        return state, state.in_flight
    if evidence.kind in state.muted:
        reason = f"muted: the newest deployment of {evidence.model} muted {evidence.kind} drift"
        return state, RetrainRefused.following(evidence, reason=reason)
    if evidence.share < settings.segment_share:
        needed = f"{_percent(settings.segment_share)} are needed (retraining.segment_share)"
        reason = f"segment: {evidence.segment} is {_percent(evidence.share)} of the training rows, {needed}"
        return state, RetrainRefused.following(evidence, reason=reason)
    state = state.model_copy(update={"alarms": add_alarm(state.alarms, evidence, settings)})
    against = breaker(state, evidence, settings) or lacks_confirmation(state, evidence, settings)
    if against is not None:
        return state, RetrainRefused.following(evidence, reason=against)
    state = _schedule(state, evidence, settings)
    for precondition in WAITS:
        against = precondition(state, evidence, settings)
        if against is not None:
            return state, RetrainRefused.following(evidence, reason=against)
    return _request(state, evidence, evidence.kind.value, settings)


def on_event(
    state: RetrainingState,
    event: PerformanceMeasured | DeployRequested | Outcome,
    settings: RetrainingSettings,
) -> tuple[RetrainingState, list[Answer]]:
    """The state after new labels, a deployment or the end of any training, and a request if one is due."""
    if isinstance(event, DeployRequested):
        return _mute(state, event.muted), []
    if isinstance(event, PerformanceMeasured):
        state = _count_labels(state, event)
    elif event.caused_by == state.ended:
        return _another_version(state, event), []
    elif state.in_flight is not None and event.caused_by == state.in_flight.id:
        again = _due_again(state) if isinstance(event, TrainingFailed) else {}
        state = _end(state.model_copy(update={**again, "in_flight": None, "answers": None}), event)
    else:
        # A training that a person requested: its labels count as trained on, unless it crashed.
        state = _end(state if isinstance(event, TrainingFailed) else _start(state, event.at), event)
    return _request_due(state, event, settings)


def _request_due(
    state: RetrainingState, event: Event, settings: RetrainingSettings
) -> tuple[RetrainingState, list[Answer]]:
    """Request the training that is due, if no reason against it is left."""
    due = _due(state, event, settings)
    if due is None or any(reason(state, event, settings) for reason in (breaker, *WAITS)):
        return state, []
    cause, trigger = due
    state, request = _request(state, cause, trigger, settings)
    return state, [request]


def _due(state: RetrainingState, event: Event, settings: RetrainingSettings) -> tuple[Event, str] | None:
    """The event that a training is due for, and what triggers it."""
    if state.pending is not None:
        return state.pending, state.pending.kind.value
    if state.change is not None and state.due and state.due[0] <= state.labelled:
        return state.change, "follow-up"
    if settings.doubling and state.doubled and state.labelled_rows >= 2 * state.doubled:
        return event, "doubling"
    return None


def _schedule(
    state: RetrainingState, evidence: DriftDetected, settings: RetrainingSettings
) -> RetrainingState:
    """Make the alarm due; concept drift also schedules its follow-ups, in place of those of the last one."""
    if evidence.kind is not DriftKind.CONCEPT:
        return state.model_copy(update={"pending": evidence})
    # An alarm without a number of rows is assumed to have enough of them.
    rows = settings.follow_ups[0] if evidence.rows is None else evidence.rows
    changed = state.labelled - rows
    due = tuple(changed + after for after in settings.follow_ups)
    later = tuple(count for count in due if count > state.labelled)
    # The first follow-up is the first training: fewer rows since the change are too few to train on.
    first = evidence if len(later) < len(due) else None
    changes = {"pending": first, "change": evidence, "changed": changed, "due": later}
    return state.model_copy(update=changes)


def _mute(state: RetrainingState, kinds: Sequence[DriftKind]) -> RetrainingState:
    """Mute these kinds of drift and drop what is due for them."""
    changes: dict[str, object] = {"muted": kinds}
    if state.pending is not None and state.pending.kind in kinds:
        changes["pending"] = None
    if DriftKind.CONCEPT in kinds:
        changes |= {"change": None, "due": ()}
    return state.model_copy(update=changes)


def _due_again(state: RetrainingState) -> dict[str, object]:
    """The changes that make the purpose of a crashed training due again."""
    if state.answers is None:
        return {"doubled": min(state.doubled, state.labelled_rows // 2)}
    return {"pending": state.pending or state.answers}


def _request(
    state: RetrainingState, cause: Event, trigger: str, settings: RetrainingSettings
) -> tuple[RetrainingState, RetrainRequested]:
    """Request the training: on windows of several lengths after drift, on the largest after doubling."""
    new = state.labelled - state.trained_labels
    largest = max(settings.windows)
    doubling = trigger == "doubling"
    windows = (largest,) if doubling else tuple(sorted(settings.windows))
    request = RetrainRequested.following(
        cause,
        id=ids.derive(cause.id, "RetrainRequested", trigger, state.labelled),
        reason=f"{_trigger_reason(state, cause, trigger)}; {new:,} new labels",
        trigger=trigger,
        # After feature drift old rows stay true; after concept drift only rows after the change are.
        since=None if doubling or state.change is None else state.change.changed_at,
        rows=largest,
        windows=windows,
    )
    at = max(cause.at, state.pace[-1][0]) if state.pace else cause.at
    request = request.model_copy(update={"at": at})
    changes = {
        "in_flight": request,
        "answers": cause if isinstance(cause, DriftDetected) else None,
        "alarms": (),
        "pending": None,
        "due": tuple(count for count in state.due if count > state.labelled),
        "doubled": state.labelled_rows if state.labelled_rows >= 2 * state.doubled else state.doubled,
    }
    return _start(state, request.at).model_copy(update=changes), request


def _trigger_reason(state: RetrainingState, cause: Event, trigger: str) -> str:
    if isinstance(cause, DriftDetected):
        labels = state.labelled - state.changed
        after = f"{labels:,} labels after a change: " if trigger == "follow-up" else ""
        return f"{after}{cause.sentence}"
    return f"labelled rows have doubled since the last training on all of them (now {state.labelled_rows:,})"


def _count_labels(state: RetrainingState, event: PerformanceMeasured) -> RetrainingState:
    pace = (*state.pace, (event.until, event.labelled))[-PACES:]
    return state.model_copy(update={"labelled": max(state.labelled, event.labelled), "pace": pace})


def _start(state: RetrainingState, at: Millis) -> RetrainingState:
    return state.model_copy(update={"trained_at": at, "trained_labels": state.labelled})


def _end(state: RetrainingState, event: Outcome) -> RetrainingState:
    """The state after a training's end; crashes in a row are counted, a refusal by the gate is none."""
    failures, error = (state.failures + 1, event.error) if isinstance(event, TrainingFailed) else (0, "")
    counted: dict[str, object] = {"ended": event.caused_by or "", "failures": failures, "error": error[:200]}
    if isinstance(event, TrainingCompleted):
        history = max(state.history, event.rows - state.labelled)
        counted |= {"trained_seconds": event.seconds, "history": history}
        counted["doubled"] = state.doubled or history + state.labelled
    return state.model_copy(update=counted)


def _another_version(state: RetrainingState, event: Outcome) -> RetrainingState:
    """The state after a further version of the training that ended last: its seconds and rows are added."""
    if not isinstance(event, TrainingCompleted):
        return state
    history = max(state.history, event.rows - state.trained_labels)
    changes = {
        "trained_seconds": state.trained_seconds + event.seconds,
        "history": history,
        "doubled": state.doubled + history - state.history,
    }
    return state.model_copy(update=changes)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"

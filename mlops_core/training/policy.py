"""When an alarm is worth a training: a table of reasons against it; the first that applies is the answer.

All times are those of the data (UTC, ms), so that a replayed year is judged by its own calendar.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from schemas.events import (
    DeployRequested,
    DriftDetected,
    DriftKind,
    Part,
    PerformanceMeasured,
    RetrainRefused,
    RetrainRequested,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)
from schemas.records import Millis
from schemas.settings import RetrainingSettings

HOUR = 3_600_000
"""Milliseconds."""
REMEMBERED = 100
"""Alarms kept for confirmation, at most; more than anybody would want confirmed."""


class Alarm(Part):
    """An alarm that was heard."""

    id: str
    at: Millis
    kind: DriftKind = DriftKind.FEATURE
    segment: str = ""
    changed_at: Millis | None = None
    """When what it tells of began; None in states from before it was kept."""


class RetrainingState(Part):
    """What is remembered of one model; JSON by pydantic."""

    labelled: int = 0
    """Labels joined since the beginning."""
    trained_at: Millis | None = None
    """When the last training was asked for; None before the first."""
    trained_labels: int = 0
    """`labelled` at that time."""
    in_flight: RetrainRequested | None = None
    """The request whose training hasn't ended."""
    failures: int = 0
    """Trainings in a row that crashed."""
    error: str = ""
    """How the last of them did."""
    ended: str = ""
    """The request whose training ended last, so that its end counts once."""
    alarms: tuple[Alarm, ...] = ()
    """Those of the last `confirm_hours`, oldest first."""
    muted: tuple[DriftKind, ...] = ()
    """Kinds of drift that are not to be acted on."""


Reason = Callable[[RetrainingState, DriftDetected, RetrainingSettings], str | None]
Outcome = TrainingCompleted | TrainingRefused | TrainingFailed


def decide(
    state: RetrainingState, evidence: DriftDetected, settings: RetrainingSettings
) -> tuple[RetrainingState, RetrainRequested | RetrainRefused]:
    """The state after an alarm, and the answer. The alarm in flight, delivered again, has the same answer."""
    if state.in_flight is not None and state.in_flight.caused_by == evidence.id:
        return state, state.in_flight
    if evidence.kind in state.muted:
        why = f"muted: {evidence.kind} drift, by what the newest deployment asked for"
        return state, RetrainRefused.following(evidence, reason=why)
    if evidence.share < settings.segment_share:
        needed = f"{_percent(settings.segment_share)} are needed"
        why = f"segment: {evidence.segment} is {_percent(evidence.share)} of the training rows, {needed}"
        return state, RetrainRefused.following(evidence, reason=why)
    state = state.model_copy(update={"alarms": _recent(state.alarms, evidence, settings)})
    for reason in REASONS:
        against = reason(state, evidence, settings)
        if against is not None:
            return state, RetrainRefused.following(evidence, reason=against)
    request = _request(state, evidence, settings)
    return _started(state, request.at).model_copy(update={"in_flight": request, "alarms": ()}), request


def noted(state: RetrainingState, event: PerformanceMeasured | DeployRequested | Outcome) -> RetrainingState:
    """The state after labels were counted, a version was deployed or a training, by whomever, ended."""
    if isinstance(event, DeployRequested):
        return state.model_copy(update={"muted": event.muted})
    if isinstance(event, PerformanceMeasured):
        return state.model_copy(update={"labelled": max(state.labelled, event.labelled)})
    if event.caused_by == state.ended:
        return state
    if state.in_flight is not None and event.caused_by == state.in_flight.id:
        return _ended(state.model_copy(update={"in_flight": None}), event)
    # Somebody else's: what it learned from needs no second training soon; a crash of it taught nothing.
    return _ended(state if isinstance(event, TrainingFailed) else _started(state, event.at), event)


def _breaker(state: RetrainingState, _: DriftDetected, settings: RetrainingSettings) -> str | None:
    if state.failures < settings.max_failures:
        return None
    return (
        f"breaker: {state.failures} trainings in a row failed ({state.error}); "
        "one asked for by hand that ends well closes it"
    )


def _busy(state: RetrainingState, evidence: DriftDetected, _: RetrainingSettings) -> str | None:
    if state.in_flight is None:
        return None
    return f"busy: the training asked for {_span(evidence.at - state.in_flight.at)} ago hasn't ended"


def _unconfirmed(state: RetrainingState, _: DriftDetected, settings: RetrainingSettings) -> str | None:
    heard = _confirmations(state.alarms)
    if heard >= settings.confirm:
        return None
    return f"unconfirmed: {heard} of {settings.confirm} alarms within {settings.confirm_hours:g} h"


def _cooling(state: RetrainingState, evidence: DriftDetected, settings: RetrainingSettings) -> str | None:
    if state.trained_at is None:
        return None
    # A person's request may carry today's date while a past year is replayed: far ahead is not recent.
    elapsed = abs(evidence.at - state.trained_at)
    if elapsed >= settings.cooldown_hours * HOUR:
        return None
    return f"cooldown: the last training was {_span(elapsed)} ago, {settings.cooldown_hours:g} h are needed"


def _unlabelled(state: RetrainingState, _: DriftDetected, settings: RetrainingSettings) -> str | None:
    new = state.labelled - state.trained_labels
    if new >= settings.min_new_labels:
        return None
    since = "so far" if state.trained_at is None else "since the last training"
    return f"labels: {new:,} new ones {since}, {settings.min_new_labels:,} are needed"


REASONS: Sequence[Reason] = (_breaker, _busy, _unconfirmed, _cooling, _unlabelled)
"""Reasons against a training; what only a person can change comes first."""


def _request(
    state: RetrainingState, evidence: DriftDetected, settings: RetrainingSettings
) -> RetrainRequested:
    new = state.labelled - state.trained_labels
    return RetrainRequested.following(
        evidence,
        reason=f"{evidence.sentence}; {new:,} new labels",
        trigger=evidence.kind.value,
        # Inputs that moved leave the old rows true; where the truth itself moved, they teach the past.
        since=evidence.changed_at if evidence.kind is DriftKind.CONCEPT else None,
        rows=settings.window_rows,
    )


def _recent(
    alarms: Sequence[Alarm], evidence: DriftDetected, settings: RetrainingSettings
) -> tuple[Alarm, ...]:
    oldest = evidence.at - settings.confirm_hours * HOUR
    kept = [alarm for alarm in alarms if alarm.at > oldest and alarm.id != evidence.id]
    alarm = Alarm.model_validate({name: getattr(evidence, name) for name in Alarm.model_fields})
    return (*kept, alarm)[-max(REMEMBERED, settings.confirm) :]


def _confirmations(alarms: Sequence[Alarm]) -> int:
    """How often the stream that was heard most, the whole or a segment, told of something new.

    Segments of one change don't confirm each other; neither do inputs and predictions that alarm one after
    another because of a change that began before the first of them did. Labels confirm what these say.
    """
    heard, latest = Counter[str](), dict[str, Millis]()
    for alarm in alarms:
        told = alarm.kind is DriftKind.CONCEPT or alarm.changed_at is None
        if told or (alarm.changed_at or 0) >= latest.get(alarm.segment, 0):
            heard[alarm.segment] += 1
        if alarm.kind is not DriftKind.CONCEPT:
            latest[alarm.segment] = alarm.at
    return max(heard.values(), default=0)


def _started(state: RetrainingState, at: Millis) -> RetrainingState:
    return state.model_copy(update={"trained_at": at, "trained_labels": state.labelled})


def _ended(state: RetrainingState, event: Outcome) -> RetrainingState:
    """Crashes in a row are counted; a refusal isn't one, its process did its work."""
    failures, error = (state.failures + 1, event.error) if isinstance(event, TrainingFailed) else (0, "")
    counted = {"ended": event.caused_by or "", "failures": failures, "error": error[:200]}
    return state.model_copy(update=counted)


def _span(millis: float) -> str:
    """A time span in its natural unit.

    >>> _span(3 * HOUR), _span(90_000), _span(100 * HOUR)
    ('3 h', '2 min', '4 days')
    """
    hours = millis / HOUR
    if hours < 1:
        return f"{millis / 60_000:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"

"""When a training is worth its cost: reasons for it, and a table of reasons against it.

A training is due after an alarm; after a change of the truth again and again while the window refills
(*follow-ups*); and when there are twice the labelled rows of the last time (*doubling*: a learning curve is
logarithmic). What speaks against it now (too few new labels, a training that runs) doesn't for ever: whatever
is due is looked at again with every window of labels and with the end of every training.

Decisions are counted in labels. All times are those of the data (UTC, ms), so that a replayed year is judged
by its own calendar.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from schemas import ids
from schemas.events import (
    DeployRequested,
    DriftDetected,
    DriftKind,
    Event,
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
PACES = 8
"""Windows of labels over which the rate of labels is taken."""


class Alarm(Part):
    """An alarm that was heard."""

    id: str
    at: Millis
    kind: DriftKind = DriftKind.FEATURE
    segment: str = ""
    changed_at: Millis | None = None
    """When what it reports began."""


class RetrainingState(Part):
    """What is remembered of one model; JSON by pydantic."""

    labelled: int = 0
    """Labels joined since the beginning."""
    history: int = 0
    """Labelled rows that the first training had beside those: a file, or the store before this loop."""
    trained_at: Millis | None = None
    """When the last training was asked for; None before the first."""
    trained_labels: int = 0
    """`labelled` at that time."""
    trained_seconds: float = 0.0
    """How long the last training took."""
    doubled: int = 0
    """Labelled rows, history included, when all were learned from last; 0 before the first training."""
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
    pending: DriftDetected | None = None
    """The newest alarm that asks for a training and has not got it."""
    change: DriftDetected | None = None
    """The newest change of the truth, which follow-ups follow."""
    due: tuple[int, ...] = ()
    """Counts of labels at which the follow-ups of `change` are due."""
    pace: tuple[tuple[Millis, int], ...] = ()
    """Ends of the newest windows, and the labels until then."""

    @property
    def known(self) -> int:
        """Labelled rows that a training can have."""
        return self.history + self.labelled

    @property
    def rate(self) -> float:
        """Labels per ms of the data's time; 0 where it is not known."""
        if len(self.pace) < 2:
            return 0.0
        (since, before), (until, now) = self.pace[0], self.pace[-1]
        return (now - before) / (until - since) if until > since else 0.0


Reason = Callable[[RetrainingState, Event, RetrainingSettings], str | None]
Outcome = TrainingCompleted | TrainingRefused | TrainingFailed
Answer = RetrainRequested | RetrainRefused


def decide(
    state: RetrainingState, evidence: DriftDetected, settings: RetrainingSettings
) -> tuple[RetrainingState, Answer]:
    """The state after an alarm, and the answer. The alarm in flight, delivered again, has the same answer.

    An alarm that is refused for want of labels, or because a training runs, stays due.
    """
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
    against = _breaker(state, evidence, settings) or _unconfirmed(state, evidence, settings)
    if against is not None:
        return state, RetrainRefused.following(evidence, reason=against)
    state = _planned(state, evidence, settings)
    for reason in WAITS:
        against = reason(state, evidence, settings)
        if against is not None:
            return state, RetrainRefused.following(evidence, reason=f"{against}; it is looked at again then")
    return _requested(state, evidence, evidence.kind.value, settings)


def noted(
    state: RetrainingState,
    event: PerformanceMeasured | DeployRequested | Outcome,
    settings: RetrainingSettings,
) -> tuple[RetrainingState, list[Answer]]:
    """The state after labels were counted, a version was deployed or a training, by whomever, ended.

    Returns also the request for what has been due and is possible now.
    """
    if isinstance(event, DeployRequested):
        return state.model_copy(update={"muted": event.muted}), []
    if isinstance(event, PerformanceMeasured):
        state = _counted(state, event)
    elif event.caused_by == state.ended:
        return state, []
    elif state.in_flight is not None and event.caused_by == state.in_flight.id:
        state = _ended(state.model_copy(update={"in_flight": None}), event)
    else:
        # Somebody else's: what it learned from needs no second training soon; a crash of it taught nothing.
        state = _ended(state if isinstance(event, TrainingFailed) else _started(state, event.at), event)
    return _looked_at_again(state, event, settings)


def _looked_at_again(
    state: RetrainingState, event: Event, settings: RetrainingSettings
) -> tuple[RetrainingState, list[Answer]]:
    """Ask for what is due, if nothing speaks against it any more."""
    due = _due(state, event, settings)
    if due is None or any(reason(state, event, settings) for reason in (_breaker, *WAITS)):
        return state, []
    cause, trigger = due
    state, request = _requested(state, cause, trigger, settings)
    return state, [request]


def _due(state: RetrainingState, event: Event, settings: RetrainingSettings) -> tuple[Event, str] | None:
    """The event that a training is due for, and what triggers it."""
    if state.pending is not None:
        return state.pending, state.pending.kind.value
    if state.change is not None and state.due and state.due[0] <= state.labelled:
        return state.change, "follow-up"
    if settings.doubling and state.doubled and state.known >= 2 * state.doubled:
        return event, "doubling"
    return None


def _planned(
    state: RetrainingState, evidence: DriftDetected, settings: RetrainingSettings
) -> RetrainingState:
    """The alarm is due; after a change of the truth its follow-ups are, too, and no longer the last ones."""
    if evidence.kind is not DriftKind.CONCEPT:
        return state.model_copy(update={"pending": evidence})
    changed = state.labelled - (evidence.rows or 0)
    due = tuple(changed + after for after in settings.follow_ups)
    later = tuple(count for count in due if count > state.labelled)
    # The first follow-up is the first training: with fewer rows since the change there is nothing to learn.
    first = evidence if len(later) < len(due) else None
    return state.model_copy(update={"pending": first, "change": evidence, "due": later})


def _breaker(state: RetrainingState, _: Event, settings: RetrainingSettings) -> str | None:
    if state.failures < settings.max_failures:
        return None
    return (
        f"breaker: {state.failures} trainings in a row failed ({state.error}); "
        "one asked for by hand that ends well closes it"
    )


def _busy(state: RetrainingState, _: Event, __: RetrainingSettings) -> str | None:
    if state.in_flight is None:
        return None
    since = state.labelled - state.trained_labels
    return f"busy: the training that was asked for {since:,} labels ago hasn't ended"


def _unconfirmed(state: RetrainingState, _: Event, settings: RetrainingSettings) -> str | None:
    heard = _confirmations(state.alarms)
    if heard >= settings.confirm:
        return None
    return f"unconfirmed: {heard} of {settings.confirm} alarms within {settings.confirm_hours:g} h"


def _cooling(state: RetrainingState, evidence: Event, settings: RetrainingSettings) -> str | None:
    if state.trained_at is None:
        return None
    # A person's request may carry today's date while a past year is replayed: far ahead is not recent.
    elapsed = abs(evidence.at - state.trained_at)
    if elapsed >= settings.cooldown_hours * HOUR:
        return None
    return f"cooldown: the last training was {_span(elapsed)} ago, {settings.cooldown_hours:g} h are needed"


def _unlabelled(state: RetrainingState, _: Event, settings: RetrainingSettings) -> str | None:
    new, needed = state.labelled - state.trained_labels, _needed(state, settings)
    if new >= needed:
        return None
    since = "so far" if state.trained_at is None else "since the last training"
    wait = f", about {_span((needed - new) / state.rate)} at today's rate" if state.rate else ""
    return f"labels: {new:,} new ones {since}, {needed:,} are needed: {needed - new:,} more{wait}"


def _unlabelled_change(state: RetrainingState, evidence: Event, _: RetrainingSettings) -> str | None:
    """Too few labels since a change of the truth."""
    if state.pending is not None or state.change is None or evidence.id != state.change.id:
        return None
    missing = state.due[0] - state.labelled if state.due else 0
    return f"labels: {missing:,} more since the change are needed" if missing > 0 else None


WAITS: Sequence[Reason] = (_unlabelled_change, _busy, _cooling, _unlabelled)
"""Reasons against a training that pass by themselves."""


def _needed(state: RetrainingState, settings: RetrainingSettings) -> int:
    """New labels between two trainings: enough to teach something, and worth the last training's cost."""
    by_share = settings.new_share * state.known
    by_cost = settings.idle_ratio * 1000 * state.trained_seconds * state.rate
    return int(max(settings.min_new_labels, by_share, by_cost))


def _requested(
    state: RetrainingState, cause: Event, trigger: str, settings: RetrainingSettings
) -> tuple[RetrainingState, RetrainRequested]:
    """A training of what is due: after a change with windows of several lengths, else of everything."""
    new = state.labelled - state.trained_labels
    largest = max(settings.windows)
    doubling = trigger == "doubling"
    windows = (largest,) if doubling else tuple(sorted(settings.windows))
    request = RetrainRequested.following(
        cause,
        id=ids.derived(cause.id, "RetrainRequested", trigger, state.labelled),
        reason=f"{_because(state, cause, trigger)}; {new:,} new labels",
        trigger=trigger,
        # Inputs that moved leave the old rows true; where the truth itself moved, they teach the past.
        since=None if doubling or state.change is None else state.change.changed_at,
        rows=largest,
        windows=windows,
    )
    at = max(cause.at, state.pace[-1][0]) if state.pace else cause.at
    request = request.model_copy(update={"at": at})
    changes = {
        "in_flight": request,
        "alarms": (),
        "pending": None,
        "due": tuple(count for count in state.due if count > state.labelled),
        "doubled": state.known if state.known >= 2 * state.doubled else state.doubled,
    }
    return _started(state, request.at).model_copy(update=changes), request


def _because(state: RetrainingState, cause: Event, trigger: str) -> str:
    if isinstance(cause, DriftDetected):
        again = "again, as more labels have come since the change: " if trigger == "follow-up" else ""
        return f"{again}{cause.sentence}"
    return f"twice as many labelled rows as when all of them were learned from last ({state.known:,})"


def _counted(state: RetrainingState, event: PerformanceMeasured) -> RetrainingState:
    pace = (*state.pace, (event.until, event.labelled))[-PACES:]
    return state.model_copy(update={"labelled": max(state.labelled, event.labelled), "pace": pace})


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
    counted: dict[str, object] = {"ended": event.caused_by or "", "failures": failures, "error": error[:200]}
    if isinstance(event, TrainingCompleted):
        history = max(state.history, event.rows - state.labelled)
        counted |= {"trained_seconds": event.seconds, "history": history}
        counted["doubled"] = state.doubled or history + state.labelled
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

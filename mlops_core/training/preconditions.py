"""State of the retraining policy for a model, and the reasons against a training now.

All times are those of the data (UTC, ms).
"""

from collections import Counter
from collections.abc import Callable, Sequence

from driftloop.schemas.events import DriftDetected, DriftKind, Event, Part, RetrainRequested
from driftloop.schemas.records import Millis
from driftloop.schemas.settings import RetrainingSettings

HOUR = 3_600_000
"""Milliseconds of an hour."""
MAX_ALARMS = 100
"""Most alarms kept for confirmation (or `retraining.confirm`, if that is more)."""
PACES = 8
"""Newest windows of labels over which the rate of labels is estimated; fewer would make it noisy."""


class RecentAlarm(Part):
    """What is kept of a drift alarm."""

    id: str
    at: Millis
    kind: DriftKind = DriftKind.FEATURE
    segment: str = ""
    changed_at: Millis | None = None
    """When the change began (UTC, ms); None where that is unknown."""


class RetrainingState(Part):
    """State of one model, stored as JSON."""

    labelled: int = 0
    """Labels joined to predictions so far."""
    history: int = 0
    """Labelled rows that the first training had in addition: from a file, or from the store."""
    trained_at: Millis | None = None
    """When the last training was requested; None before the first."""
    trained_labels: int = 0
    """`labelled` at that time."""
    trained_seconds: float = 0.0
    """Seconds that all fits of the last training took."""
    doubled: int = 0
    """Labelled rows, history included, of the last training on all rows; 0 before the first training."""
    in_flight: RetrainRequested | None = None
    """The request whose training hasn't ended."""
    answers: DriftDetected | None = None
    """The alarm that caused the request; None where doubling did."""
    failures: int = 0
    """Trainings in a row that crashed."""
    error: str = ""
    """Error of the last crash."""
    ended: str = ""
    """Id of the request whose training ended last, so that its end counts once."""
    alarms: tuple[RecentAlarm, ...] = ()
    """Those of the last `confirm_hours`, oldest first."""
    muted: tuple[DriftKind, ...] = ()
    """Kinds of drift that are not to be acted on."""
    pending: DriftDetected | None = None
    """The newest alarm for which no training was requested yet."""
    change: DriftDetected | None = None
    """The newest alarm of concept drift, after which follow-ups are due."""
    changed: int = 0
    """Estimated number of labels before that change."""
    due: tuple[int, ...] = ()
    """Counts of labels at which the follow-ups of `change` are due."""
    pace: tuple[tuple[Millis, int], ...] = ()
    """End (UTC, ms) of each of the newest windows, and labels until then."""

    @property
    def labelled_rows(self) -> int:
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


def add_alarm(
    alarms: Sequence[RecentAlarm], evidence: DriftDetected, settings: RetrainingSettings
) -> tuple[RecentAlarm, ...]:
    """Alarms of the last `confirm_hours`, the new one included."""
    oldest = evidence.at - settings.confirm_hours * HOUR
    kept = [alarm for alarm in alarms if alarm.at > oldest and alarm.id != evidence.id]
    alarm = RecentAlarm.model_validate({name: getattr(evidence, name) for name in RecentAlarm.model_fields})
    return (*kept, alarm)[-max(MAX_ALARMS, settings.confirm) :]


def count_confirmations(alarms: Sequence[RecentAlarm]) -> int:
    """Number of separate changes that alarmed, in the stream (whole model or segment) with most of them.

    Segments of one change don't confirm each other. Neither do alarms of features and predictions whose
    change began before the previous such alarm: they report the same change. An alarm of concept drift
    always counts, as labels are separate evidence.
    """
    changes, latest = Counter[str](), dict[str, Millis]()
    for alarm in alarms:
        separate = alarm.kind is DriftKind.CONCEPT or alarm.changed_at is None
        if separate or (alarm.changed_at or 0) >= latest.get(alarm.segment, 0):
            changes[alarm.segment] += 1
        if alarm.kind is not DriftKind.CONCEPT:
            latest[alarm.segment] = alarm.at
    return max(changes.values(), default=0)


def breaker(state: RetrainingState, _: Event, settings: RetrainingSettings) -> str | None:
    """The breaker is open: `retraining.max_failures` trainings in a row crashed."""
    if state.failures < settings.max_failures:
        return None
    return (
        f"breaker: {state.failures} trainings in a row failed ({state.error}); no training starts by itself "
        "until one that you request (driftloop retrain) succeeds"
    )


def _busy(state: RetrainingState, _: Event, __: RetrainingSettings) -> str | None:
    if state.in_flight is None:
        return None
    since = state.labelled - state.trained_labels
    return f"busy: the training requested {since:,} labels ago has not ended; the alarm waits for its end"


def lacks_confirmation(state: RetrainingState, _: Event, settings: RetrainingSettings) -> str | None:
    """Fewer than `retraining.confirm` changes alarmed within `retraining.confirm_hours`."""
    changes = count_confirmations(state.alarms)
    if changes >= settings.confirm:
        return None
    return f"unconfirmed: {changes} of {settings.confirm} alarms within {settings.confirm_hours:g} h"


def _cooling(state: RetrainingState, evidence: Event, settings: RetrainingSettings) -> str | None:
    if state.trained_at is None:
        return None
    # A person's request may have today's date while a past year is replayed, so the distance counts.
    elapsed = abs(evidence.at - state.trained_at)
    idle = settings.idle_ratio * state.trained_seconds * 1000
    needed = max(settings.cooldown_hours * HOUR, idle)
    if elapsed >= needed:
        return None
    took = f", which took {span(1000 * state.trained_seconds)}," if needed == idle else ""
    return (
        f"cooldown: the last training{took} was {span(elapsed)} ago, {span(needed)} are needed; "
        f"the alarm waits for {span(needed - elapsed)}"
    )


def _lacks_labels(state: RetrainingState, _: Event, settings: RetrainingSettings) -> str | None:
    new, needed = state.labelled - state.trained_labels, needed_labels(state, settings)
    if new >= needed:
        return None
    since = "so far" if state.trained_at is None else "since the last training"
    return f"labels: {new:,} new ones {since}, {needed:,} are needed; {_labels_to_come(state, needed - new)}"


def _unlabelled_change(state: RetrainingState, evidence: Event, _: RetrainingSettings) -> str | None:
    """Too few labels since the newest concept drift."""
    if state.pending is not None or state.change is None or evidence.id != state.change.id:
        return None
    missing = state.due[0] - state.labelled if state.due else 0
    if missing <= 0:
        return None
    return f"labels: {state.labelled - state.changed:,} since the change; {_labels_to_come(state, missing)}"


WAITS: Sequence[Reason] = (_unlabelled_change, _busy, _cooling, _lacks_labels)
"""Reasons that pass with time or labels; the alarm stays due meanwhile."""


def needed_labels(state: RetrainingState, settings: RetrainingSettings) -> int:
    """Fewest new labels between two trainings (`retraining.min_new_labels`, `retraining.new_share`)."""
    return max(settings.min_new_labels, int(settings.new_share * state.labelled_rows))


def _labels_to_come(state: RetrainingState, more: int) -> str:
    wait = f", about {span(more / state.rate)} at the present rate" if state.rate else ""
    return f"the alarm waits for {more:,} more{wait}"


def span(millis: float) -> str:
    """A time span in its natural unit.

    >>> span(3 * HOUR), span(90_000), span(100 * HOUR), span(4_000)
    ('3 h', '2 min', '4 days', '4 s')
    """
    hours = millis / HOUR
    if hours < 1 / 60:
        return f"{millis / 1000:.0f} s"
    if hours < 1:
        return f"{millis / 60_000:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"

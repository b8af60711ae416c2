"""What the retraining policy remembers of a model, and the reasons against a training now.

All times are those of the data (UTC, ms).
"""

from collections.abc import Callable, Sequence

from driftloop.mlops_core.training.alarm_history import HOUR, RecentAlarm, count_confirmations
from driftloop.schemas.events import DriftDetected, DriftKind, Event, Part, RetrainRequested
from driftloop.schemas.records import Millis
from driftloop.schemas.settings import RetrainingSettings

PACES = 8
"""Windows of labels over which the rate of labels is taken."""


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
    """Seconds that the last training took, all versions of it."""
    doubled: int = 0
    """Labelled rows, history included, when all were learned from last; 0 before the first training."""
    in_flight: RetrainRequested | None = None
    """The request whose training hasn't ended."""
    answers: DriftDetected | None = None
    """The alarm that it answers; None where it is for a doubling."""
    failures: int = 0
    """Trainings in a row that crashed."""
    error: str = ""
    """How the last of them did."""
    ended: str = ""
    """The request whose training ended last, so that its end counts once."""
    alarms: tuple[RecentAlarm, ...] = ()
    """Those of the last `confirm_hours`, oldest first."""
    muted: tuple[DriftKind, ...] = ()
    """Kinds of drift that are not to be acted on."""
    pending: DriftDetected | None = None
    """The newest alarm that asks for a training and has not got it."""
    change: DriftDetected | None = None
    """The newest change of the truth, which follow-ups follow."""
    changed: int = 0
    """Labels until then, about."""
    due: tuple[int, ...] = ()
    """Counts of labels at which the follow-ups of `change` are due."""
    pace: tuple[tuple[Millis, int], ...] = ()
    """Ends of the newest windows, and the labels until then."""

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


def breaker(state: RetrainingState, _: Event, settings: RetrainingSettings) -> str | None:
    """Too many trainings in a row crashed."""
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
    return f"busy: the training asked for {since:,} labels ago hasn't ended; the alarm waits for its end"


def lacks_confirmation(state: RetrainingState, _: Event, settings: RetrainingSettings) -> str | None:
    """Too few changes alarmed of late."""
    heard = count_confirmations(state.alarms)
    if heard >= settings.confirm:
        return None
    return f"unconfirmed: {heard} of {settings.confirm} alarms within {settings.confirm_hours:g} h"


def _cooling(state: RetrainingState, evidence: Event, settings: RetrainingSettings) -> str | None:
    if state.trained_at is None:
        return None
    # A person's request may carry today's date while a past year is replayed: far ahead is not recent.
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
    """Too few labels since a change of the truth."""
    if state.pending is not None or state.change is None or evidence.id != state.change.id:
        return None
    missing = state.due[0] - state.labelled if state.due else 0
    if missing <= 0:
        return None
    return f"labels: {state.labelled - state.changed:,} since the change; {_labels_to_come(state, missing)}"


WAITS: Sequence[Reason] = (_unlabelled_change, _busy, _cooling, _lacks_labels)
"""Reasons against a training that pass by themselves."""


def needed_labels(state: RetrainingState, settings: RetrainingSettings) -> int:
    """New labels between two trainings that are enough to teach something."""
    return max(settings.min_new_labels, int(settings.new_share * state.labelled_rows))


def _labels_to_come(state: RetrainingState, more: int) -> str:
    wait = f", about {span(more / state.rate)} at the rate of late" if state.rate else ""
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

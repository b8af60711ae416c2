"""How many changes the alarms of late report: columns and segments of one change count once."""

from collections import Counter
from collections.abc import Sequence

from driftloop.schemas.events import DriftDetected, DriftKind, Part
from driftloop.schemas.records import Millis
from driftloop.schemas.settings import RetrainingSettings

HOUR = 3_600_000
"""Milliseconds."""
REMEMBERED = 100
"""Alarms kept for confirmation, at most; more than anybody would want confirmed."""


class RecentAlarm(Part):
    """An alarm that was heard."""

    id: str
    at: Millis
    kind: DriftKind = DriftKind.FEATURE
    segment: str = ""
    changed_at: Millis | None = None
    """When what it reports began."""


def add_alarm(
    alarms: Sequence[RecentAlarm], evidence: DriftDetected, settings: RetrainingSettings
) -> tuple[RecentAlarm, ...]:
    """Alarms of the last `confirm_hours`, the new one included."""
    oldest = evidence.at - settings.confirm_hours * HOUR
    kept = [alarm for alarm in alarms if alarm.at > oldest and alarm.id != evidence.id]
    alarm = RecentAlarm.model_validate({name: getattr(evidence, name) for name in RecentAlarm.model_fields})
    return (*kept, alarm)[-max(REMEMBERED, settings.confirm) :]


def count_confirmations(alarms: Sequence[RecentAlarm]) -> int:
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

"""In which order things happened, where they were read from topics that know nothing of each other."""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.events import AnyEvent


@dataclass(frozen=True)
class Read:
    """An event as it was read."""

    event: AnyEvent
    written: int
    """The broker's timestamp (ms)."""
    arrived: float
    """When it was read, on this process's monotonic clock (seconds)."""


def in_order(read: Iterable[Read]) -> list[AnyEvent]:
    """By the time of writing; where the broker's milliseconds can't tell, a cause before its effect."""
    waiting = {one.event.id: one.event for one in sorted(read, key=lambda one: one.written)}
    told: list[AnyEvent] = []
    while waiting:
        chain = [next(iter(waiting))]
        while (cause := waiting[chain[-1]].caused_by) in waiting and cause not in chain:
            chain.append(cause or "")
        told.extend(waiting.pop(event_id) for event_id in reversed(chain))
    return told

"""In which order decisions were taken, though they are read from topics that know nothing of each other."""

from collections.abc import Iterable
from dataclasses import dataclass

from driftloop.infra.dashboard.event_lines import Line
from driftloop.schemas.events import Event

Place = tuple[int, int, int, str, int]
"""When it was written (ms, the broker's timestamp) and when it became true; where these can't tell, the turn
of its topic, and within a topic how many came before. It is the same for whoever reads, and whenever."""


@dataclass(frozen=True)
class Decision:
    """An event that is told in its order, and its line in the log."""

    event: Event
    said: Line
    place: Place


def in_order(decisions: Iterable[Decision]) -> list[Decision]:
    """By place, but a cause always before its effect; however they came, the answer is the same."""
    waiting = {one.said.id: one for one in sorted(decisions, key=lambda one: one.place)}
    told: list[Decision] = []
    for event_id in list(waiting):
        chain: list[str] = []
        reached: str | None = event_id
        while reached in waiting and reached not in chain:
            chain.append(reached)
            reached = waiting[reached].event.caused_by
        told.extend(waiting.pop(one) for one in reversed(chain))
    return told

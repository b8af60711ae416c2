"""A model's story however its decisions come: what comes late is told again, from where it belongs.

Each topic is read by itself, so that a request can be read after the version that it led to. The newest
decisions are therefore kept beside what all older ones came to (`_before`), and told anew from there when one
turns up before others that are known. So a page that is opened today and reads everything shows what a page
shows that was there when it happened.
"""

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from driftloop.infra.dashboard.event_lines import Line
from driftloop.infra.dashboard.timeline import Story
from driftloop.schemas import topics
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


KEPT = 300
"""Decisions that can still be told in another order: some rollouts' worth; a topic is late by seconds, not
by days. Twice as many are kept at most."""
_TURN = {topic: place for place, topic in enumerate(topics.EVENTS)}


class Replay:
    """Takes decisions as they come, and has the story of them in their order."""

    def __init__(self) -> None:
        self.amended = 0
        """The stamp of the newest decision that came late: who looked before that must look at all again."""
        self._before = Story()
        self._told = Story()
        self._stale = False
        self._kept: list[Decision] = []
        self._causes: Counter[str | None] = Counter()
        self._counts: Counter[tuple[str, int]] = Counter()

    def add(self, event: Event, said: Line, written: int, stamp: int) -> None:
        """Take in one decision, written at `written` (ms), that was not seen before."""
        decision = self._insert(event, said, written)
        self._stale |= self._belongs_before(decision)
        self._kept.append(decision)
        self._causes[event.caused_by] += 1
        if self._stale:
            self.amended = stamp
        else:
            self._told.apply(event, said, stamp)
        if len(self._kept) > 2 * KEPT:
            self._settle()

    @property
    def story(self) -> Story:
        """Everything that is known, told in its order."""
        self._put_in_order()
        return self._told

    def _belongs_before(self, decision: Decision) -> bool:
        """Whether any that is known comes after it."""
        return decision.said.id in self._causes or any(decision.place < one.place for one in self._kept[-1:])

    def _insert(self, event: Event, said: Line, written: int) -> Decision:
        turn = _TURN[event.kafka_topic]
        came = self._counts[event.model, turn]
        self._counts[event.model, turn] += 1
        return Decision(event, said, (written, event.at, turn, event.model, came))

    def _put_in_order(self) -> None:
        if not self._stale:
            return
        self._kept, self._stale = in_order(self._kept), False
        self._told = copy.deepcopy(self._before)
        for one in self._kept:
            self._told.apply(one.event, one.said, self.amended)

    def _settle(self) -> None:
        """Let the oldest be past."""
        self._put_in_order()
        for one in self._kept[:KEPT]:
            self._before.apply(one.event, one.said, 1)  # who asks for all of it gets it
            self._causes[one.event.caused_by] -= 1
        self._causes = +self._causes
        self._kept = self._kept[KEPT:]

"""The causes of an event back to the first one, and its effects."""

from collections.abc import Iterable, Mapping, Sequence

from driftloop.mlops_core.errors import NotFound
from driftloop.schemas.events import Event


class Lineage:
    """All events by id. The same event twice is one event."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._events: dict[str, Event] = {}
        self._effects: dict[str, list[Event]] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Add an event; events may be added in any order."""
        if event.id in self._events:
            return
        self._events[event.id] = event
        if event.caused_by is not None:
            self._effects.setdefault(event.caused_by, []).append(event)

    def find(self, start: str) -> Event:
        """The event whose id begins with `start`.

        Raises:
            NotFound: no event or several have such an id; the message lists up to five.
        """
        if start in self._events:
            return self._events[start]
        found = [event for event in self._events.values() if event.id.startswith(start)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound(f"no event has an id that begins with {start!r}")
        several = ", ".join(f"{event.id} ({type(event).__name__})" for event in found[:5])
        raise NotFound(f"{len(found)} events have an id that begins with {start!r}: {several}")

    def back(self, event: Event) -> Sequence[Event]:
        """The chain of causes: `event` first, its first cause last. Ends where a cause isn't known."""
        chain, seen = [event], {event.id}
        while (cause := self._events.get(chain[-1].caused_by or "")) is not None and cause.id not in seen:
            chain.append(cause)
            seen.add(cause.id)
        return chain

    def effects(self, event: Event) -> Sequence[Event]:
        """Events caused directly by `event`, oldest first."""
        return sorted(self._effects.get(event.id, []), key=lambda effect: effect.at)

    def of_kind(self, kind: type[Event], model: str | None = None) -> Sequence[Event]:
        """All events of a kind (of one model), oldest first."""
        events = (event for event in self._events.values() if isinstance(event, kind))
        return sorted((event for event in events if model in (None, event.model)), key=lambda event: event.at)

    @property
    def by_id(self) -> Mapping[str, Event]:
        """Every event, by id."""
        return self._events

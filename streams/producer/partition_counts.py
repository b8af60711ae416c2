"""The number of partitions of each topic, fetched in the background."""

import threading
import time
from collections.abc import Callable

REFRESH_SECONDS = 30.0
"""Seconds after which batches use the new number of partitions, where some were added."""
RETRY_SECONDS = 1.0
"""Seconds between two requests for a topic whose number is not known."""


class PartitionCounts:
    """Caches the number of partitions of each topic; a thread of its own fetches and refreshes it."""

    def __init__(self, fetch: Callable[[str], int | None], refresh: float = REFRESH_SECONDS) -> None:
        """`fetch` may block; it returns None if Kafka does not answer or has no such topic."""
        self._fetch = fetch
        self._refresh = refresh
        self._counts: dict[str, int] = {}
        self._requested: set[str] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def count(self, topic: str, seconds: float = 0.0) -> int | None:
        """The topic's number of partitions; None if it isn't known after `seconds`."""
        known = self._counts.get(topic)
        if known is not None:
            return known
        with self._changed:
            self._requested.add(topic)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="publisher-partitions", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: topic in self._counts or self._closing, seconds)
            return self._counts.get(topic)

    def close(self) -> None:
        """Stop the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _work(self) -> None:
        refresh_at = time.monotonic() + self._refresh
        while not self._closing:
            for topic in self._missing():
                self._update(topic)
            if time.monotonic() >= refresh_at:
                for topic in sorted(self._counts):
                    self._update(topic)
                refresh_at = time.monotonic() + self._refresh
            with self._changed:
                if self._missing():
                    self._changed.wait_for(lambda: self._closing, RETRY_SECONDS)
                else:
                    self._changed.wait_for(lambda: self._closing or self._missing(), self._refresh)

    def _missing(self) -> list[str]:
        return sorted(self._requested.difference(self._counts))

    def _update(self, topic: str) -> None:
        count = None if self._closing else self._fetch(topic)
        if count is not None:
            with self._changed:
                self._counts[topic] = count
                self._changed.notify_all()

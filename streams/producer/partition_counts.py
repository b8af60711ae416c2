"""How many partitions there are to go to, without ever waiting for Kafka to say."""

import threading
import time
from collections.abc import Callable

REFRESH_SECONDS = 30.0
"""How long batches may go by an old number of partitions after somebody added some."""
RETRY_SECONDS = 1.0


class PartitionCounts:
    """How many partitions each topic has, as far as known; asked for by a thread of its own."""

    def __init__(self, ask: Callable[[str], int | None], refresh: float = REFRESH_SECONDS) -> None:
        """`ask` may take its time; it says None if Kafka can't be asked or has no such topic."""
        self._ask = ask
        self._refresh = refresh
        self._known: dict[str, int] = {}
        self._wanted: set[str] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def count(self, topic: str, seconds: float = 0.0) -> int | None:
        """The topic's number of partitions; None if it isn't known, at the latest after `seconds`."""
        known = self._known.get(topic)
        if known is not None:
            return known
        with self._changed:
            self._wanted.add(topic)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="publisher-partitions", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: topic in self._known or self._closing, seconds)
            return self._known.get(topic)

    def close(self) -> None:
        """Ask no more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _work(self) -> None:
        refresh_at = time.monotonic() + self._refresh
        while not self._closing:
            for topic in self._missing():
                self._learn(topic)
            if time.monotonic() >= refresh_at:
                for topic in sorted(self._known):
                    self._learn(topic)
                refresh_at = time.monotonic() + self._refresh
            with self._changed:
                if self._missing():
                    self._changed.wait_for(lambda: self._closing, RETRY_SECONDS)
                else:
                    self._changed.wait_for(lambda: self._closing or self._missing(), self._refresh)

    def _missing(self) -> list[str]:
        return sorted(self._wanted.difference(self._known))

    def _learn(self, topic: str) -> None:
        count = None if self._closing else self._ask(topic)
        if count is not None:
            with self._changed:
                self._known[topic] = count
                self._changed.notify_all()

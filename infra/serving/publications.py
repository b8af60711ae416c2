"""Answers on their way to Kafka, behind the answering: it neither waits for the broker nor fails with it."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter

from schemas.records import PredictionBatch
from schemas.settings import KafkaSettings, PublisherSettings
from streams.publisher import BufferFull, NotDelivered, Outgoing, Publisher

MAX_ROWS_WAITING = 200_000
"""Rows kept while the broker is away, about 100 MB; what comes after is counted as failed."""
RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


class Publications:
    """A bounded queue and the thread that empties it into Kafka."""

    def __init__(
        self, kafka: KafkaSettings, settings: PublisherSettings, registry: CollectorRegistry
    ) -> None:
        self._published = Counter(
            "driftloop_predictions_handed_over", "Rows handed to the Kafka client", registry=registry
        )
        self._failed = Counter(
            "driftloop_publish_failures",
            "Rows (queue full, broker away) and messages (not acknowledged) that never got to Kafka",
            ["reason"],
            registry=registry,
        )
        self._publisher = _Counting(kafka, settings, self._failed)
        self._waiting: deque[PredictionBatch] = deque()
        self._rows = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="publications", daemon=True)
        self._thread.start()

    def offer(self, batch: PredictionBatch) -> None:
        """Publish soon. Never waits, never raises; a batch that finds no room is counted."""
        with self._changed:
            if self._rows + len(batch) > MAX_ROWS_WAITING:
                self._failed.labels("queue full").inc(len(batch))
                return
            self._waiting.append(batch)
            self._rows += len(batch)
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Publish what waits, for at most about `seconds`; says in the log what could not be."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(seconds)
        try:
            self._publisher.flush(seconds)
        except NotDelivered as error:
            log.error("predictions were not delivered before the end", extra={"reason": str(error)})
        else:
            self._publisher.close()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            self._publish(batch)

    def _next(self) -> PredictionBatch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            if not self._waiting:
                return None
            batch = self._waiting.popleft()
            self._rows -= len(batch)
            return batch

    def _publish(self, batch: PredictionBatch) -> None:
        while True:
            try:
                self._publisher.publish_batch(batch)
            except NotDelivered as error:  # the topic can't be looked up: wait, as long as there is room
                log.warning("predictions wait for the broker", extra={"reason": str(error)})
                if self._closing.wait(RETRY_SECONDS):
                    self._failed.labels("broker away").inc(len(batch))
                    return
            except BufferFull:
                self._failed.labels("buffer full").inc(len(batch))
                return
            else:
                self._published.inc(len(batch))
                return


class _Counting(Publisher):
    """Counts messages that the broker never acknowledged, where the plain one keeps their reasons."""

    def __init__(self, kafka: KafkaSettings, settings: PublisherSettings, failed: Counter) -> None:
        super().__init__(kafka, settings)
        self._failed = failed

    def send(self, message: Outgoing, done: Callable[[str | None], None] | None = None) -> None:
        super().send(message, done or self._done)

    def _done(self, reason: str | None) -> None:
        if reason is not None:
            self._failed.labels("not acknowledged").inc()
            log.warning("the broker did not acknowledge predictions", extra={"reason": reason})

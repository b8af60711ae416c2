"""Answers on their way to Kafka, behind the answering: it neither waits for the broker nor fails with it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from driftloop.schemas.records import PredictionBatch
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.schemas.summaries import CanaryScores
from driftloop.streams import routes
from driftloop.streams.producer import serializer
from driftloop.streams.producer.publisher import BufferFull, NotDelivered, Publisher, TooLarge

LINGER_MS = 50.0
"""How long an answer waits for others that travel to Kafka with it, at least. The `linger_ms` of 5 makes a
message of each row at 200 requests a second, which costs the broker and every agent several times as much."""
SMALL = 16
"""Rows up to which an answer's are gathered with those of other answers; more make messages of their own."""

log = logging.getLogger(__name__)


class Publications:
    """Hands answers to the publisher, and counts what becomes of them."""

    def __init__(
        self, kafka: KafkaSettings, settings: PublisherSettings, registry: CollectorRegistry
    ) -> None:
        self._accepted = Counter(
            "driftloop_predictions_handed_over", "Rows handed to the Kafka client", registry=registry
        )
        self._failed = Counter(
            "driftloop_publish_failures", "Rows that found no room", ["reason"], registry=registry
        )
        self._kafka = kafka
        self._publisher = open_publisher(kafka, settings)
        registry.register(_PublisherMetrics(self._publisher))

    def offer(self, batch: PredictionBatch) -> None:
        """Publish soon. Never waits, never raises; rows that find no room are counted."""
        if len(batch) > SMALL:
            self._count_failures(len(batch), partial(self._publisher.publish_batch, batch))
            return
        for row in serializer.single_records(batch):
            self._count_failures(1, partial(self._publisher.publish, row))

    def offer_canary(self, scores: CanaryScores) -> None:
        """Publish soon what a canary scores by itself; left out where there is no room: it is a check."""
        with suppress(BufferFull):
            self._publisher.send(routes.producer_record(scores, self._kafka), _ignore)

    def close(self, seconds: float) -> None:
        """Publish what waits, for at most about `seconds`; says in the log what could not be."""
        try:
            self._publisher.close(seconds)
        except NotDelivered as error:
            log.error("predictions were not delivered before the end", extra={"reason": str(error)})

    def _count_failures(self, rows: int, publish: Callable[[], None]) -> None:
        try:
            publish()
        except BufferFull:
            self._failed.labels("buffer full").inc(rows)
        except TooLarge:
            self._failed.labels("too large").inc(rows)
        else:
            self._accepted.inc(rows)


def _ignore(_: str | None) -> None:
    """A check that was not delivered is not sent again, and not spooled."""


def open_publisher(kafka: KafkaSettings, settings: PublisherSettings) -> Publisher:
    """A publisher that never waits."""
    if settings.delivery_timeout * 1000 > LINGER_MS:  # librdkafka refuses a message that waits longer
        settings = settings.model_copy(update={"linger_ms": max(settings.linger_ms, LINGER_MS)})
    if settings.when_full == "spool":
        return Publisher(kafka, settings)
    return Publisher(kafka, settings.model_copy(update={"when_full": "raise"}))


class _PublisherMetrics(Collector):
    """What the publisher has counted, as it is when somebody asks."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def collect(self) -> Iterator[Metric]:
        of = self._publisher
        yield CounterMetricFamily(
            "driftloop_published", "Messages that the broker acknowledged", of.delivered
        )
        yield CounterMetricFamily("driftloop_publish_failed", "Messages never acknowledged", of.failed)
        yield GaugeMetricFamily("driftloop_publish_waiting", "Rows and messages not acknowledged", of.waiting)
        yield GaugeMetricFamily("driftloop_publish_spooled", "Messages kept on the disk", of.spooled)

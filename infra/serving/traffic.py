"""What was sent to each version, and how that went: counted by the router, published by the host.

A model's counts become one event about every second while versions share its traffic, every ten seconds
otherwise. At most one event of a model is on its way: while Kafka is away, the next counts add up in memory
(a few hundred numbers a version) and follow when it is back. An event that was given up is sent again as it
was, with the same id. A killed host loses its last counts.
"""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from driftloop.schemas import ids
from driftloop.schemas.events import LATENCY_BOUNDS, Traffic, TrafficMeasured, latency_bucket
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams.producer.publisher import BufferFull, NotDelivered, Publisher

LOOK_SECONDS = 0.25
ALONE = 10
"""Between two events of a model of which one version serves: nobody waits for them."""
FLUSH_SECONDS = 4.0

log = logging.getLogger(__name__)
Failure = Literal["", "error", "timeout"]


@dataclass
class Count:
    """`Traffic` that grows."""

    predictions: int = 0
    calls: int = 0
    errors: int = 0
    timeouts: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))

    def traffic(self) -> Traffic:
        """As an event carries it."""
        used = max((place + 1 for place, calls in enumerate(self.latency) if calls), default=0)
        return Traffic(
            predictions=self.predictions,
            calls=self.calls,
            errors=self.errors,
            timeouts=self.timeouts,
            latency=self.latency[:used],
        )


@dataclass(frozen=True)
class Span:
    """Calls of one model that were not taken yet."""

    since: int
    """End of the first call (UTC, ms)."""
    counts: dict[str, Count] = field(default_factory=dict)
    """By version."""


class TrafficCounter:
    """Calls per model and version since they were taken last. Lives on the router's event loop."""

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}

    def count(
        self, model: str, version: str, *, rows: int = 0, seconds: float | None = None, failure: Failure = ""
    ) -> None:
        """Count one call; `seconds` is how long its answer, or the timeout, took."""
        span = self._spans.get(model)
        if span is None:
            span = self._spans[model] = Span(_now())
        count = span.counts.get(version)
        if count is None:
            count = span.counts[version] = Count()
        count.calls += 1
        count.predictions += rows
        count.errors += failure == "error"
        count.timeouts += failure == "timeout"
        if seconds is not None:
            count.latency[latency_bucket(seconds * 1000)] += 1

    def spans(self) -> Mapping[str, int]:
        """Models with calls that were not taken, and since when (UTC, ms)."""
        return {model: span.since for model, span in self._spans.items()}

    def take(self, model: str) -> Mapping[str, Traffic]:
        """Calls of the model per version; they count from zero again."""
        return {version: count.traffic() for version, count in self._spans.pop(model).counts.items()}


class TrafficReporter:
    """Publishes the tally. `shared` says whether several versions share a model's traffic now."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: PublisherSettings,
        shared: Callable[[str], bool],
        seconds: float = 1.0,
    ) -> None:
        """`seconds` between two reports of a model whose traffic is shared."""
        self._seconds = seconds
        self.tally = TrafficCounter()
        self._shared = shared
        self._publisher = Publisher(kafka, settings.model_copy(update={"when_full": "raise"}))
        self._host = uuid.uuid4().hex
        self._sequence = 0
        self._sending: dict[str, TrafficMeasured] = {}
        """Events that Kafka hasn't acknowledged, by model."""
        self._reported: deque[tuple[str, str | None]] = deque()
        """Models whose event was acknowledged or given up (why), as the publisher's thread says."""

    async def run(self) -> None:
        """Publish what is due, until cancelled. The publisher is called in a thread: it may wait."""
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self._seconds / 2))
            events = [*self._to_resend(), *self._due(_now())]
            if events:
                await asyncio.to_thread(self._send, events)

    def close(self) -> None:
        """Publish the last counts, for at most about `FLUSH_SECONDS`; the log says what could not be."""
        again = list(self._to_resend())
        last = [self._event(model, since, _now()) for model, since in self.tally.spans().items()]
        self._send([*again, *last])
        try:
            self._publisher.close(FLUSH_SECONDS)
        except NotDelivered as error:
            log.error("the last traffic counts were not delivered", extra={"reason": str(error)})

    def _due(self, now: int) -> Iterator[TrafficMeasured]:
        for model, since in self.tally.spans().items():
            pause = self._seconds * (1 if self._shared(model) else ALONE)
            if model not in self._sending and now - since >= pause * 1000:
                yield self._event(model, since, now)

    def _event(self, model: str, since: int, now: int) -> TrafficMeasured:
        self._sequence += 1
        event = TrafficMeasured(
            id=ids.derive(self._host, "TrafficMeasured", self._sequence),
            at=max(now, since),
            model=model,
            since=since,
            until=max(now, since),
            versions=self.tally.take(model),
        )
        self._sending[model] = event
        return event

    def _to_resend(self) -> Iterator[TrafficMeasured]:
        """Events to send again; those that were acknowledged are forgotten."""
        while self._reported:
            model, reason = self._reported.popleft()
            if reason is None:
                self._sending.pop(model, None)
            elif model in self._sending:
                log.warning("traffic counts are sent again", extra={"model": model, "reason": reason})
                yield self._sending[model]

    def _send(self, events: list[TrafficMeasured]) -> None:
        for event in events:
            try:
                done = partial(self._on_delivery, event.model)
                self._publisher.send(self._publisher.event_record(event), done)
            except BufferFull as error:
                self._on_delivery(event.model, str(error))

    def _on_delivery(self, model: str, reason: str | None) -> None:
        self._reported.append((model, reason))


def _now() -> int:
    return time.time_ns() // 1_000_000

"""The real page on a free port over a real broker, and waiting for what it shows."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import uvicorn

from driftloop.infra.dashboard.app import build
from driftloop.infra.processes.child import free_port
from driftloop.schemas import topics
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import Event
from driftloop.schemas.settings import KafkaSettings, Settings
from driftloop.streams import admin
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import ProducerRecord
from driftloop.streams.wire import codec

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Running:
    """A served page, and what publishes to its topics."""

    url: str
    kafka: KafkaSettings
    publisher: Publisher

    def tell(self, events: Iterable[Event]) -> None:
        """Publish and wait until the broker has them."""
        self.publisher.deliver(self.publisher.event_record(event) for event in events)

    def park(self, letter: DeadLetter) -> None:
        """Put a dead letter on its topic."""
        self.raw(topics.DEAD_LETTERS, codec.encode(letter))

    def raw(self, topic: topics.Topic, value: bytes) -> None:
        """Put any bytes on a topic."""
        self.publisher.deliver([ProducerRecord(topics.name_of(topic, self.kafka), "key", value)])

    def ask(self, path: str) -> httpx.Response:
        """GET from the page's server."""
        return httpx.get(f"{self.url}{path}", timeout=10)

    def snapshot(self) -> dict[str, Any]:
        """What a browser gets first."""
        told: dict[str, Any] = self.ask("/api/v1/snapshot").json()
        return told


@contextmanager
def serving(
    bootstrap: str, prefix: str | None = None, created: bool = True, port: int | None = None
) -> Iterator[Running]:
    """Serve the page for the broker at `bootstrap`, with topics of its own (there already, if `created`).

    On any free port, unless one is given. Its streams end as soon as the server is told to.
    """
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix or f"page-{uuid.uuid4().hex[:8]}-")
    if created:
        admin.create_topics(kafka)
    port = port or free_port()
    config = uvicorn.Config(
        build(Settings(kafka=kafka), lambda: server.should_exit),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started, "the page's server started")
    try:
        with Publisher(kafka) as publisher:
            yield Running(f"http://127.0.0.1:{port}", kafka, publisher)
    finally:
        server.should_exit = True
        thread.join(20)


def eventually(look: Callable[[], Seen], what: str, seconds: float = 20.0) -> Seen:
    """What `look` sees once it is true; fails with `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(0.05)
    return seen

"""How long a worker's fetch may wait, and for how much; Faust has 1.5 s and 1 byte in its source."""

from typing import Any

from faust.transport.drivers import aiokafka as driver

FETCH_WAIT_MS = 100
"""How long the broker may hold a fetch that finds less than `FETCH_BYTES`. One fetch at a time asks for all
partitions whose records are used up, so one whose turn was missed is late by as much, in each stage. Ten
fetches of nothing a second cost an idle agent 0.4 % of a core more than Faust's 1,500 ms."""
FETCH_BYTES = 64_000
"""A fetch that finds as much returns at once. With Faust's 1, a worker that keeps up handles them one by one,
and each chunk has a price whatever is in it (a write of the memory, a publication, two acknowledgements):
400 single requests a second cost agents and broker five times as much."""


class FetchingThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust has no types
    """Faust's thread around aiokafka's consumer, with that wait."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # what it gives its fetcher when it starts,
        consumer._fetch_min_bytes = FETCH_BYTES  # and this, too
        return consumer

"""How patiently a worker fetches: Faust's own answer is 1.5 s, in its source."""

from typing import Any

from faust.transport.drivers import aiokafka as driver

FETCH_WAIT_MS = 100
"""How long the broker may hold a fetch that finds nothing. One fetch at a time asks for all partitions whose
records are used up, so one whose turn was missed is late by as much, in each stage. Ten fetches of nothing a
second cost an idle agent 0.4 % of a core more than Faust's 1,500 ms."""


class FetchingThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust has no types
    """Faust's thread around aiokafka's consumer, with that wait."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # what it gives its fetcher when it starts
        return consumer

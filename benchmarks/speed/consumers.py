"""Other ways to read the same topic, each in a process: `python -m benchmarks.speed.consumers KIND ...`.

Prints CPU microseconds a row, from its first records to so many rows, fetched so many messages at once.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from driftloop.schemas import topics
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams.wire import blocks


class Counted:
    """CPU seconds of this process since the first rows."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._rows = 0
        self._began: float | None = None

    def add(self, rows: int) -> bool:
        """Whether that is enough; the first rows only start the watch."""
        if self._began is None:
            self._began = time.process_time()
            return False
        self._rows += rows
        return self._rows >= self._wanted

    @property
    def microseconds(self) -> float:
        """A row."""
        assert self._began is not None, "no row came"
        return (time.process_time() - self._began) / self._rows * 1e6


def matrix(values: Sequence[bytes]) -> int:
    """Records decoded into numpy, and nothing else; returns how many rows they were."""
    if values and values[0].startswith(blocks.MAGIC):
        return sum(len(blocks.decode(value)["ids"]) for value in values)
    rows = [orjson.loads(value) for value in values]
    numbers = [[v for v in row["features"].values() if not isinstance(v, str)] for row in rows]
    np.array(numbers, dtype=np.float64)
    return len(rows)


def bare(kafka: KafkaSettings, wanted: int, at_once: int) -> float:
    """confluent-kafka's `consume`."""
    from confluent_kafka import Consumer

    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": _group(), "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topics.name_of(topics.PREDICTIONS, kafka)])
    counted, done = Counted(wanted), False
    while not done:
        values = [record.value() for record in consumer.consume(at_once, 1.0) if record.error() is None]
        done = bool(values) and counted.add(matrix([value for value in values if value]))
    return counted.microseconds


def aiokafka(kafka: KafkaSettings, wanted: int, at_once: int) -> float:
    """Aiokafka's `getmany`."""

    async def read() -> float:
        from aiokafka import AIOKafkaConsumer

        consumer: Any = AIOKafkaConsumer(
            topics.name_of(topics.PREDICTIONS, kafka),
            bootstrap_servers=kafka.bootstrap,
            group_id=_group(),
            auto_offset_reset="earliest",
        )
        await consumer.start()
        counted, done = Counted(wanted), False
        while not done:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=at_once)).values():
                done = counted.add(matrix([record.value for record in records])) or done
        await consumer.stop()
        return counted.microseconds

    return asyncio.run(read())


def faust(kafka: KafkaSettings, wanted: int, at_once: int) -> float:
    """A Faust agent with one river ADWIN a feature, as a newcomer would write it."""
    import faust as library
    from river.drift import ADWIN

    app = library.App(
        _group(),
        broker=f"kafka://{kafka.bootstrap}",
        broker_max_poll_records=at_once,
        web_enabled=False,
        topic_disable_leader=True,
    )
    source = app.topic(topics.name_of(topics.PREDICTIONS, kafka), value_serializer="json")
    detectors: dict[str, ADWIN] = {}
    counted, enough = Counted(wanted), asyncio.Event()

    async def watch(stream: Any) -> None:
        async for event in stream:
            for name, value in event["features"].items():
                if isinstance(value, int | float):
                    detectors.setdefault(name, ADWIN()).update(value)
            if counted.add(1):
                enough.set()

    app.agent(source)(watch)

    async def run() -> float:
        await app.start()
        await enough.wait()
        microseconds = counted.microseconds
        await app.stop()
        return microseconds

    return asyncio.run(run())


KINDS = {"bare": bare, "aiokafka": aiokafka, "faust": faust}


def _group() -> str:
    return f"bench-{os.getpid()}"


if __name__ == "__main__":
    kind, bootstrap, prefix, rows, at_once = sys.argv[1:]
    took = KINDS[kind](KafkaSettings(bootstrap=bootstrap, prefix=prefix), int(rows), int(at_once))
    print(took)  # noqa: T201

"""A client of the router in a process of its own: one row a request, each label some rows later.

    python -m benchmarks.speed.load_client URL KAFKA_JSON MODEL FIRST ROWS RATE

It prints one line of JSON: rows asked and answered, and the seconds that it took.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Sequence
from urllib.parse import urlsplit

import numpy as np
import orjson

from driftloop.schemas.records import Label
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams.producer.publisher import Publisher

CONNECTIONS = 8
LABEL_ROWS = 500
"""Rows between a request and its label."""
STEP_MS = 1_800_000
"""Half an hour of the data's time between two rows, as electricity data has it."""
BEGAN_MS = 1_735_689_600_000
"""2025-01-01 UTC."""
FEATURES = ("day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")


def rows(first: int, count: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Electricity-like rows: cycles of a day and a week, prices with noise; values (rows, 7), labels (rows,).

    Row n is the same whatever `first` is.
    """
    n = np.arange(first + count)
    random = np.random.default_rng(seed)
    noise = random.normal(size=(5, len(n)))
    day, period = (n // 48) % 7, (n % 48) / 47
    demand = 0.45 + 0.15 * np.sin(2 * np.pi * period - 2) + 0.04 * noise[0]
    vic = 0.42 + 0.10 * np.sin(2 * np.pi * period - 1.8) + 0.05 * noise[1]
    price = np.abs(0.06 + 0.08 * (demand - 0.45) + 0.015 * noise[2])
    values = np.column_stack([day, period, price, demand, 0.06 * price, vic, 0.4 + 0.1 * noise[3]]).round(6)
    labels = (price + 0.02 * noise[4] > 0.06).astype(float)
    return values[first:], labels[first:]


def at(row: int) -> int:
    """A row's time (UTC, ms)."""
    return BEGAN_MS + row * STEP_MS


class Load:
    """Asks for rows over several connections that are kept alive, at a steady rate."""

    def __init__(self, url: str, publisher: Publisher, model: str, first: int, count: int) -> None:
        self._url = urlsplit(url)
        self._publisher = publisher
        self._model = model
        self._first = first
        self._values, self._labels = rows(first, count)
        self._next = 0
        self._waiting: deque[int] = deque()
        self.answered = 0

    async def run(self, rate: float) -> float:
        """Ask for all rows, `rate` a second (0: as fast as answers come); the seconds that it took."""
        began = time.monotonic()
        await asyncio.gather(*(self._connection(began, rate) for _ in range(CONNECTIONS)))
        took = time.monotonic() - began
        self._publish(0)
        return took

    async def _connection(self, began: float, rate: float) -> None:
        reader, writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        while self._next < len(self._values):
            row, self._next = self._next, self._next + 1
            if rate:
                await asyncio.sleep(began + row / rate - time.monotonic())
            writer.write(self._request(row))
            answered = await _has_score(reader)
            self.answered += answered
            self._waiting.append(row)
            self._publish(LABEL_ROWS)
        writer.close()

    def _request(self, row: int) -> bytes:
        number = self._first + row
        features = dict(zip(FEATURES, self._values[row].tolist(), strict=True))
        fields = {"id": f"row-{number}", "at": at(number), "features": features}
        body = orjson.dumps({"model": self._model, "rows": [fields]})
        head = f"POST /predict HTTP/1.1\r\nhost: {self._url.netloc}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def _publish(self, keep: int) -> None:
        """Publish the labels of all but the newest `keep` rows."""
        while len(self._waiting) > keep:
            row = self._waiting.popleft()
            number = self._first + row
            label = Label(
                model=self._model,
                id=f"row-{number}",
                at=at(number + LABEL_ROWS),
                label=float(self._labels[row]),
            )
            self._publisher.publish(label)


async def _has_score(reader: asyncio.StreamReader) -> bool:
    """Whether the answer is a score."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    [size] = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length")]
    await reader.readexactly(size)
    return lines[0].split()[1] == b"200"


def main(arguments: Sequence[str]) -> None:
    """The process."""
    url, kafka, model, first, count, rate = arguments
    with Publisher(KafkaSettings.model_validate_json(kafka)) as publisher:
        load = Load(url, publisher, model, int(first), int(count))
        seconds = asyncio.run(load.run(float(rate)))
    print(orjson.dumps({"asked": int(count), "answered": load.answered, "seconds": seconds}).decode())  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])

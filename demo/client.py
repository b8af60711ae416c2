"""A client of the loop: requests predictions over HTTP and publishes labels when they are known."""

import asyncio
import heapq
from dataclasses import dataclass, field

import httpx
import numpy as np
from numpy.typing import NDArray

from driftloop.demo.flights import Flights
from driftloop.schemas.records import LabelBatch
from driftloop.streams.producer.publisher import Publisher

ROWS_A_REQUEST = 100
REQUESTS_IN_FLIGHT = 3
"""Enough to keep two cores busy while an answer is awaited."""
TIMEOUT = 30.0


@dataclass
class Replay:
    """A replay of flights as requests; the answers are stored in `scores` and `versions`."""

    model: str
    flights: Flights
    url: str
    publisher: Publisher
    asked: int = 0
    labelled: int = 0
    failed: int = 0
    """Requested predictions without an answer."""
    seconds: float = 0.0
    """Duration of the replay in seconds."""
    scores: NDArray[np.float64] = field(init=False)
    versions: NDArray[np.object_] = field(init=False)
    _flying: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scores = np.full(len(self.flights), np.nan)
        self.versions = np.full(len(self.flights), "", dtype=object)

    @property
    def now(self) -> int:
        """Time of the newest requested flight (UTC, ms)."""
        return int(self.flights.at[max(self.asked - 1, 0)])

    @property
    def labelled_ids(self) -> set[str]:
        """Ids that were answered and whose label was published."""
        return set(self.flights.ids[~np.isnan(self.scores) & (self.flights.landed_at >= 0)])

    async def send(self, client: httpx.AsyncClient, rows: int) -> None:
        """Request predictions of the next `rows` flights, and publish the labels that are due."""
        first, last = self.asked, min(self.asked + rows, len(self.flights))
        starts = range(first, last, ROWS_A_REQUEST)
        gate = asyncio.Semaphore(REQUESTS_IN_FLIGHT)
        await asyncio.gather(*(self._ask(client, gate, at, min(at + ROWS_A_REQUEST, last)) for at in starts))
        self.asked = last
        for row in range(first, last):
            if self.flights.landed_at[row] >= 0:
                heapq.heappush(self._flying, (int(self.flights.landed_at[row]), row))
        self._publish_labels(self.now)

    def land_everybody(self) -> None:
        """Publish the remaining labels of all requested flights."""
        self._publish_labels(1 << 62)

    async def _ask(self, client: httpx.AsyncClient, gate: asyncio.Semaphore, first: int, last: int) -> None:
        async with gate:
            try:
                answer = await client.post(
                    f"{self.url}/predict", json=self._body(first, last), timeout=TIMEOUT
                )
                answer.raise_for_status()
            except httpx.HTTPError:
                self.failed += last - first
                return
        for row, prediction in zip(range(first, last), answer.json()["predictions"], strict=True):
            self.scores[row] = prediction["score"]
            self.versions[row] = prediction["version"]

    def _body(self, first: int, last: int) -> dict[str, object]:
        flights = self.flights
        rows = []
        for row in range(first, last):
            features = {name: _plain(column[row]) for name, column in flights.features.items()}
            rows.append(
                {
                    "id": flights.ids[row],
                    "entity": flights.entities[row],
                    "at": int(flights.at[row]),
                    "features": features,
                }
            )
        return {"model": self.model, "rows": rows}

    def _publish_labels(self, until: int) -> None:
        due: list[tuple[int, int]] = []
        while self._flying and self._flying[0][0] <= until:
            due.append(heapq.heappop(self._flying))
        if not due:
            return
        rows = [row for _, row in due]
        self.publisher.publish_batch(
            LabelBatch(
                model=self.model,
                ids=[str(self.flights.ids[row]) for row in rows],
                at=[at for at, _ in due],
                labels=[float(self.flights.late[row]) for row in rows],
            )
        )
        self.labelled += len(due)


def _plain(value: object) -> object:
    """The value for JSON, which has no NaN: a missing one is null."""
    if isinstance(value, float):
        return None if value != value else value
    return value

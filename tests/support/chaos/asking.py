"""A client that asks for predictions over HTTP and labels what was answered, whoever is dead just now."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from driftloop.schemas.records import LabelBatch
from driftloop.streams.producer.publisher import Publisher
from tests.support.chaos.load import BEGINNING, MINUTE_MS, STEP_MS, Ledger, features_of

ROWS = 20
"""A request."""
PAUSE = 0.2
PATIENCE = 5.0
"""Seconds until an answer doesn't count any more."""


@dataclass
class Asking:
    """Asks until told to stop; what got no answer was never accepted."""

    url: str
    publisher: Publisher
    model: str
    answered: list[str] = field(default_factory=list)
    unanswered: int = 0
    _row: int = 0

    def run(self, enough: Callable[[], bool]) -> None:
        """Ask and label until `enough()`.

        Raises:
            NotDelivered: labels that were accepted were not delivered.
        """
        with httpx.Client(timeout=PATIENCE) as client:
            while not enough():
                self._ask(client)
                threading.Event().wait(PAUSE)
        self.publisher.flush()

    def ledger(self, published: set[str]) -> Ledger:
        """What has to be accounted for, given the ids whose predictions got to their topic.

        A replica hands its answers to Kafka behind the answering, so a kill -9 may take a few with it; a
        label of such an answer belongs to no prediction.
        """
        known = set(self.answered)
        return Ledger(
            predicted=sorted(known & published), labelled=known & published, orphans=known - published
        )

    def _ask(self, client: httpx.Client) -> None:
        numbers = range(self._row, self._row + ROWS)
        self._row += ROWS
        ids = [f"asked-{n}" for n in numbers]
        at = [BEGINNING + n * STEP_MS for n in numbers]
        rows = [
            {"id": id_, "entity": id_, "at": when, "features": features_of(n)}
            for id_, when, n in zip(ids, at, numbers, strict=True)
        ]
        try:
            answer = client.post(f"{self.url}/predict", json={"model": self.model, "rows": rows})
            answer.raise_for_status()
        except httpx.HTTPError:
            self.unanswered += ROWS
            return
        self.answered += ids
        labels, later = [float(n % 2) for n in numbers], [when + 30 * MINUTE_MS for when in at]
        self.publisher.publish_batch(LabelBatch(model=self.model, ids=ids, at=later, labels=labels))

"""How soon an alarm is on the page: 5,000 events a second, real agents on Apache Kafka, the page over HTTP.

Column after column shifts by one standard deviation. How many rows a detector needs to be sure is its
statistical delay, no matter how quick the machine; so an alarm is late by the time from the row that made it
sure (its `at`, taken when it was published) to its mark in the page's stream of news.
"""

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.speed import registry, traffic, workers
from benchmarks.speed.table import Row
from driftloop.infra.brokers.kafka import KafkaBroker
from driftloop.infra.processes.child import free_port, listening
from driftloop.mlops_core.data.features import Column
from driftloop.schemas import topics
from driftloop.schemas.events import DriftDetected
from driftloop.schemas.records import Prediction
from driftloop.schemas.settings import DashboardSettings, KafkaSettings, Settings
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.topic_reader import TopicReader
from driftloop.streams.wire import codec

RATE = 5_000
"""Events a second, all models together."""
MODELS = ("left", "right")
APART = 0.5
"""Seconds between two shifts: each is its own alarm."""
BEFORE, AFTER = 2.0, 2.0
"""Seconds without a new shift, first and last: windows to compare with, and rows for the last alarm."""
TICK = 0.01
"""Seconds between two handfuls of events."""
GRACE = 15.0
"""Seconds until an alarm that isn't on the page counts as missing."""
WARM_SECONDS = 4.0


@dataclass(frozen=True)
class Shift:
    """One column of one model moves."""

    model: str
    column: str
    second: float
    """Since the beginning of the stream."""


@dataclass(frozen=True)
class Alarm:
    """When it was sure, when the agents had said so, when the page showed it (UTC, ms)."""

    at: float
    published: float
    seen: float


Said = tuple[DriftDetected, float]
"""An alarm, and Kafka's time of its record (UTC, ms)."""


def measure() -> list[Row]:
    """One worker with both stages, one page, one browser."""
    with tempfile.TemporaryDirectory() as folder, KafkaBroker.start(Path(folder) / "kafka") as broker:
        uri = registry.write_models(Path(folder) / "models", models=MODELS)
        settings = workers.system(broker.bootstrap, uri).model_copy(
            update={"dashboard": DashboardSettings(port=free_port())}
        )
        with (
            workers.running(settings, Path(folder), "agents", "run", *workers.STAGES),
            workers.running(settings, Path(folder), "dashboard") as page,
        ):
            page.wait_until(lambda: listening(settings.dashboard.port), workers.PATIENCE)
            rate, expected, alarms = _run(settings)
    return latency_rows(rate, expected, alarms)


def latency_rows(rate: float, expected: int, alarms: Sequence[Alarm]) -> list[Row]:
    """The rows; a missing alarm is late for ever."""
    late = [(alarm.seen - alarm.at) / 1000 for alarm in alarms]
    late += [float("inf")] * (expected - len(alarms))
    spoken = [(alarm.published - alarm.at) / 1000 for alarm in alarms]
    shown = [(alarm.seen - alarm.published) / 1000 for alarm in alarms]
    return [
        Row("events published, two models of 20 features", rate, "a second"),
        Row("shifted columns of which the page says so", len(alarms), f"of {expected}"),
        Row.at_most("from the row that made it sure to the page, p95", _share(late, 95), "s", 1),
        Row("— p50", _share(late, 50), "s"),
        Row("— of which until Kafka has the alarm (two stages), p95", _share(spoken, 95), "s"),
        Row("— of which from Kafka to the browser, p95", _share(shown, 95), "s"),
    ]


def _share(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent don't exceed; no mean of two."""
    return float(np.percentile(values, percent, method="inverted_cdf")) if values else float("inf")


def schedule(columns: Mapping[str, Column]) -> list[Shift]:
    """Every number of every model, one after another."""
    numbers = [name for name in columns if name.startswith("n")]
    pairs = [(model, name) for name in numbers for model in MODELS]
    return [Shift(model, name, BEFORE + APART * place) for place, (model, name) in enumerate(pairs)]


def _run(settings: Settings) -> tuple[float, int, list[Alarm]]:
    """Publish, and watch the page meanwhile: events a second, alarms to be expected, alarms that came."""
    with workers.Progress(settings.kafka) as progress:
        _publish(settings.kafka, (), WARM_SECONDS)
        progress.reach(traffic.REFERENCE_ROWS // 2)
    shifts = schedule(traffic.columns(1))
    browser = Browser(settings.dashboard.port)
    browser.start()
    rate = _publish(settings.kafka, shifts, shifts[-1].second + AFTER)
    deadline = time.monotonic() + GRACE
    found: list[Alarm] = []
    while len(found) < len(shifts) and time.monotonic() < deadline:
        time.sleep(0.5)
        found = match_alarms(shifts, _read_alarms(settings.kafka), dict(browser.seen))
    return rate, len(shifts), found


def match_alarms(shifts: Sequence[Shift], said: Sequence[Said], seen: Mapping[str, float]) -> list[Alarm]:
    """The first alarm on the page that names each shifted column; one alarm may name several."""
    found: dict[Shift, Alarm] = {}
    for event, written in said:
        for shift in shifts:
            named = shift.model == event.model and shift.column in event.columns
            if named and event.id in seen:
                found.setdefault(shift, Alarm(event.at, written, seen[event.id]))
    return list(found.values())


def _publish(kafka: KafkaSettings, shifts: Sequence[Shift], seconds: float) -> float:
    """Publish `RATE` events a second for so long; returns how many a second it came to."""
    stream = rows(int(RATE * seconds), shifts)
    began = time.monotonic()
    with Publisher(kafka) as publisher:
        for number, row in enumerate(stream):
            if number % int(RATE * TICK) == 0:
                time.sleep(max(0.0, began + number / RATE - time.monotonic()))
            publisher.publish(row)
    return int(RATE * seconds) / (time.monotonic() - began)


def rows(count: int, shifts: Sequence[Shift]) -> Iterator[Prediction]:
    """Models in turn; `at` is now."""
    columns = traffic.columns(count)
    names, values = list(columns), list(zip(*map(traffic.plain, columns.values()), strict=True))
    since = {(shift.model, shift.column): int(shift.second * RATE) for shift in shifts}
    begun: dict[str, set[str]] = {model: set() for model in MODELS}
    starts = sorted(since.items(), key=lambda item: item[1], reverse=True)
    run = time.time_ns()
    for number, row in enumerate(values):
        while starts and starts[-1][1] <= number:
            (model, column), _ = starts.pop()
            begun[model].add(column)
        model = MODELS[number % len(MODELS)]
        features = dict(zip(names, row, strict=True))
        for name in begun[model]:
            features[name] = None if features[name] is None else features[name] + 1.0
        yield Prediction(
            model=model,
            version=traffic.VERSION,
            id=f"{run}-{number}",
            at=time.time_ns() // 1_000_000,
            score=number * 0.618034 % 1.0,  # as even as the reference's
            features=features,
        )


def _read_alarms(kafka: KafkaSettings) -> list[Said]:
    """All alarms, in order."""
    found: list[Said] = []
    with TopicReader(kafka, [topics.DRIFT]) as reader:
        while not reader.caught_up:
            for _, message in reader.poll(0.2):
                event = codec.decode_event(message.value())
                if isinstance(event, DriftDetected):
                    found.append((event, message.timestamp()[1]))
    return found


@dataclass
class Browser:
    """Follows the page's stream of news, as its script does; notes when each alarm's mark came."""

    port: int
    seen: dict[str, float] = field(default_factory=dict)
    """Alarm's id to when it came (UTC, ms)."""

    def start(self) -> None:
        """Take what is there, and follow from there on until the page ends."""
        address = f"http://127.0.0.1:{self.port}/api/v1"
        known = httpx.get(f"{address}/snapshot").json()["id"]
        threading.Thread(target=self._follow, args=(f"{address}/stream?after={known}",), daemon=True).start()

    def _follow(self, address: str) -> None:
        try:
            with httpx.stream("GET", address, timeout=30.0) as news:
                for line in news.iter_lines():
                    if line.startswith("data: "):
                        self.take(json.loads(line.removeprefix("data: ")), time.time() * 1000)
        except httpx.TransportError:
            return  # the page has ended; whatever it hadn't shown counts as missing

    def take(self, news: Mapping[str, object], now: float) -> None:
        """Note the marks of one delta."""
        models = news.get("models")
        assert isinstance(models, dict)
        for model in models.values():
            for mark in model["added"].get("marks", ()):
                self.seen.setdefault(mark["id"], now)

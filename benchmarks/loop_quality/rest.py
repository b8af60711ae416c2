"""Waits until the system is at rest: everything published was consumed, and no effect is being performed.

Real data comes slowly: between two half-hours of electricity a training ends, a replica starts and a label
reaches every agent. A replay has to wait for that after each block, and thousands of times, so it must cost
little. What was considered:

- Committed offsets of the agents' consumer groups lag behind by up to a second (Faust commits once a second),
  and committed doesn't mean that an effect (a training, a shift of traffic) has ended.
- Offsets in the agents' memory topics are exact, but their format is private.
- ListOffsets of the embedded broker names the beginning of the last batch, not the end.
- A marker record crosses stages that react to every record, but no window of 250 labels and no training.

So two counts are compared. The agents' `/metrics` count the records applied to each agent's state, by topic;
the count grows after Kafka has acknowledged what follows from the records. A consumer of all those topics
counts the records that arrive, and leaves out repetitions by the same headers as the agents do. A gauge
counts effects being performed; it falls after Kafka has acknowledged what follows from the effect. The system
is at rest if a scrape says that nothing is being performed, and every count of that scrape equals the
consumer's, which is read afterwards; twice in a row, since the consumer may for a moment be as late as an
agent. A prediction and a label count as arrived once the joining agent has them. An open canary that waits
for requests performs nothing.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import orjson

from driftloop.infra.wiring import agents
from driftloop.schemas import topics
from driftloop.schemas.settings import KafkaSettings, Settings
from driftloop.streams.topic_reader import TopicReader

POLL_SECONDS = 0.02
"""Between two scrapes: longer than Kafka needs to hand a record on."""
REST_SECONDS = 180.0
"""Longest wait for rest; a training takes seconds, and several times that on a busy machine."""
_APPLIED = "driftloop_records_applied_total"
_PERFORMING = "driftloop_effects_performing"
_JOIN = "driftloop_label_join_rows_total"
_NAMES: list[tuple[str, str | int | float | bool | None]] = [
    ("name[]", name) for name in (_APPLIED, _PERFORMING, _JOIN)
]

Reads = Mapping[str, Collection[str]]
"""By agent: the topics that it reads."""


@dataclass(frozen=True)
class Progress:
    """One scrape of the agents' metrics."""

    applied: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Records by agent and topic."""
    performing: Mapping[str, int] = field(default_factory=dict)
    """Effects by agent."""
    joining: Mapping[str, int] = field(default_factory=dict)
    """Rows of the label join, by what they are: predictions, labels, ..."""

    @classmethod
    def of(cls, page: str, model: str) -> Self:
        """From the text of `/metrics`."""
        applied, performing, joining = dict[tuple[str, str], int](), dict[str, int](), dict[str, int]()
        for name, labels, value in _samples(page):
            if name == _APPLIED:
                applied[labels["agent"], labels["topic"]] = int(value)
            elif name == _PERFORMING:
                performing[labels["agent"]] = int(value)
            elif name == _JOIN and labels["model"] == model:
                joining[labels["what"]] = int(value)
        return cls(applied, performing, joining)


def outstanding(
    reads: Reads, progress: Progress, arrived: Mapping[str, int], rows: Mapping[str, int]
) -> list[str]:
    """What the system still has to do, a phrase each; empty at rest.

    `arrived` counts records by topic; `rows` counts rows that the joining agent must have, by what they are.
    """
    late = [
        f"{rows[what] - progress.joining.get(what, 0):,} {what} on the way to the join"
        for what in rows
        if progress.joining.get(what, 0) < rows[what]
    ]
    busy = [f"{agent} performs {count}" for agent, count in progress.performing.items() if count]
    behind = [
        f"{agent} has {arrived.get(topic, 0) - progress.applied.get((agent, topic), 0):+,} records of {topic}"
        for agent, names in reads.items()
        for topic in names
        if progress.applied.get((agent, topic), 0) != arrived.get(topic, 0)
    ]
    return [*late, *busy, *behind]


class Tail:
    """Reads topics as they grow: counts records, and hands on the events among them as plain JSON objects."""

    def __init__(self, kafka: KafkaSettings, wanted: Collection[topics.Topic]) -> None:
        self.arrived: Counter[str] = Counter()
        """Records by topic, without repetitions."""
        self._seen: dict[tuple[str, int, bytes], int] = {}
        self._reader = TopicReader(kafka, wanted)

    def read(self, seconds: float) -> list[dict[str, Any]]:
        """Count what arrives within `seconds`; returns the events, oldest first of each topic."""
        found: list[dict[str, Any]] = []
        for topic, message in self._reader.poll(seconds):
            headers = dict(message.headers() or ())
            if self._again(topic.name, message.partition() or 0, headers):
                continue
            self.arrived[topic.name] += 1
            if topic in topics.EVENTS:
                found.append(orjson.loads(message.value() or b"{}"))
        return found

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def _again(self, topic: str, partition: int, headers: Mapping[str, Any]) -> bool:
        """Whether an agent published the record before, and the readers leave it out."""
        source, seq = headers.get("source"), headers.get("seq")
        if source is None or seq is None:
            return False
        key, number = (topic, partition, bytes(source)), int(seq)
        if number <= self._seen.get(key, 0):
            return True
        self._seen[key] = number
        return False


class Rest:
    """Waits for rest; hands every event that arrives meanwhile to `note`."""

    def __init__(self, settings: Settings, model: str, note: Callable[[dict[str, Any]], None]) -> None:
        built = {name: build(settings) for name, build in agents.AGENTS.items()}
        self._reads: Reads = {name: [topic.name for topic in agent.topics] for name, agent in built.items()}
        wanted = dict.fromkeys(topic for agent in built.values() for topic in agent.topics)
        self._tail = Tail(
            settings.kafka, [*wanted, *(topic for topic in topics.EVENTS if topic not in wanted)]
        )
        self._url = f"http://{settings.metrics.host}:{settings.metrics.port}/metrics"
        self._http = httpx.Client(timeout=30.0)
        self._model, self._note = model, note
        self.late = 0
        """Waits that ended without rest."""
        self.reasons: list[str] = []
        """What was outstanding when the last of those ended."""

    def wait(self, rows: Mapping[str, int], seconds: float = REST_SECONDS) -> bool:
        """Return once the system is at rest, after `seconds` at the latest; returns whether it is."""
        deadline, calm, reasons = time.monotonic() + seconds, 0, ["nothing was looked at"]
        while calm < 2 and time.monotonic() < deadline:
            progress = self._scrape()
            before = self._tail.arrived.total()
            self.read(POLL_SECONDS)
            reasons = outstanding(self._reads, progress, self._tail.arrived, rows)
            calm = 0 if reasons else calm + 1 if self._tail.arrived.total() == before else 1
        if calm < 2:
            self.late, self.reasons = self.late + 1, reasons
        return calm == 2

    def read(self, seconds: float) -> None:
        """Hand on the events that arrive within `seconds`."""
        for event in self._tail.read(seconds):
            self._note(event)

    def close(self) -> None:
        """Close the connections."""
        self._tail.close()
        self._http.close()

    def _scrape(self) -> Progress:
        return Progress.of(self._http.get(self._url, params=_NAMES).text, self._model)


def _samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    r"""Samples of a metrics page whose labels have no quotes and commas in them.

    >>> list(_samples('# HELP a\na{x="1",y="2"} 3.0\n'))
    [('a', {'x': '1', 'y': '2'}, 3.0)]
    """
    for line in page.splitlines():
        if line.startswith("#") or "{" not in line:
            continue
        name, _, rest = line.partition("{")
        inside, _, value = rest.rpartition("}")
        pairs = (pair.partition("=") for pair in inside.split(",") if pair)
        yield name, {label: quoted.strip('"') for label, _, quoted in pairs}, float(value)

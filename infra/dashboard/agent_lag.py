"""Whether the agents keep up: a thread compares their committed offsets with the ends of their topics."""

import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from driftloop.infra.dashboard.event_lines import Tone
from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams.backlog import ANSWER_SECONDS, FETCH_SECONDS, Backlog, BacklogMonitor
from driftloop.streams.processing.lag import format_duration

log = logging.getLogger(__name__)

LOOK_SECONDS = 3.0
"""Between two looks: ten small requests, a few ms of CPU."""


@dataclass(frozen=True)
class Pace:
    """How far the agents are behind, in a sentence for the page."""

    sentence: str
    tone: Tone

    @classmethod
    def of(cls, backlogs: Sequence[Backlog], limit: float) -> "Pace":
        """Names the agent that is most behind; a warning beyond `limit` seconds (`kafka.max_lag_seconds`).

        >>> Pace.of([Backlog("drift", 0, 0.0, None)], 300).sentence
        'agents keep up'
        >>> Pace.of([Backlog("drift", 12_300, 40.0, 39_000_000_000)], 30)
        Pace(sentence='drift is 40 s behind (12,300 records, 451.4 days of data)', tone='warn')
        """
        if not backlogs:
            return cls("", "plain")
        worst = max(backlogs, key=lambda one: (one.seconds, one.records))
        if not worst.records:
            return cls("agents keep up", "good")
        data = "" if not worst.data_ms else f", {format_duration(worst.data_ms / 1000)} of data"
        others = sum(one.records > 0 for one in backlogs) - 1
        more = f"; {others} more behind" if others else ""
        behind = format_duration(worst.seconds)
        sentence = f"{worst.agent} is {behind} behind ({worst.records:,} records{data}){more}"
        return cls(sentence, "warn" if worst.seconds > limit else "plain")


class Agents(Collector):
    """Looks every `LOOK_SECONDS`; `start` it. Prometheus reads the newest look."""

    def __init__(self, kafka: KafkaSettings, names: Collection[str]) -> None:
        self._kafka = kafka
        self._names = names
        self._backlogs: Sequence[Backlog] = ()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard-agents", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more, and let go of the connection."""
        self._stopping.set()
        self._thread.join(2 * ANSWER_SECONDS + 2 * FETCH_SECONDS + 1)

    @property
    def pace(self) -> Pace:
        """As of the newest look; empty as long as Kafka can't say."""
        return Pace.of(self._backlogs, self._kafka.max_lag_seconds)

    def collect(self) -> Iterable[Metric]:
        """The newest look as metrics of each agent."""
        return families(self._backlogs)

    def _run(self) -> None:
        backlogs = BacklogMonitor(self._kafka, self._names)
        try:
            while not self._stopping.is_set():
                try:
                    self._backlogs = backlogs.measure()
                except Unavailable as error:
                    log.info("no offsets of the agents", extra={"error": str(error)})
                    self._backlogs = ()
                self._stopping.wait(LOOK_SECONDS)
        finally:
            backlogs.close()


def families(backlogs: Sequence[Backlog]) -> Iterator[Metric]:
    """One sample an agent."""
    spans = {one.agent: one.data_ms / 1000 for one in backlogs if one.data_ms is not None}
    figures: Sequence[tuple[str, str, Mapping[str, float]]] = (
        ("driftloop_lag_records", "Records that wait for the agent", {b.agent: b.records for b in backlogs}),
        ("driftloop_lag_seconds", "Age of the oldest of them", {b.agent: b.seconds for b in backlogs}),
        ("driftloop_lag_data_seconds", "The same in the time of the data, where known", spans),
    )
    for name, says, samples in figures:
        family = GaugeMetricFamily(name, says, labels=["agent"])
        for agent, value in samples.items():
            family.add_metric([agent], value)
        yield family

"""Replays one stream through the whole system, block by block, each when the system is at rest.

A block is predicted over HTTP in requests of many rows, then the labels that are due are published. Each row
has an entity of its own, so that a canary's share of traffic is a share of rows.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson

from benchmarks.loop_quality.data import Stream
from benchmarks.loop_quality.facts import Facts
from benchmarks.loop_quality.rest import Rest
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.infra.adapters.readers import reader_for
from driftloop.infra.facade import MLOpsPipeline
from driftloop.infra.processes.child import free_port
from driftloop.infra.processes.stack import Stack
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.errors import Unavailable
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.schemas.configs import DataConfig, DeploymentConfig, ModelConfig
from driftloop.schemas.records import LabelBatch
from driftloop.schemas.settings import PerformanceSettings, RolloutSettings
from driftloop.streams.producer.publisher import Publisher

IN_FLIGHT = 3
"""Requests at the same time."""
TIMEOUT = 60.0
TRIES = 3
"""Attempts at a request before its rows count as failed."""
TRAFFIC_SECONDS = 3.0
"""Longest wait for a measurement of traffic while a rollout is open."""
Groups = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """How a stream is replayed."""

    folder: Path
    """Where the system's files and logs lie; emptied first."""
    strategy: str = "champion"
    broker: str = "embedded"
    seed: int = 0
    request_rows: int = 100
    """Rows of one request."""
    partitions: int = 1
    """Of each topic. The agents are one process either way; with 4, a block costs twice as much."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Changes to the default settings, by group."""


@dataclass
class Replayed:
    """What came of a replay."""

    stream: Stream
    strategy: str
    first: Fitted
    """The first model."""
    scores: Floats
    """As served, shape (rows,); NaN in the warm rows and where a request failed."""
    facts: Facts
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by activity: start, predict, label, rest, traffic."""
    rests: list[float] = field(default_factory=list)
    """Wall seconds until the system was at rest, block by block."""
    restless: int = 0
    """Blocks after which the system didn't come to rest in time."""
    reasons: Sequence[str] = ()
    """What was outstanding at the last of those."""

    @property
    def blocks(self) -> int:
        """Blocks that were replayed."""
        return len(self.rests)

    @property
    def unanswered(self) -> int:
        """Rows that got no answer."""
        return int(np.isnan(self.scores[self.stream.warm :]).sum())


def groups(stream: Stream, options: Options) -> Groups:
    """Settings of the system: the defaults, but for what the data and this machine ask for.

    Labels come days late, so predictions wait twice as long as the data needs. A warm training process and
    few partitions save seconds, and change no decision.

    Raises:
        Unavailable: a strategy that this version doesn't know.
    """
    horizon = max(PerformanceSettings().horizon_hours, 2 * stream.delay_hours)
    found: Groups = {
        "performance": {"horizon_hours": horizon},
        "training": {"warm": True},
        "serving": {"report_seconds": 0.1},
        "metrics": {"port": free_port()},
        "kafka": {"data_partitions": options.partitions, "control_partitions": options.partitions},
    }
    if "strategy" in RolloutSettings.model_fields:
        found["rollout"] = {"strategy": options.strategy}
    elif options.strategy != "champion":
        raise Unavailable(f"rollout.strategy {options.strategy!r}: this version has no such setting")
    for name, group in options.settings.items():
        found[name] = {**found.get(name, {}), **group}
    return found


def replay(
    stream: Stream, options: Options, say: Callable[[str], None], show: Callable[[int, Facts], None]
) -> Replayed:
    """The whole stream through a system of its own. `show` is called with the rows asked so far."""
    began = time.monotonic()
    shutil.rmtree(options.folder, ignore_errors=True)
    broker = None if options.broker == "external" else options.broker
    with ExitStack() as closing:
        stack = closing.enter_context(Stack.start(options.folder, broker, groups=groups(stream, options)))
        say(f"{stream.name}: the page is at {stack.page}, logs in {options.folder / 'logs'}")
        facts = Facts()
        rest = Rest(stack.settings, stream.name, facts.note)
        closing.callback(rest.close)
        asyncio.run(_first_model(stack, stream))
        first = reader_for(stack.settings.registry.tracking_uri).fitted(stream.name, "1")
        run = _Run(stack, stream, options, rest, facts)
        closing.callback(run.close)
        result = Replayed(stream, options.strategy, first, run.scores, facts, run.seconds)
        run.seconds["start"] = time.monotonic() - began
        for asked in range(stream.warm, len(stream), stream.block):
            before = run.seconds["rest"]
            run.block(asked, min(asked + stream.block, len(stream)))
            result.rests.append(run.seconds["rest"] - before)
            show(min(asked + stream.block, len(stream)), facts)
        result.restless, result.reasons = rest.late, rest.reasons
        return result


async def _first_model(stack: Stack, stream: Stream) -> None:
    """Train on the warm rows, the way a user would, and deploy."""
    store = ParquetStore(stack.settings.store.folder)
    store.append(stream.name, "history", stream.rows(0, stream.warm))
    mlops = MLOpsPipeline(stack.settings)
    task = "regression" if stream.task is Task.REGRESSION else "binary"
    trained = await mlops.train_model(ModelConfig(name=stream.name, task=task), DataConfig())
    assert trained.model_id is not None  # without a champion, the gate lets everything sound through
    deployed = await mlops.deploy_model(trained.model_id, DeploymentConfig())
    if deployed.status != "success":
        raise Unavailable(f"the first model was not deployed: {'; '.join(deployed.errors)}")


class _Run:
    """The client of one replay."""

    def __init__(self, stack: Stack, stream: Stream, options: Options, rest: Rest, facts: Facts) -> None:
        self._stream, self._options, self._rest, self._facts = stream, options, rest, facts
        self._url = f"{stack.settings.serving.url}/predict"
        self._http = httpx.Client(timeout=TIMEOUT)
        self._threads = ThreadPoolExecutor(IN_FLIGHT)
        self._publisher = Publisher(stack.settings.kafka)
        self._columns = {name: _plain(column) for name, column in stream.features.items()}
        self.scores = np.full(len(stream), np.nan)
        self.seconds = dict.fromkeys(("start", "predict", "label", "rest", "traffic"), 0.0)
        self._labelled = stream.warm

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown()
        self._publisher.close()
        self._http.close()

    def block(self, first: int, last: int) -> None:
        """Predict rows `first` to `last - 1`, publish the labels that are due, and wait for rest."""
        self._time("predict", lambda: self._predict(first, last))
        answered = time.time()
        self._time("label", lambda: self._label(self._stream.labels_known(last)))
        self._time("rest", lambda: self._rest.wait(self._rows()))
        self._time("traffic", lambda: self._wait_for_verdict(answered))

    def _rows(self) -> Mapping[str, int]:
        """Rows that the joining agent must have."""
        answered = int(np.isfinite(self.scores).sum())
        return {"predictions": answered, "labels": self._labelled - self._stream.warm}

    def _wait_for_verdict(self, answered: float) -> None:
        """While a rollout is open, wait until the block's requests have been measured and judged."""
        until = self._facts.traffic_until
        if until is None or not self._facts.rollouts or until >= answered:
            return
        deadline = time.monotonic() + TRAFFIC_SECONDS
        while (self._facts.traffic_until or 0.0) < answered and time.monotonic() < deadline:
            self._rest.read(0.05)
        self._rest.wait(self._rows())

    def _predict(self, first: int, last: int) -> None:
        starts = range(first, last, self._options.request_rows)
        list(self._threads.map(lambda at: self._ask(at, min(at + self._options.request_rows, last)), starts))

    def _ask(self, first: int, last: int) -> None:
        body = orjson.dumps(
            {"model": self._stream.name, "rows": [self._row(row) for row in range(first, last)]}
        )
        for _ in range(TRIES):
            try:
                answer = self._http.post(self._url, content=body).raise_for_status()
            except httpx.HTTPError:
                continue
            predictions = orjson.loads(answer.content)["predictions"]
            self.scores[first:last] = [prediction["score"] for prediction in predictions]
            return

    def _row(self, row: int) -> dict[str, object]:
        return {
            "id": f"{self._stream.name}-{row}",
            "entity": f"{self._options.seed}-{row}",
            "at": int(self._stream.at[row]),
            "features": {name: column[row] for name, column in self._columns.items()},
        }

    def _label(self, until: int) -> None:
        """Publish the labels of the rows before `until` that have none yet."""
        rows = range(self._labelled, until)
        if not rows:
            return
        known_at = self._stream.at[[row + self._stream.delay for row in rows]]
        self._publisher.publish_batch(
            LabelBatch(
                model=self._stream.name,
                ids=[f"{self._stream.name}-{row}" for row in rows],
                at=known_at.tolist(),
                labels=self._stream.labels[self._labelled : until].tolist(),
            )
        )
        self._publisher.flush()
        self._labelled = until

    def _time(self, what: str, act: Callable[[], object]) -> None:
        began = time.monotonic()
        act()
        self.seconds[what] += time.monotonic() - began


def _plain(column: "np.ndarray[Any, np.dtype[Any]]") -> list[Any]:
    """As JSON has it: missing is None."""
    return [None if value != value else value for value in column.tolist()]

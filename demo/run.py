"""`driftloop demo`: replays a year of flights, prints events meanwhile and a table at the end."""

import asyncio
import shutil
import signal
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from driftloop.demo import flights as data
from driftloop.demo import sabotage, summary
from driftloop.demo.client import Replay
from driftloop.demo.flights import Flights
from driftloop.demo.narrative import Narrative, Terminal
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.infra.adapters.readers import reader_for
from driftloop.infra.cli import console, lineage
from driftloop.infra.facade import MLOpsPipeline
from driftloop.infra.processes.stack import Stack
from driftloop.mlops_core.data.examples import backfill
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer
from driftloop.schemas.configs import DataConfig, DeploymentConfig, ModelConfig
from driftloop.streams.producer.publisher import Publisher

MODEL = "flights"
JANUARY_MS = 31 * 24 * 3600 * 1000
FAST_STRIDE = 5
"""Every fifth flight: the same year, in two to three minutes."""
STEP_ROWS = 300
SPEED = 2_000
"""Flights a second: two days of the year, eleven where every fifth flight is replayed."""
SLOW = 0.1
"""Share of the speed while a challenger is trained or started: that takes seconds, which are weeks here."""
MOST_BEHIND = 4_000
"""Labels that may wait for the agents before the replay waits for them."""
SETTLE_SECONDS = 60.0


def _settings(fast: bool) -> Mapping[str, Mapping[str, Any]]:
    """The loop's own clock is the calendar's, and days pass in a second, so its settings are weeks.

    Where only every fifth flight is replayed, there are labels for a training less often.
    """
    return {
        "retraining": {
            "min_new_labels": 3000,
            "windows": (40_000,) if fast else (20_000, 60_000),
        },
        "rollout": {"min_requests": 100},
        "store": {"segment_rows": 500, "segment_hours": 72},
        "performance": {"horizon_hours": 48, "window_labels": 250},
        "training": {
            "warm": True,
            "trainers": {"sabotaged": "driftloop.demo.sabotage:SwappedTrainer"},
            "algorithm": "sabotaged",
            "holdout": 0.06 if fast else 0.1,
        },
    }


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    fast: bool
    sabotage: bool
    speed: int
    broker: str
    folder: Path
    keep: bool


def main(**options: object) -> int:
    """Run the demo; the exit code: 0 where the loop closed, 1 where a result is missing, 130 after Ctrl-C."""
    chosen = Options(**options)  # type: ignore[arg-type]  # typer has checked them
    terminal = Terminal()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job would ignore the first
        signal.signal(number, signal.default_int_handler)
    try:
        with console.errors():
            return _run(chosen, terminal)
    except KeyboardInterrupt:
        terminal.say("interrupted; everything is stopped")
        return 130


def _run(options: Options, terminal: Terminal) -> int:
    began = time.monotonic()
    shutil.rmtree(options.folder, ignore_errors=True)
    terminal.say("driftloop demo: will this flight be more than 15 minutes late? (NYC flights of 2013)")
    broker = None if options.broker == "external" else options.broker
    with ThreadPoolExecutor(1) as beside:
        loading = beside.submit(data.load)
        with Stack.start(options.folder, broker, say=terminal.say, groups=_settings(options.fast)) as stack:
            year = loading.result()
            january = int(np.searchsorted(year.at, year.at[0] + JANUARY_MS))
            with Narrative(
                stack.settings, terminal, _write_settings(stack) if options.sabotage else None
            ) as narrative:
                asyncio.run(_first_model(stack, year[:january], terminal))
                stream = year[january:][:: FAST_STRIDE if options.fast else 1]
                replay = asyncio.run(_replay(stack, stream, options, narrative))
                joined = _wait_until_idle(stack, replay, narrative)
            static = _static_scores(stack, stream)
            timing = (replay.seconds, time.monotonic() - began)
            result = summary.of(replay, static, narrative.facts(), joined, timing, options.sabotage)
            for line in result.lines():
                terminal.say(line)
            for line in lineage.lines(stack.settings.kafka, None):
                terminal.say(line)
            if options.keep:
                terminal.say(f"The page stays up at {stack.page}; Ctrl-C ends it.")
                console.until_interrupted()
            return result.exit_code


def _write_settings(stack: Stack) -> Path:
    return stack.settings.store.folder / sabotage.ARMED


async def _first_model(stack: Stack, january: Flights, terminal: Terminal) -> None:
    """Train on January and deploy, through the facade."""
    known = january[~np.isnan(january.late)]
    history = backfill(list(known.ids), list(known.landed_at), list(known.late), known.features)
    ParquetStore(stack.settings.store.folder).append(MODEL, "january", history)
    mlops = MLOpsPipeline(stack.settings)
    model = ModelConfig(name=MODEL, hyperparameters={"max_depth": 6, "eta": 0.1})
    trained = await mlops.train_model(model, DataConfig())
    terminal.say(f"trained on January: {trained.model_id}, AUC {trained.metrics['auc']:.3f} on its last days")
    assert trained.model_id is not None  # without a champion, the gate lets everything sound through
    deployed = await mlops.deploy_model(trained.model_id, DeploymentConfig())
    terminal.say(f"deployed: {', '.join(deployed.endpoints) or deployed.errors}")


async def _replay(stack: Stack, stream: Flights, options: Options, narrative: Narrative) -> Replay:
    """Request predictions and publish labels, at most at `speed`, and never far ahead of the agents."""
    began = time.monotonic()
    speed = options.speed or SPEED
    with Publisher(stack.settings.kafka) as publisher:
        replay = Replay(MODEL, stream, stack.settings.serving.url, publisher)
        async with httpx.AsyncClient() as client:
            while replay.asked < len(stream):
                due = time.monotonic() + STEP_ROWS / (speed * (SLOW if narrative.training else 1.0))
                await replay.send(client, STEP_ROWS)
                narrative.progress(replay.asked, len(stream), replay.now, time.monotonic() - began)
                while replay.labelled - narrative.labelled > MOST_BEHIND:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(max(due - time.monotonic(), 0))
        replay.land_everybody()
        replay.seconds = time.monotonic() - began
    return replay


def _wait_until_idle(stack: Stack, replay: Replay, narrative: Narrative) -> set[str]:
    """Wait until every label was joined and no training or rollout is in progress; returns the joined ids."""
    deadline = time.monotonic() + SETTLE_SECONDS
    joined = summary.joined_ids(stack.settings.kafka, replay.labelled_ids, SETTLE_SECONDS)
    while not narrative.is_idle and time.monotonic() < deadline:
        time.sleep(0.2)
    return joined


def _static_scores(stack: Stack, stream: Flights) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Scores of the January model on the whole stream."""
    first = reader_for(stack.settings.registry.tracking_uri).fitted(MODEL, "1")
    return XGBoostScorer(first)(stream.features, len(stream))

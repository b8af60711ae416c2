"""Builds each agent with its adapters, and runs agents in this process."""

import asyncio
import gc
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

from driftloop.infra.cli import console
from driftloop.mlops_core.errors import Conflict
from driftloop.schemas.settings import Settings
from driftloop.streams.processing.agent import Agent

GARBAGE_AFTER = 50_000
"""New objects after which Python's garbage collector runs. Fetched records are no garbage: with the default
of 700, collecting over 27,000 of them took 6 to 10 of the 26 us that a single event costs."""


def _summarising(settings: Settings) -> Agent[Any]:
    from driftloop.agents.drift_aggregation import DriftAggregationAgent
    from driftloop.infra.adapters.readers import reader_for

    return DriftAggregationAgent(reader_for(settings.registry.tracking_uri))


def _drift(settings: Settings) -> Agent[Any]:
    from driftloop.agents.drift import DriftAgent
    from driftloop.infra.adapters.readers import reader_for
    from driftloop.infra.wiring import plugins

    reader = reader_for(settings.registry.tracking_uri)
    return DriftAgent(reader, settings.drift, plugins.detector_factory(settings.drift))


def _joining(settings: Settings) -> Agent[Any]:
    from driftloop.agents.joining import JoiningAgent
    from driftloop.infra.adapters.readers import reader_for

    return JoiningAgent(reader_for(settings.registry.tracking_uri), settings.performance)


def _storing(settings: Settings) -> Agent[Any]:
    from driftloop.agents.storing import StoringAgent
    from driftloop.infra.adapters.parquet.store import ParquetStore

    return StoringAgent(ParquetStore(settings.store.folder, settings.store), settings.store)


def _performance(settings: Settings) -> Agent[Any]:
    from driftloop.agents.performance import PerformanceAgent
    from driftloop.infra.adapters.readers import reader_for

    return PerformanceAgent(reader_for(settings.registry.tracking_uri), settings.performance)


def _scoring(settings: Settings) -> Agent[Any]:
    from driftloop.agents.scoring import ScoringAgent
    from driftloop.infra.adapters.readers import reader_for
    from driftloop.infra.wiring.trainers import scorer_loader

    return ScoringAgent(reader_for(settings.registry.tracking_uri), scorer_loader(settings.training))


def _selection(settings: Settings) -> Agent[Any]:
    from driftloop.agents.selection import SelectionAgent

    return SelectionAgent(settings.rollout)


def _retraining(settings: Settings) -> Agent[Any]:
    from driftloop.agents.retraining import RetrainingAgent

    return RetrainingAgent(settings.retraining)


def _training(settings: Settings) -> Agent[Any]:
    from driftloop.agents.training import TrainingAgent
    from driftloop.infra.processes.training import ProcessRunner
    from driftloop.infra.wiring import trainers

    trainers.check(settings.training)
    return TrainingAgent(ProcessRunner(settings))


def _deployment(settings: Settings) -> Agent[Any]:
    from driftloop.agents.deployment import DeploymentAgent
    from driftloop.infra.adapters.mlflow.registry import MLflowRegistry
    from driftloop.infra.adapters.readers import reader_for
    from driftloop.infra.wiring import plugins

    uri = settings.registry.tracking_uri
    target = plugins.target(settings)
    return DeploymentAgent(target, reader_for(uri), MLflowRegistry(uri), settings.rollout)


def _alerting(_: Settings) -> Agent[Any]:
    from driftloop.agents.alerting import AlertingAgent

    return AlertingAgent()


AGENTS: Mapping[str, Callable[[Settings], Agent[Any]]] = {
    "summarising": _summarising,
    "drift": _drift,
    "joining": _joining,
    "storing": _storing,
    "performance": _performance,
    "scoring": _scoring,
    "selection": _selection,
    "retraining": _retraining,
    "training": _training,
    "deployment": _deployment,
    "alerting": _alerting,
}
"""Name for `driftloop agents run` -> function that builds the agent."""


def run_agents(settings: Settings, names: Sequence[str]) -> None:
    """Run the named agents in this process until SIGINT or SIGTERM.

    Raises:
        Conflict: no agent has that name, or one needs a detector, target or trainer that is not installed.
    """
    from driftloop.streams import admin, metrics
    from driftloop.streams.processing import app

    unknown = [name for name in names if name not in AGENTS]
    if unknown:
        raise Conflict(f"no agent is called {unknown[0]!r}; there are {', '.join(AGENTS)}")
    built = [AGENTS[name](settings) for name in names]  # fails for a missing plugin before Kafka is asked
    console.log_to_stderr()
    gc.set_threshold(GARBAGE_AFTER, *gc.get_threshold()[1:])
    if settings.metrics.port is not None:
        host = settings.metrics.host
        typer.echo(f"Metrics at http://{host}:{metrics.start_server(host, settings.metrics.port)}/metrics")
    admin.create_topics(settings.kafka)

    async def main() -> None:
        running = asyncio.current_task()
        assert running is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        await app.run_all([app.build_app(agent, settings.kafka, settings.publisher) for agent in built])

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        pass

"""Kafka, agents and what else is under test: each a process, all of them in one folder."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.mlflow.server import MLflowServer
from driftloop.infra.brokers.kafka import KafkaBroker
from driftloop.infra.processes.child import Child, free_port, python_command
from driftloop.mlops_core.data.examples import column
from driftloop.mlops_core.data.profile import Profile
from driftloop.schemas import topics
from driftloop.schemas.settings import (
    KafkaSettings,
    PerformanceSettings,
    RegistrySettings,
    RetrainingSettings,
    RolloutSettings,
    ServingSettings,
    Settings,
    StoreSettings,
    TrainingSettings,
)
from driftloop.streams import admin
from driftloop.streams.topic_reader import TopicReader
from tests.support import serving_processes as rig
from tests.support.chaos.accounts import Accounts, Once
from tests.support.chaos.load import features_of
from tests.support.chaos.reaper import Supervisor, log_of

MODELS = ("churn", "fraud")
ROWS, VERSIONS = ("joining", "storing", "summarising"), ("performance", "drift")
WORKERS = {"rows-1": ROWS, "rows-2": ROWS, "models-1": VERSIONS, "models-2": VERSIONS}
"""Processes of agents, as a user would start them: two for each share of the work."""
HISTORY_ROWS = 1_261 * 2
"""Whole periods of the load's features."""


def history(rows: int) -> dict[str, NDArray[Any]]:
    """Features as the load has them, columns of shape (rows,)."""
    made = [features_of(n) for n in range(rows)]
    return {name: column([row[name] for row in made]) for name in made[0]}


@dataclass
class System:
    """Kafka and agents under a supervisor, all of it in one folder."""

    folder: Path
    settings: Settings
    supervisor: Supervisor = field(default_factory=Supervisor)

    def start_kafka(self) -> None:
        """On the folder and port that it had before, if it had."""
        port = int(self.settings.kafka.bootstrap.split(":")[1])
        self.supervisor.watch("kafka", lambda: KafkaBroker.start(self.folder / "kafka", port))
        admin.create_topics(self.settings.kafka)

    def start_agents(self, name: str, agents: tuple[str, ...]) -> None:
        """`driftloop agents run <agents>`."""
        self.supervisor.watch(name, lambda: self.run(name, "agents", "run", *agents))

    def start_serving(self) -> None:
        """`driftloop serve`."""
        self.supervisor.watch("serving", lambda: self.run("serving", "serve"))

    def run(self, name: str, *command: str) -> Child:
        """`driftloop <command>` with this system's settings."""
        written = self.folder / "settings.json"
        written.write_text(self.settings.model_dump_json())
        return Child.start(
            name,
            python_command("driftloop.infra.cli.app", "--settings", str(written), *command),
            log=log_of(self.folder, name),
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    @contextmanager
    def accounts(self) -> Iterator[Accounts]:
        """Of the topics, from their beginning."""
        wanted = [topics.PREDICTIONS, topics.LABELS, topics.OUTCOMES, topics.EXAMPLES]
        wanted += [topics.SUMMARIES, topics.METRICS, topics.DEAD_LETTERS]
        with TopicReader(self.settings.kafka, wanted) as reader:
            yield Accounts(Once(reader))


@pytest.fixture
def system(needs_kafka: None, tmp_path: Path) -> Iterator[System]:
    """Kafka is up; models lie in a folder; whatever a test starts ends with it."""
    profile = Profile.of(history(HISTORY_ROWS), np.full(HISTORY_ROWS, 0.5))
    for model in MODELS:
        folder_reader.save(tmp_path / "models", model, "1", rig.fitted(), profile)
    with _running(_settings(tmp_path, (tmp_path / "models").as_uri())) as built:
        yield built


@pytest.fixture
def whole_system(needs_kafka: None, mlflow_server: MLflowServer, tmp_path: Path) -> Iterator[System]:
    """The same with a registry, so that models are trained and served."""
    whole = {
        "serving": ServingSettings(port=free_port(), folder=tmp_path / "serving"),
        "rollout": RolloutSettings(steps=(20, 50), min_labels=40, min_requests=40, evidence="canary"),
        "retraining": RetrainingSettings(cooldown_hours=1e6),
        "training": TrainingSettings(rounds=10, margin=1.0),  # the gate lets everything sound through
    }
    with _running(_settings(tmp_path, mlflow_server.uri).model_copy(update=whole)) as built:
        yield built


def _settings(folder: Path, registry: str) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"),
        performance=PerformanceSettings(horizon_hours=3, window_labels=50),
        registry=RegistrySettings(tracking_uri=registry),
        store=StoreSettings(folder=folder / "store", segment_rows=300),
    )


@contextmanager
def _running(settings: Settings) -> Iterator[System]:
    built = System(settings.store.folder.parent, settings)
    try:
        built.start_kafka()
        yield built
    finally:
        built.supervisor.stop()

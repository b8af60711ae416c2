"""Kafka, agents and what else is under test: each a process, all of them in one folder."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from infra.adapters import folder_reader
from infra.brokers.kafka import KafkaBroker
from infra.processes import Child, free_port
from mlops_core.data.profile import Profile
from schemas.settings import KafkaSettings, PerformanceSettings, RegistrySettings, Settings, StoreSettings
from streams import admin, topics
from streams.reading import Reader
from tests import serving_rig as rig
from tests.chaos.accounts import Accounts, Once
from tests.chaos.reaper import Supervisor, log_of

MODELS = ("churn", "fraud")


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

    def run(self, name: str, *command: str) -> Child:
        """`driftloop <command>` with this system's settings."""
        written = self.folder / "settings.json"
        written.write_text(self.settings.model_dump_json())
        return Child.start(
            name,
            [sys.executable, "-m", "infra.cli", "--settings", str(written), *command],
            log=log_of(self.folder, name),
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    @contextmanager
    def accounts(self) -> Iterator[Accounts]:
        """Of the topics, from their beginning."""
        wanted = [topics.PREDICTIONS, topics.LABELS, topics.OUTCOMES, topics.EXAMPLES]
        wanted += [topics.SUMMARIES, topics.METRICS, topics.DEAD_LETTERS]
        with Reader(self.settings.kafka, wanted) as reader:
            yield Accounts(Once(reader))


@pytest.fixture
def system(needs_kafka: None, tmp_path: Path) -> Iterator[System]:
    profile = Profile.of(
        {"n": np.arange(970.0) % 97, "share": np.arange(970) % 13 / 13, "parity": ["odd", "even"] * 485},
        np.full(970, 0.5),
    )
    for model in MODELS:
        folder_reader.save(tmp_path / "models", model, "1", rig.fitted(), profile)
    settings = Settings(
        kafka=KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"),
        performance=PerformanceSettings(horizon_hours=3, window_labels=50),
        registry=RegistrySettings(tracking_uri=(tmp_path / "models").as_uri()),
        store=StoreSettings(folder=tmp_path / "store", segment_rows=300),
    )
    built = System(tmp_path, settings)
    try:
        built.start_kafka()
        yield built
    finally:
        built.supervisor.stop()

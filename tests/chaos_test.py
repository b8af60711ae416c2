"""Nothing is lost: kill -9 of whoever it hits, at random moments, under load, on Apache Kafka."""

import os
import sys
import threading
from collections.abc import Iterator
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
from streams.publisher import Publisher
from streams.reading import Reader
from tests import serving_rig as rig
from tests.chaos.accounts import Accounts, Once, complaints
from tests.chaos.load import Load
from tests.chaos.reaper import Reaper, Supervisor, log_of

MODELS = ("churn", "fraud")
WORKERS = {
    "rows-1": ("joining", "storing", "summarising"),
    "rows-2": ("joining", "storing", "summarising"),
    "models-1": ("performance", "drift"),
    "models-2": ("performance", "drift"),
}
"""Processes of agents, as a user would start them: two for each share of the work."""
PATIENCE = 45.0
"""Seconds without any news after which what is missing is lost: thrice a worker's start and rebalance."""


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

    def accounts(self) -> Accounts:
        """Of the topics as they are from now on."""
        wanted = [topics.PREDICTIONS, topics.LABELS, topics.OUTCOMES, topics.EXAMPLES]
        wanted += [topics.SUMMARIES, topics.METRICS, topics.DEAD_LETTERS]
        return Accounts(Once(Reader(self.settings.kafka, wanted)))


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


def survive(system: System, load: Load, reaper: Reaper, kills: int) -> Accounts:
    """Publish and kill at the same time, `kills` times; then wait until everything has arrived."""
    accounts, calm = system.accounts(), threading.Event()
    failed: list[BaseException] = []

    def publish() -> None:
        try:
            load.run(calm.is_set)
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
            failed.append(error)

    publishing = threading.Thread(target=publish)
    publishing.start()
    try:
        while reaper.kills < kills and not failed:
            reaper.swing()
            system.supervisor.tend()
            accounts.read(0.05)
        system.supervisor.tell("calm")
    finally:
        calm.set()
        while publishing.is_alive():
            system.supervisor.tend()
            publishing.join(0.1)
    if failed:
        raise failed[0]
    tend = system.supervisor.tend
    accounts.drain(lambda: accounts.outcomes_of(load.ledgers) >= load.labels, PATIENCE, tend)
    system.supervisor.tell("drained")
    load.close(system.settings.kafka.data_partitions)
    accounts.drain(lambda: not _complaints(system, load, accounts), PATIENCE, tend)
    system.supervisor.tell("closed")
    return accounts


def _complaints(system: System, load: Load, accounts: Accounts) -> list[str]:
    accounts.stored(system.settings.store.folder, load.models)
    return complaints(load.ledgers, accounts, system.settings)


@pytest.mark.timeout(300)
def test_kills_of_agents_and_of_kafka_under_load_lose_no_id_and_count_none_twice(
    system: System, chaos_seed: int
) -> None:
    for name, agents in WORKERS.items():
        system.start_agents(name, agents)
    with Publisher(system.settings.kafka) as publisher:
        load = Load(publisher, chaos_seed, MODELS)
        reaper = Reaper(system.supervisor, [*WORKERS, "kafka"], chaos_seed, pauses=(2.0, 6.0))
        accounts = survive(system, load, reaper, kills=4)
    report = account_for(system, load, accounts, chaos_seed)
    assert not _complaints(system, load, accounts), report


def account_for(system: System, load: Load, accounts: Accounts, seed: int) -> str:
    """What happened, for whoever reads the failure; also printed."""
    published = sum(len(one.predicted) for one in load.ledgers.values())
    lines = [
        f"chaos seed {seed}: {published} predictions and {load.labels} labels of {len(load.models)} models, "
        f"{sum(one.twice for one in load.ledgers.values())} of them twice, "
        f"{sum(len(one.orphans) for one in load.ledgers.values())} orphans; "
        f"{accounts.once.repetitions} repetitions recognised; logs in {system.folder}",
        *_complaints(system, load, accounts),
        f"ended by themselves: {system.supervisor.own_deaths or 'nobody'}",
        *system.supervisor.story,
    ]
    report = "\n".join(lines)
    sys.stdout.write(report + "\n")
    return report

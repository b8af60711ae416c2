"""Nothing is lost: kill -9 of whoever it hits, at random moments, under load, on Apache Kafka."""

import pytest

from streams.publisher import Publisher
from tests.chaos import trial
from tests.chaos.load import Load
from tests.chaos.reaper import Reaper
from tests.chaos.system import MODELS, System

ROWS, VERSIONS = ("joining", "storing", "summarising"), ("performance", "drift")
WORKERS = {"rows-1": ROWS, "rows-2": ROWS, "models-1": VERSIONS, "models-2": VERSIONS}
"""Processes of agents, as a user would start them: two for each share of the work."""


@pytest.mark.timeout(300)
def test_kills_of_agents_and_of_kafka_under_load_lose_no_id_and_count_none_twice(
    system: System, chaos_seed: int
) -> None:
    for name, agents in WORKERS.items():
        system.start_agents(name, agents)
    with Publisher(system.settings.kafka) as publisher, system.accounts() as accounts:
        load = Load(publisher, chaos_seed, MODELS)
        agents_only = Reaper(system.supervisor, list(WORKERS), chaos_seed, pauses=(2.0, 6.0))
        trial.survive(system, load, accounts, agents_only, kills=3)
        trial.settle(system, load, accounts)
    told = trial.report(system, load, accounts, chaos_seed)
    assert not trial.wrong(system, load, accounts), told

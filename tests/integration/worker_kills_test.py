"""A few kill -9s of agents under load lose nothing; `make chaos` runs many, of every process."""

import pytest

from driftloop.streams.producer.publisher import Publisher
from tests.support.chaos import trial
from tests.support.chaos.load import Load
from tests.support.chaos.reaper import Reaper
from tests.support.chaos.system import MODELS, WORKERS, System


@pytest.mark.timeout(300)
def test_kills_of_agents_and_of_kafka_under_load_lose_no_id_and_count_none_twice(
    system: System, seed: int
) -> None:
    for name, agents in WORKERS.items():
        system.start_agents(name, agents)
    with Publisher(system.settings.kafka) as publisher, system.accounts() as accounts:
        load = Load(publisher, seed, MODELS)
        agents_only = Reaper(system.supervisor, list(WORKERS), seed, pauses=(2.0, 6.0))
        trial.survive(system, load, accounts, agents_only, kills=3)
        trial.settle(system, load, accounts)
    told = trial.report(system, load, accounts, seed)
    assert not trial.wrong(system, load, accounts), told

"""Nothing is lost: kill -9 of whoever it hits, at random moments, under load, on Apache Kafka."""

import sys
import time
import uuid
from collections.abc import Callable

import pytest

from driftloop.infra.adapters.mlflow.reader import MLflowReader
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.mlops_core.data.examples import backfill
from driftloop.mlops_core.lineage import Lineage
from driftloop.schemas.events import RetrainRequested, RolloutPromoted, RolloutRolledBack
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.topic_reader import TopicReader
from tests.support.chaos import accounts as accounts_of
from tests.support.chaos import loop, trial
from tests.support.chaos.accounts import Accounts
from tests.support.chaos.asking import Asking
from tests.support.chaos.load import BEGINNING, Load
from tests.support.chaos.reaper import CHILD, Reaper
from tests.support.chaos.system import HISTORY_ROWS, MODELS, WORKERS, System, history

LOOP = ("retraining", "training", "deployment", "alerting", "scoring", "selection")
SERVED = "served"
VICTIMS = (*WORKERS, "loop-1", "serving", "serving" + CHILD, "kafka")
REQUEST_EVERY = 4
"""Kills between two trainings that are asked for."""
END_SECONDS = 300.0
"""For what is open when the killing stops: a training, a rollout and its successor."""


@pytest.mark.timeout(1800)
def test_kills_of_anybody_while_models_are_trained_and_rolled_out_lose_nothing_and_repeat_nothing(
    whole_system: System, seed: int, chaos_kills: int
) -> None:
    system, models = whole_system, (*MODELS, SERVED)
    for name, agents in {**WORKERS, "loop-1": LOOP}.items():
        system.start_agents(name, agents)
    system.start_serving()
    with (
        Publisher(system.settings.kafka) as publisher,
        system.accounts() as accounts,
        TopicReader(system.settings.kafka) as events,
    ):
        known = Lineage()
        for model in models:
            remember(system, model)
            ask_for(publisher, model, "first")
        attend(system, accounts, events, known, lambda: len(known.of_kind(RolloutPromoted)) == len(models))
        assert len(known.of_kind(RolloutPromoted)) == len(models), f"no model is served; see {system.folder}"
        load = Load(publisher, seed, MODELS)
        asking = Asking(system.settings.serving.url, publisher, SERVED)
        reaper = Reaper(system.supervisor, VICTIMS, seed, pauses=(3.0, 12.0))
        with trial.meanwhile(system, asking.run) as failed:
            with trial.meanwhile(system, load.run, failed):
                while reaper.kills < chaos_kills and not failed:
                    if reaper.swing() and reaper.kills % REQUEST_EVERY == 1:
                        ask_for(publisher, SERVED, f"after-{reaper.kills}-kills")
                    attend(system, accounts, events, known, lambda: True)
                system.supervisor.tell("calm")
            attend(system, accounts, events, known, lambda: not loop.unfinished(known) or bool(failed))
            system.supervisor.tell("every rollout has ended, or never will")
        accounts.drain(lambda: False, 5.0, system.supervisor.tend)
        published = {id_ for model, id_ in accounts.places["predictions topic"] if model == SERVED}
        load.ledgers[SERVED] = asking.ledger(published)
        trial.settle(system, load, accounts)
        attend(system, accounts, events, known, lambda: events.caught_up)
    told = trial.report(system, load, accounts, seed)
    served = (
        f"{len(asking.answered)} rows answered, {len(load.ledgers[SERVED].orphans)} of them died with their "
        f"replica, {asking.unanswered} unanswered; {len(known.of_kind(RetrainRequested))} trainings, "
        f"{len(known.of_kind(RolloutPromoted))} promoted, {len(known.of_kind(RolloutRolledBack))} rolled back"
    )
    sys.stdout.write(served + "\n")
    registry = MLflowReader(system.settings.registry.tracking_uri)
    wrong = [*trial.wrong(system, load, accounts), *loop.complaints(known, registry, models)]
    assert not wrong, "\n".join([told, served, *wrong])


def remember(system: System, model: str) -> None:
    """What was there before: labelled rows of the same kind."""
    features = history(HISTORY_ROWS)
    ids = [f"old-{n}" for n in range(HISTORY_ROWS)]
    labels = [float(n % 2) for n in range(HISTORY_ROWS)]
    examples = backfill(ids, list(range(HISTORY_ROWS)), labels, features)
    ParquetStore(system.settings.store.folder).append(model, accounts_of.HISTORY, examples)


def ask_for(publisher: Publisher, model: str, why: str) -> None:
    """A training, as a person would ask for one."""
    id_ = f"{why}-{model}-{uuid.uuid4().hex[:8]}"
    rows = HISTORY_ROWS
    publisher.publish_event(
        RetrainRequested(id=id_, at=BEGINNING, model=model, reason=why, trigger="manual", rows=rows)
    )


def attend(
    system: System, accounts: Accounts, events: TopicReader, known: Lineage, done: Callable[[], bool]
) -> None:
    """Read and tend until `done()`, at most `END_SECONDS`; at least once."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        system.supervisor.tend()
        accounts.read(0.05)
        for event in events.events(0.05):
            known.add(event)
        if done() or time.monotonic() > deadline:
            return

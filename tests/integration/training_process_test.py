"""A training is a process of its own: it ends in events whatever happens to it, and harms nobody."""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from driftloop.infra.adapters.mlflow.reader import MLflowReader
from driftloop.infra.adapters.mlflow.registry import MLflowRegistry
from driftloop.infra.adapters.mlflow.server import MLflowServer
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.infra.processes.child import free_port
from driftloop.infra.processes.training import Job, ProcessRunner, train
from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.errors import Unavailable
from driftloop.mlops_core.ports import Candidate, Registered
from driftloop.schemas.events import (
    Event,
    ModelRegistered,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)
from driftloop.schemas.settings import Settings
from tests.support.toy_examples import HOUR, request, toy_examples

# Starting the server takes 20 s of a busy machine, a training 5.
pytestmark = pytest.mark.timeout(300)


Fields = dict[str, object]


def _training(fields: Fields) -> Fields:
    """Settings in which `trainer` takes the place of ours."""
    trainer = fields.pop("trainer", None)
    return fields if trainer is None else {**fields, "trainers": {"xgboost": trainer}}


class Bench:
    """An offline store and a registry for one model, and trainings on them."""

    def __init__(self, folder: Path, uri: str, model: str) -> None:
        self.folder, self.uri, self.model = folder, uri, model

    def store(self, examples: Examples, segment: str = "first") -> None:
        ParquetStore(self.folder).append(self.model, segment, examples)

    def runner(self, **training: object) -> ProcessRunner:
        return ProcessRunner(
            Settings.load(
                store={"folder": self.folder},
                registry={"tracking_uri": self.uri},
                training={"rounds": 10, "threads": 1, **_training(training)},
            )
        )

    async def train(self, **training: object) -> Sequence[Event]:
        """In a process of its own, as the agent does."""
        return await self.runner(**training).run(request(self.model))

    def train_here(self, name: str = "asked", asked: Fields | None = None, **training: object) -> list[Event]:
        """What that process does, in this one, where mlflow needs to be imported only once."""
        job = {
            "request": request(self.model, name).model_copy(update=asked),
            "store": self.folder,
            "tracking_uri": self.uri,
            "training": {"rounds": 10, "threads": 1, **_training(training)},
        }
        return train(Job.model_validate(job))


@pytest.fixture
def bench(mlflow_server: MLflowServer, tmp_path: Path, model_name: str) -> Bench:
    return Bench(tmp_path, mlflow_server.uri, model_name)


def error(events: Sequence[Event]) -> str:
    (event,) = events
    assert isinstance(event, TrainingFailed)
    return event.error


async def test_a_training_ends_with_a_registered_version(bench: Bench) -> None:
    bench.store(toy_examples())
    completed, registered = await bench.train()
    assert isinstance(completed, TrainingCompleted)
    assert isinstance(registered, ModelRegistered)
    assert completed.caused_by == request(bench.model).id
    assert registered.caused_by == completed.id
    assert completed.at == registered.at == request(bench.model).at
    assert (completed.version, registered.version) == ("1", "1")
    assert completed.rows == 1500
    assert completed.metrics["auc"] > 0.85
    assert completed.gate.sentence.startswith("passed without comparison: there is no champion")
    assert MLflowReader(bench.uri).version(bench.model, "1").aliases == ("challenger",)


def test_a_version_can_be_left_to_a_person_to_deploy(bench: Bench) -> None:
    bench.store(toy_examples())
    _, registered = bench.train_here(asked={"rollout": "manual"})
    assert isinstance(registered, ModelRegistered)
    assert registered.rollout == "manual"


async def test_the_same_request_again_gives_the_same_events_without_fitting(bench: Bench) -> None:
    bench.store(toy_examples())
    first = await bench.train()
    assert await bench.train(trainer="tests.support.toy_examples:Failing") == first


def test_a_challenger_that_is_surely_worse_is_refused_with_the_evidence(bench: Bench) -> None:
    bench.store(toy_examples())
    bench.train_here("first", rounds=100)
    MLflowRegistry(bench.uri).set_champion(bench.model, "1")
    bench.store(toy_examples(500, seed=1, first=1500), "second")
    (event,) = bench.train_here("second", rounds=1)
    assert isinstance(event, TrainingRefused)
    assert event.gate is not None
    assert event.gate.champion == "1"
    assert event.reason == event.gate.sentence
    assert len(MLflowReader(bench.uri).versions(bench.model)) == 1


WINDOWS: Fields = {"windows": (600, 2000, 9000), "rows": 9000, "since": 1150 * HOUR, "trigger": "concept"}
"""Of 1,500 rows: the newest 600, all of them, and the 350 since the change."""


def test_a_request_for_several_windows_leads_to_a_version_each(bench: Bench) -> None:
    bench.store(toy_examples())
    events = bench.train_here(asked=WINDOWS)
    ended = [one for one in events if isinstance(one, TrainingCompleted)]
    registered = [one for one in events if isinstance(one, ModelRegistered)]
    assert [(one.version, one.rows) for one in ended] == [("1", 600), ("2", 1500), ("3", 350)]
    assert [(one.version, one.caused_by) for one in registered] == [(one.version, one.id) for one in ended]
    assert len({one.id for one in events}) == 6
    assert bench.train_here(asked=WINDOWS, trainer="tests.support.toy_examples:Failing") == events


class Killed(BaseException):
    """What a process that is killed does: nothing more."""


@pytest.mark.parametrize("registrations", [0, 1, 2, 3])
@pytest.mark.parametrize("written", [False, True])
def test_a_training_killed_anywhere_registers_each_version_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, registrations: int, written: bool
) -> None:
    bench.store(toy_examples())
    register, count = MLflowRegistry.register, 0

    def dies(registry: MLflowRegistry, candidate: Candidate) -> Registered:
        nonlocal count
        count += 1
        if count <= registrations:
            return register(registry, candidate)
        if written:
            register(registry, candidate)
        raise Killed

    monkeypatch.setattr(MLflowRegistry, "register", dies)
    with contextlib.suppress(Killed):
        bench.train_here(asked=WINDOWS)
    monkeypatch.undo()
    events = bench.train_here(asked=WINDOWS)
    versions = MLflowReader(bench.uri).versions(bench.model)
    assert sorted(one.tags["rows"] for one in versions) == ["1500", "350", "600"]
    told = [one.version for one in events if isinstance(one, ModelRegistered)]
    assert told == ["1", "2", "3"]
    assert bench.train_here(asked=WINDOWS) == events


def test_a_retrained_version_is_compared_on_rows_that_the_champion_has_not_learned_from(bench: Bench) -> None:
    bench.store(toy_examples())
    bench.train_here("first")
    MLflowRegistry(bench.uri).set_champion(bench.model, "1")
    completed, _ = bench.train_here("at once")
    assert isinstance(completed, TrainingCompleted)
    assert "champion 1 was trained on all but 0 of the newest 300 rows" in completed.gate.sentence
    bench.store(toy_examples(150, seed=1, first=1500), "second")
    completed, _ = bench.train_here("after more labels")
    assert isinstance(completed, TrainingCompleted)
    assert (completed.gate.champion, completed.gate.rows) == ("1", 150)


def test_a_retraining_keeps_the_configuration_of_the_champion(bench: Bench) -> None:
    bench.store(replace(toy_examples(), labels=toy_examples().labels * 10))
    bench.train_here("by hand", {"task": "regression", "hyperparameters": {"max_depth": 2}})
    bench.train_here("by drift")
    first, second = MLflowReader(bench.uri).versions(bench.model)
    assert second.tags["task"] == first.tags["task"] == "regression"
    assert second.tags["hyperparameters"] == '{"max_depth": 2}'


def test_bad_data_is_refused_with_the_reason(bench: Bench) -> None:
    bench.store(toy_examples(200))
    (event,) = bench.train_here()
    assert isinstance(event, TrainingRefused)
    assert event.reason == "200 labelled rows; at least 500 are needed"


def test_a_model_without_any_examples_is_refused_with_the_reason(bench: Bench) -> None:
    (event,) = bench.train_here()
    assert isinstance(event, TrainingRefused)
    assert event.reason == "0 labelled rows; at least 500 are needed"


def test_a_trainer_that_is_not_there_is_named(bench: Bench) -> None:
    bench.store(toy_examples())
    (event,) = bench.train_here(trainer="tests.support.toy_examples:Missing")
    assert isinstance(event, TrainingRefused)
    assert event.reason.startswith(
        "training.trainers.xgboost: 'tests.support.toy_examples:Missing' is not there (module:class)"
    )


async def test_a_bug_in_a_trainer_is_a_failure_that_ends_with_its_error(bench: Bench) -> None:
    bench.store(toy_examples())
    said = error(await bench.train(trainer="tests.support.toy_examples:Failing"))
    assert said.startswith("the training process ended with exit code 1\n")
    assert said.endswith("RuntimeError: a bug, seen with 1200 rows")


async def test_a_process_that_the_kernel_ends_is_a_failure(bench: Bench) -> None:
    bench.store(toy_examples())
    said = error(await bench.train(trainer="tests.support.toy_examples:Exhausting"))
    assert said.startswith("the training process was ended by SIGKILL (out of memory?)")


async def test_a_training_that_takes_too_long_is_ended(bench: Bench) -> None:
    bench.store(toy_examples())
    assert (
        error(await bench.train(trainer="tests.support.toy_examples:Endless", timeout=3))
        == "not done after 3 s: ended"
    )


async def test_a_training_that_is_cancelled_is_ended(bench: Bench) -> None:
    bench.store(toy_examples())
    training = asyncio.create_task(bench.train(trainer="tests.support.toy_examples:Endless"))
    pid = await began(bench)
    training.cancel()
    with pytest.raises(asyncio.CancelledError):
        await training
    assert not running(pid)


async def test_a_registry_that_is_away_is_asked_again_later(bench: Bench) -> None:
    bench.store(toy_examples())
    bench.uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"training {bench.model}: MLflow at {bench.uri} doesn't answer"):
        await bench.train()


async def began(bench: Bench) -> int:
    """Its process id, once it fits."""
    told = bench.folder / "endless.pid"
    async with asyncio.timeout(60):
        while not (told.exists() and told.read_text()):
            await asyncio.sleep(0.05)
    return int(told.read_text())


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

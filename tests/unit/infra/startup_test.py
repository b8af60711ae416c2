"""What settings name and nobody brought is told when a command starts, before it connects to anything."""

from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from driftloop.infra.cli.app import app
from driftloop.infra.processes.child import free_port
from driftloop.infra.serving.target import LocalTarget
from driftloop.infra.wiring import agents, plugins, trainers
from driftloop.mlops_core.errors import Conflict
from driftloop.schemas.settings import (
    DriftSettings,
    KafkaSettings,
    ServingSettings,
    Settings,
    TrainingSettings,
)


class Trainer:
    """What a trainer has to have."""

    def __init__(self, rounds: int, threads: int) -> None:
        raise AssertionError("a check makes none")

    def fit(self) -> None: ...
    def scorer(self) -> None: ...


class Unready(Trainer):
    def __init__(self) -> None: ...


def run(command: str, **variables: str) -> Result:
    nobody = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    return CliRunner(env={**nobody, **variables}).invoke(app, command.split())


def test_agents_tell_of_a_detector_that_is_missing_before_they_ask_for_kafka() -> None:
    result = run("agents run", DRIFTLOOP_DRIFT__DETECTOR="nope")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: drift.detector: 'nope' is not installed; possible: adwin, cusum")
    assert "Kafka at" not in result.stderr


def test_agents_tell_of_a_trainer_that_is_missing_before_they_ask_for_kafka() -> None:
    result = run("agents run training", DRIFTLOOP_TRAINING__TRAINERS='{"mine": "nowhere:Nobody"}')
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "error: training.trainers.mine: 'nowhere:Nobody' is not there (module:class)"
    )
    assert (
        f"possible: a class of (rounds, threads) with fit and scorer, as {trainers.BUILT_IN['xgboost']}"
        in result.stderr
    )
    assert "Kafka at" not in result.stderr


def test_an_agent_that_needs_neither_does_not_ask_for_them() -> None:
    kafka = KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")
    settings = Settings(
        kafka=kafka, drift=DriftSettings(detector="nope"), training=TrainingSettings(trainers={"mine": "a:B"})
    )
    for name in {*agents.AGENTS} - {"drift", "training"}:
        agents.AGENTS[name](settings)


@pytest.mark.parametrize(
    "named",
    [{"DRIFTLOOP_DRIFT__DETECTOR": "nope"}, {"DRIFTLOOP_TRAINING__TRAINERS": '{"mine": "nowhere:Nobody"}'}],
)
def test_the_stack_starts_nothing_if_its_agents_could_not(named: dict[str, str], tmp_path: Path) -> None:
    result = run(f"up --folder {tmp_path / 'up'}", **named)
    assert result.exit_code == 1
    assert "possible" in result.stderr
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("tests.unit.infra.startup_test:Missing", "is not there .* has no attribute 'Missing'"),
        ("tests.unit.infra.startup_test:run", "is no class with fit and scorer"),
        ("tests.unit.infra.startup_test:Unready", "can't be created from rounds and threads"),
        ("tests.support.toy_examples:Failing", ""),
        ("tests.unit.infra.startup_test:Trainer", ""),
        (trainers.BUILT_IN["xgboost"], ""),
    ],
)
def test_a_trainer_is_looked_at_without_being_made(place: str, why: str) -> None:
    settings = TrainingSettings(trainers={"mine": place})
    if not why:
        trainers.check(settings)
        return
    with pytest.raises(Conflict, match=f"^training.trainers.mine: .*{why}.*; possible: a class"):
        trainers.check(settings)


def test_a_trainer_whose_module_breaks_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaks.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Conflict, match="'breaks:Any' can't be imported: RuntimeError: no licence"):
        trainers.check(TrainingSettings(trainers={"mine": "breaks:Any"}))


class Elsewhere:
    """A target of another package."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.serving.url

    async def ensure(self) -> None: ...
    async def shift(self) -> None: ...
    async def blend(self) -> None: ...
    async def retire(self) -> None: ...
    async def endpoints(self) -> None: ...


def test_a_target_is_the_one_that_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [
        metadata.EntryPoint("elsewhere", "tests.unit.infra.startup_test:Elsewhere", plugins.TARGETS),
        metadata.EntryPoint("wrong", "builtins:str", plugins.TARGETS),
    ]
    monkeypatch.setattr("driftloop.infra.wiring.plugins.entry_points", lambda **_: installed)

    def target(name: str) -> object:
        return plugins.target(Settings(serving=ServingSettings(target=name)))

    assert isinstance(target("local"), LocalTarget)
    assert isinstance(target("elsewhere"), Elsewhere)
    with pytest.raises(
        Conflict, match="serving.target: 'moon' is not installed; possible: elsewhere, local, wrong"
    ):
        target("moon")
    with pytest.raises(Conflict, match="serving.target: the target of 'wrong' lacks ensure, shift, blend"):
        target("wrong")

"""What the registry's ports promise, kept by a real MLflow server."""

import time
from dataclasses import replace

import httpx
import numpy as np
import pytest

from driftloop.infra.adapters.mlflow.reader import MLflowReader
from driftloop.infra.adapters.mlflow.registry import MLflowRegistry
from driftloop.infra.adapters.mlflow.rest import MLflowRest
from driftloop.infra.adapters.mlflow.server import MLflowServer
from driftloop.infra.processes.child import free_port
from driftloop.mlops_core.errors import Conflict, NotFound, Unavailable
from driftloop.mlops_core.ports import Candidate, ModelReader, ModelWriter, Registered
from driftloop.mlops_core.training.fit import train_challenger
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer, XGBoostTrainer
from driftloop.schemas.configs import ModelConfig
from driftloop.schemas.settings import TrainingSettings
from tests.support.toy_examples import request, toy_examples

# A first request makes the server import for seconds, and mlflow itself takes 5 s of CPU.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def registry(mlflow_server: MLflowServer) -> MLflowRegistry:
    return MLflowRegistry(mlflow_server.uri)


@pytest.fixture
def reader(mlflow_server: MLflowServer) -> MLflowReader:
    return MLflowReader(mlflow_server.uri)


@pytest.fixture(scope="module")
def prepared() -> Candidate:
    asked = request("flights")
    trainer, model = XGBoostTrainer(rounds=5, threads=1), ModelConfig(name="flights")
    outcome = train_challenger(asked, model, toy_examples(600), None, trainer, TrainingSettings())
    assert isinstance(outcome, Candidate)
    return outcome


@pytest.fixture
def candidate(prepared: Candidate, model_name: str) -> Candidate:
    return replace(prepared, model=model_name)


def register(registry: ModelWriter, candidate: Candidate, count: int) -> list[Registered]:
    return [registry.register(replace(candidate, request=f"asked-{number}")) for number in range(count)]


def holders(reader: ModelReader, model: str) -> dict[str, str]:
    return {alias: one.version for one in reader.versions(model) for alias in one.aliases}


def test_a_registered_version_is_challenger_and_carries_its_evidence(
    registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    version = registry.register(candidate)
    assert version.version == "1"
    assert version.aliases == ("challenger",)
    assert version.tags["request"] == candidate.request
    assert version.tags["gate"] == candidate.gate.model_dump_json()
    assert reader.version(candidate.model, "1") == version


def test_a_model_read_back_gives_the_same_scores(
    registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    registry.register(candidate)
    again, examples = reader.fitted(candidate.model, "1"), toy_examples(100)
    assert (again.task, again.features) == (candidate.fitted.task, candidate.fitted.features)
    scores = (XGBoostScorer(one)(examples.features, 100).tolist() for one in (candidate.fitted, again))
    assert next(scores) == next(scores)


def test_a_profile_read_back_is_the_same(
    registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    registry.register(candidate)
    assert reader.profile(candidate.model, "1") == candidate.profile


def test_mlflow_itself_can_load_the_model(
    registry: MLflowRegistry, mlflow_server: MLflowServer, candidate: Candidate
) -> None:
    import mlflow
    import xgboost

    registry.register(candidate)
    mlflow.set_tracking_uri(mlflow_server.uri)
    booster = mlflow.xgboost.load_model(f"models:/{candidate.model}@challenger")
    assert isinstance(booster, xgboost.Booster)
    assert np.isfinite(booster.inplace_predict(candidate.sample)).all()


def test_the_same_request_gives_the_same_version(registry: MLflowRegistry, candidate: Candidate) -> None:
    assert registry.register(candidate) == registry.register(candidate)


def test_a_request_that_comes_again_after_its_version_had_its_turn_changes_nothing(
    registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    registry.register(candidate)
    registry.set_champion(candidate.model, "1")
    registry.register(candidate)
    assert holders(reader, candidate.model) == {"champion": "1"}


def test_a_crash_between_version_and_alias_is_made_good(
    registry: MLflowRegistry, reader: MLflowReader, mlflow_server: MLflowServer, candidate: Candidate
) -> None:
    registry.register(candidate)
    rest = MLflowRest(mlflow_server.uri)
    rest.change("DELETE", "registered-models/alias", name=candidate.model, alias="challenger")
    registry.register(candidate)
    assert holders(reader, candidate.model) == {"challenger": "1"}


def test_another_request_gives_another_version_which_is_the_challenger(
    registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    assert [one.version for one in register(registry, candidate, 2)] == ["1", "2"]
    assert holders(reader, candidate.model) == {"challenger": "2"}
    assert [one.version for one in reader.versions(candidate.model)] == ["1", "2"]


def test_crowning_moves_the_champion_to_previous_and_gives_up_the_challenger(
    registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    register(registry, candidate, 2)
    registry.set_champion(candidate.model, "1")
    assert reader.champion(candidate.model) == "1"
    registry.set_champion(candidate.model, "2")
    assert holders(reader, candidate.model) == {"champion": "2", "previous": "1"}


def test_crowning_again_changes_nothing(
    registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    register(registry, candidate, 2)
    for version in ("1", "2", "2"):
        registry.set_champion(candidate.model, version)
    assert holders(reader, candidate.model) == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize("after", ["previous", "champion"])
def test_a_crash_in_the_middle_of_crowning_is_completed_by_crowning_again(
    after: str,
    registry: MLflowRegistry,
    reader: MLflowReader,
    mlflow_server: MLflowServer,
    candidate: Candidate,
) -> None:
    register(registry, candidate, 2)
    registry.set_champion(candidate.model, "1")
    rest, steps = MLflowRest(mlflow_server.uri), [("previous", "1"), ("champion", "2")]
    for alias, version in steps[: 1 if after == "previous" else 2]:
        rest.change("POST", "registered-models/alias", name=candidate.model, alias=alias, version=version)
        assert reader.champion(candidate.model), "there is a champion at every moment"
    registry.set_champion(candidate.model, "2")
    assert holders(reader, candidate.model) == {"champion": "2", "previous": "1"}


def test_going_back_to_an_older_version_leaves_a_waiting_challenger_alone(
    registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    register(registry, candidate, 2)
    registry.set_champion(candidate.model, "1")
    assert holders(reader, candidate.model) == {"champion": "1", "challenger": "2"}


def test_a_registered_model_is_among_the_models(
    registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    registry.register(candidate)
    assert candidate.model in reader.models()


def test_a_tag_is_kept(registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate) -> None:
    registry.register(candidate)
    registry.tag(candidate.model, "1", "lifecycle", "rolled-back")
    assert reader.version(candidate.model, "1").tags["lifecycle"] == "rolled-back"


def test_a_model_that_nobody_registered_has_no_versions_and_no_champion(
    reader: MLflowReader, model_name: str
) -> None:
    assert reader.versions(model_name) == []
    assert reader.champion(model_name) is None
    assert model_name not in reader.models()


@pytest.mark.parametrize("version", ["7", "newest"])
def test_an_unknown_version_is_an_error_that_says_what_there_is(
    version: str, registry: MLflowRegistry, reader: MLflowReader, candidate: Candidate
) -> None:
    model = candidate.model
    register(registry, candidate, 2)
    says = f"{model}:{version} is not in MLflow at .*; versions of {model}: 1, 2"
    for ask in (
        lambda: reader.version(model, version),
        lambda: reader.fitted(model, version),
        lambda: reader.profile(model, version),
        lambda: registry.set_champion(model, version),
        lambda: registry.tag(model, version, "key", "value"),
    ):
        with pytest.raises(NotFound, match=says):
            ask()


def test_a_version_that_was_registered_by_hand_is_named_as_such(
    reader: MLflowReader, mlflow_server: MLflowServer, prepared: Candidate, model_name: str
) -> None:
    import mlflow.xgboost
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(prepared.fitted.payload))
    mlflow.set_tracking_uri(mlflow_server.uri)
    mlflow.set_experiment("by hand")
    mlflow.xgboost.log_model(
        booster, name="model", registered_model_name=model_name, pip_requirements=["xgboost"]
    )
    assert reader.version(model_name, "1").tags == {}
    for ask in (reader.fitted, reader.profile):
        with pytest.raises(NotFound, match=f"{model_name}:1 has no .*; was it registered by driftloop"):
            ask(model_name, "1")


def test_a_name_that_mlflow_would_not_have_is_refused(registry: MLflowRegistry, candidate: Candidate) -> None:
    with pytest.raises(Conflict, match="refused"):
        registry.register(replace(candidate, model="flights/late"))


def test_a_server_that_is_away_is_known_within_seconds(candidate: Candidate) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    registry, reader = MLflowRegistry(nobody), MLflowReader(nobody)
    began = time.monotonic()
    for ask in (
        lambda: registry.register(candidate),
        lambda: registry.set_champion("flights", "1"),
        lambda: reader.fitted("flights", "1"),
        lambda: reader.champion("flights"),
    ):
        with pytest.raises(Unavailable, match="MLflow at http://127.0.0.1:.* doesn't answer"):
            ask()
    assert time.monotonic() - began < 5


def test_what_was_read_once_survives_a_server_that_goes_away(
    registry: MLflowRegistry, mlflow_server: MLflowServer, candidate: Candidate
) -> None:
    registry.register(candidate)
    reader = MLflowReader(mlflow_server.uri)
    fitted, profile = reader.fitted(candidate.model, "1"), reader.profile(candidate.model, "1")
    reader.close()
    assert reader.fitted(candidate.model, "1") is fitted
    assert reader.profile(candidate.model, "1") is profile


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(Conflict, match="is not the address of an MLflow server"):
        MLflowReader("mlflow.db").champion("flights")


def test_the_server_keeps_its_data_in_its_folder_and_answers_on_this_machine_only(
    mlflow_server: MLflowServer, registry: MLflowRegistry, candidate: Candidate
) -> None:
    registry.register(candidate)
    assert httpx.URL(mlflow_server.uri).host == "127.0.0.1"
    assert (mlflow_server.folder / "mlflow.db").stat().st_size
    assert list((mlflow_server.folder / "artifacts").rglob("model.ubj"))

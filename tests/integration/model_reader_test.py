"""What every reader of a registry promises: a folder of models, and a real MLflow server."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.infra.adapters.mlflow.reader import MLflowReader
from driftloop.infra.adapters.mlflow.registry import MLflowRegistry
from driftloop.infra.adapters.mlflow.server import MLflowServer
from driftloop.mlops_core.errors import NotFound
from driftloop.mlops_core.ports import Candidate, ModelReader
from driftloop.mlops_core.training.fit import train_challenger
from driftloop.mlops_core.training.xgboost_trainer import XGBoostTrainer
from driftloop.schemas.configs import ModelConfig
from driftloop.schemas.settings import TrainingSettings
from tests.support.toy_examples import request as retrain_request
from tests.support.toy_examples import toy_examples

# A first request makes the server import for seconds, and mlflow itself takes 5 s of CPU.
pytestmark = pytest.mark.timeout(300)

MODEL = "arrivals late & early"
"""Quoted in addresses and in names of folders."""


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    trainer, model = XGBoostTrainer(rounds=5, threads=1), ModelConfig(name=MODEL)
    outcome = train_challenger(
        retrain_request(MODEL), model, toy_examples(600), None, trainer, TrainingSettings()
    )
    assert isinstance(outcome, Candidate)
    return outcome


def in_a_folder(folder: Path, candidate: Candidate) -> FolderReader:
    for version in ("1", "2"):
        folder_reader.save(
            folder, MODEL, version, candidate.fitted, candidate.profile, {"request": f"request-{version}"}
        )
    next(folder.iterdir()).joinpath("champion").write_text("1\n")
    return FolderReader(folder)


def in_mlflow(uri: str, candidate: Candidate) -> MLflowReader:
    registry = MLflowRegistry(uri)
    for version in ("1", "2"):
        registry.register(replace(candidate, request=f"request-{version}"))
    registry.set_champion(MODEL, "1")
    return MLflowReader(uri)


@pytest.fixture(scope="module", params=["folder", "mlflow"])
def reader(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, candidate: Candidate
) -> Iterator[ModelReader]:
    """A registry with versions 1 (champion) and 2 of a model."""
    if request.param == "folder":
        yield in_a_folder(tmp_path_factory.mktemp("models"), candidate)
        return
    server: MLflowServer = request.getfixturevalue("mlflow_server")
    reader = in_mlflow(server.uri, candidate)
    yield reader
    reader.close()


def test_a_version_is_read_back_as_it_was_written(reader: ModelReader, candidate: Candidate) -> None:
    assert reader.fitted(MODEL, "2") == candidate.fitted
    assert reader.profile(MODEL, "2") == candidate.profile


def test_versions_are_listed_oldest_first(reader: ModelReader) -> None:
    assert [version.version for version in reader.versions(MODEL)] == ["1", "2"]
    assert {version.model for version in reader.versions(MODEL)} == {MODEL}


def test_the_champion_has_its_alias(reader: ModelReader) -> None:
    assert reader.champion(MODEL) == "1"
    assert "champion" in reader.version(MODEL, "1").aliases
    assert "champion" not in reader.version(MODEL, "2").aliases
    listed = {version.version: version.aliases for version in reader.versions(MODEL)}
    assert "champion" in listed["1"]
    assert "champion" not in listed["2"]


def test_tags_are_read_back(reader: ModelReader) -> None:
    assert reader.version(MODEL, "2").tags["request"] == "request-2"


def test_the_model_is_among_the_models(reader: ModelReader) -> None:
    assert MODEL in reader.models()


def test_an_unknown_model_has_no_versions_and_no_champion(reader: ModelReader) -> None:
    assert list(reader.versions("nobody's")) == []
    assert reader.champion("nobody's") is None


@pytest.mark.parametrize("version", ["7", "newest", "", "..", "99999999999999999999", "1/2", "ü" * 200])
def test_an_unknown_version_is_not_found_and_the_error_lists_the_known_ones(
    reader: ModelReader, version: str
) -> None:
    for read in (reader.version, reader.fitted, reader.profile):
        with pytest.raises(NotFound, match=r"versions of .*: 1, 2$"):
            read(MODEL, version)


@pytest.mark.parametrize("model", ["fraud", "..", "a/b", "it's", 'the "best"', "ü" * 200])
def test_an_unknown_model_is_not_found(reader: ModelReader, model: str) -> None:
    for read in (reader.version, reader.fitted, reader.profile):
        with pytest.raises(NotFound, match="versions of .*: none$"):
            read(model, "1")

"""A trainer of a user's own takes one file: it trains, passes the gate, is registered, and answers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.infra.adapters.mlflow.reader import MLflowReader
from driftloop.infra.adapters.mlflow.server import MLflowServer
from driftloop.infra.processes.training import Job, train
from driftloop.infra.serving.loading import load, load_from_registry
from driftloop.infra.wiring import trainers
from driftloop.infra.wiring.trainers import scorer_loader
from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.errors import Conflict, Unservable
from driftloop.mlops_core.ports import Candidate, Task
from driftloop.mlops_core.training.fit import Champion, train_challenger
from driftloop.mlops_core.training.importance import permutation_importance
from driftloop.schemas.configs import ModelConfig
from driftloop.schemas.events import TrainingCompleted, TrainingRefused
from driftloop.schemas.settings import TrainingSettings
from tests.support.linear_trainer import LinearTrainer
from tests.support.toy_examples import request, toy_examples

SETTINGS = TrainingSettings(trainers={"linear": "tests.support.linear_trainer:LinearTrainer"}, rounds=10)
COLUMNS: Mapping[str, list[float | str | None]] = {"miles": [900.0, 10.0], "origin": ["JFK", "LGA"]}


def fit(examples: Examples, algorithm: str, champion: Champion | None = None) -> Candidate:
    model = ModelConfig(name="flights", algorithm=algorithm)
    trainer = trainers.trainer(SETTINGS, algorithm)
    found = train_challenger(request("flights"), model, examples, champion, trainer, SETTINGS)
    assert isinstance(found, Candidate)
    return found


def test_the_gate_compares_models_of_different_formats() -> None:
    linear = fit(toy_examples(), "linear")
    assert linear.fitted.format == "linear"
    champion = Champion("1", scorer_loader(SETTINGS)(linear.fitted))
    challenger = fit(toy_examples(seed=1), "xgboost", champion)
    assert challenger.fitted.format == "xgboost"
    assert challenger.gate.champion == "1"


def test_its_model_is_read_and_scored_where_the_settings_name_it(tmp_path: Path) -> None:
    fitted = fit(toy_examples(), "linear").fitted
    folder_reader.save(tmp_path, "flights", "1", fitted)
    loaded = load(FolderReader(tmp_path), scorer_loader(SETTINGS), "flights", "1")
    assert loaded.format == "linear"
    assert loaded.score(COLUMNS, 2).tolist() == LinearTrainer(1, 1).scorer(fitted)(COLUMNS, 2).tolist()
    with pytest.raises(Unservable, match="its format is 'linear': no trainer is called 'linear'; there are"):
        load(FolderReader(tmp_path), scorer_loader(TrainingSettings()), "flights", "1")


def test_features_of_a_model_that_explains_nothing_have_an_importance() -> None:
    examples = toy_examples()
    scorer = LinearTrainer(1, 1).scorer(LinearTrainer(1, 1).fit(examples, Task.BINARY, {}))
    shares = permutation_importance(["miles", "origin"], scorer, examples)
    assert shares["miles"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)


def test_an_unknown_algorithm_is_an_error_that_lists_what_there_is() -> None:
    with pytest.raises(Conflict, match="no trainer is called 'lightgbm'; there are xgboost, linear"):
        trainers.trainer(SETTINGS, "lightgbm")
    with pytest.raises(Conflict, match=r"training\.algorithm: no trainer is called 'cubist'"):
        trainers.check(TrainingSettings(algorithm="cubist"))


@pytest.mark.timeout(300)
def test_it_is_registered_and_its_next_version_has_the_same_algorithm(
    mlflow_server: MLflowServer, tmp_path: Path, model_name: str
) -> None:
    from driftloop.infra.adapters.mlflow.registry import MLflowRegistry
    from driftloop.infra.adapters.parquet.store import ParquetStore

    uri = mlflow_server.uri
    ParquetStore(tmp_path).append(model_name, "first", toy_examples())

    def ended(name: str, algorithm: str | None) -> TrainingCompleted:
        asked = request(model_name, name).model_copy(
            update={"algorithm": algorithm, "hyperparameters": {"ridge": 0.1} if algorithm else None}
        )
        job = Job(request=asked, store=tmp_path, tracking_uri=uri, training=SETTINGS)
        completed = next(event for event in train(job) if not isinstance(event, TrainingRefused))
        assert isinstance(completed, TrainingCompleted)
        return completed

    first = ended("first", "linear")
    MLflowRegistry(uri).set_champion(model_name, first.version)
    second = ended("second", None)
    assert second.gate.champion == first.version
    registered = MLflowReader(uri).version(model_name, second.version)
    assert (registered.tags["algorithm"], registered.tags["format"]) == ("linear", "linear")
    assert registered.tags["hyperparameters"] == '{"ridge": 0.1}'
    loaded = load_from_registry(uri, SETTINGS, model_name, second.version)
    assert np.isfinite(loaded.score(COLUMNS, 2)).all()

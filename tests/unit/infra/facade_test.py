"""The facade: errors that name the key, and calls that do not block the caller."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from driftloop.infra.facade import MLOpsPipeline, settings_of
from driftloop.mlops_core.errors import NotFound
from driftloop.mlops_core.ports import Registered
from driftloop.schemas.settings import SettingsError


def test_the_missions_tracking_address_is_understood() -> None:
    config = {"training_config": {"experiment_tracking": {"tracking_uri": "mlflow://localhost:5000"}}}
    assert settings_of(config).registry.tracking_uri == "http://localhost:5000"


def test_a_misspelt_key_is_an_error_that_names_it_and_the_nearest_right_one() -> None:
    meant = "'training_config.experiment_trackin'; did you mean 'experiment_tracking'"
    with pytest.raises(SettingsError, match=meant):
        settings_of({"training_config": {"experiment_trackin": 1}})


def test_what_is_not_there_yet_is_refused_rather_than_ignored() -> None:
    config = {"deployment_config": {"kubernetes_config": {"cluster": "production"}}}
    with pytest.raises(SettingsError, match="kubernetes_config: this version serves on the local target"):
        settings_of(config)


def test_driftloops_own_settings_can_be_given_too() -> None:
    assert settings_of({"settings": {"rollout": {"steps": (10, 50)}}}).rollout.steps == (10, 50)


async def test_a_slow_registry_does_not_block_the_callers_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the registry takes half a second, the caller's loop keeps turning."""
    mlops = MLOpsPipeline({})

    def slow(model: str, version: str) -> Registered:
        time.sleep(0.5)
        raise NotFound(f"{model}:{version}")

    monkeypatch.setattr(mlops.lifecycle_manager.version_controller, "_reader", SimpleNamespace(version=slow))
    call = asyncio.create_task(mlops.manage_lifecycle("fraud:1", "archive"))
    turns = 0
    while not call.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert isinstance(call.exception(), NotFound)
    assert turns > 10

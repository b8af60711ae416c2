"""A service that only publishes loads what publishing needs."""

import subprocess
import sys

import pytest

HEAVY = (
    "faust",
    "river",
    "xgboost",
    "mlflow",
    "sklearn",
    "pandas",
    "pyarrow",
    "fastapi",
    "typer",
    "httpx",
    "yaml",
    "pydantic_settings",
)
PUBLIC = "Publisher, Prediction, Label, FeatureRow, KafkaSettings"


@pytest.mark.parametrize("module", HEAVY)
def test_the_publisher_loads_no_heavy_package(module: str, loaded: frozenset[str]) -> None:
    assert module not in loaded


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    script = f"from driftloop import {PUBLIC}; import sys; print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-P", "-c", script], check=True, timeout=60, capture_output=True, text=True
    ).stdout
    return frozenset(names.split())

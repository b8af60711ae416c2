"""A real MLflow server, started once a session when the first test asks for it."""

import uuid
from collections.abc import Iterator

import pytest

from driftloop.infra.adapters.mlflow import server
from driftloop.infra.adapters.mlflow.server import MLflowServer


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    with server.start(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture
def model_name() -> str:
    """A model of the test's own, so that tests sharing the server don't meet."""
    return f"flights-{uuid.uuid4().hex[:8]}"

"""What all tests share: marks from folders, the seed of a run, fixtures of brokers and of MLflow."""

from pathlib import Path

import hypothesis
import numpy as np
import pytest

from tests.support import seeds

hypothesis.settings.register_profile("unhurried", deadline=None)  # a crowded machine is no failure
hypothesis.settings.load_profile("unhurried")

pytest_plugins = [
    "tests.support.broker_fixtures",
    "tests.support.chaos.system",
    "tests.support.mlflow_fixtures",
]

TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of ours."""
    parser.addoption("--seed", type=int, help="seed of all random numbers; default: another one each run")
    parser.addoption("--chaos-kills", type=int, default=20, help="kill -9s of the long chaos run")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed once; pytest-xdist hands the option to its workers."""
    config.option.seed = seeds.use(config.option.seed)


def pytest_report_header(config: pytest.Config) -> str:
    """Show the seed at the top of the output."""
    return f"seed: {config.option.seed} (repeat with --seed {config.option.seed})"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folder, and keep the tests that share a started system on one worker."""
    mlflow = {item.path for item in items if "mlflow_server" in getattr(item, "fixturenames", ())}
    for item in items:
        inside = item.path.is_relative_to(TESTS)
        folder = item.path.relative_to(TESTS).parts[0] if inside else "unit"
        item.add_marker(folder)
        if folder != "unit":
            item.add_marker(pytest.mark.xdist_group("mlflow" if item.path in mlflow else item.path.stem))


def pytest_runtest_setup() -> None:
    """Number each test's generators from 1."""
    seeds.restart()


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of this run; pytest prints it with a failure."""
    print(f"repeat with --seed {pytestconfig.option.seed}")  # noqa: T201
    return int(pytestconfig.option.seed)


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """Random numbers that `--seed` repeats."""
    return np.random.default_rng(seed)


@pytest.fixture
def chaos_kills(request: pytest.FixtureRequest) -> int:
    """The number of `--chaos-kills`."""
    return int(request.config.getoption("--chaos-kills"))

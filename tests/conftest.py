"""Fixtures that everybody shares: brokers, a real MLflow server, seeds."""

import random
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("unhurried", deadline=None)  # a crowded machine is no failure
hypothesis.settings.load_profile("unhurried")

pytest_plugins = [
    "tests.support.broker_fixtures",
    "tests.support.chaos.system",
    "tests.support.mlflow_fixtures",
]

TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `make chaos`."""
    parser.addoption("--chaos-seed", type=int, help="repeats a chaos run; default: another one each time")
    parser.addoption("--chaos-kills", type=int, default=20, help="kill -9s of the long chaos run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folder below `tests/`; doctests count as unit tests."""
    for item in items:
        inside = item.path.is_relative_to(TESTS)
        item.add_marker(item.path.relative_to(TESTS).parts[0] if inside else "unit")


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    """The seed of `--chaos-seed`, or a new one."""
    given = request.config.getoption("--chaos-seed")
    return int(given) if given is not None else random.SystemRandom().randrange(1_000_000)


@pytest.fixture
def chaos_kills(request: pytest.FixtureRequest) -> int:
    """The number of `--chaos-kills`."""
    return int(request.config.getoption("--chaos-kills"))

"""What every target promises to rollouts, in memory and on a serving host; how the local one refuses."""

from collections.abc import Iterator

import pytest

from driftloop.infra.brokers import Broker
from driftloop.infra.serving.target import LocalTarget
from driftloop.mlops_core.errors import Unavailable, Unservable
from driftloop.testing import MemoryTarget, TargetContract
from tests.integration.serving_host_test import started
from tests.support.serving_processes import MODEL, HostProcess


class TestMemory(TargetContract):
    def target(self) -> MemoryTarget:
        return MemoryTarget({self.model: self.versions})


@pytest.fixture(scope="class")
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, embedded_broker: Broker
) -> Iterator[HostProcess]:
    with started(tmp_path_factory.mktemp("host"), embedded_broker) as serving:
        request.cls.url = serving.url
        yield serving


@pytest.mark.usefixtures("host")
class TestServingHost(TargetContract):
    url: str

    def target(self) -> LocalTarget:
        return LocalTarget(self.url)


async def test_the_local_target_says_that_it_gives_no_resources() -> None:
    target = LocalTarget("http://127.0.0.1:9")
    with pytest.raises(Unservable, match="flights:1: .* give each {'cpu': '2'}; .* another serving"):
        await target.ensure(MODEL, "1", 1, {"cpu": "2"})


async def test_a_target_without_a_host_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="doesn't answer"):
        await LocalTarget("http://127.0.0.1:9").ensure(MODEL, "1", 1)

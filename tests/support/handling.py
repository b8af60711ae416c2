"""Has an agent handle a chunk as the runner does: questions are resolved first, and `handle` asks nobody."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NoReturn, TypeVar
from unittest.mock import patch

from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.infra.adapters.memory import MemoryExampleStore
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.schemas.messages import Output
from driftloop.streams.processing.agent import Agent
from driftloop.streams.processing.resolver import resolve_here
from driftloop.streams.records import Chunk

State = TypeVar("State")
PORTS: dict[type, tuple[str, ...]] = {
    FolderReader: ("fitted", "profile", "version", "versions", "champion", "models"),
    ParquetStore: ("append", "tend"),
    MemoryExampleStore: ("append", "tend"),
}
"""What agents are given in these tests, and the calls that block."""


def handle(agent: Agent[State], state: State, chunk: Chunk) -> list[Output]:
    """The messages that follow from the chunk; `state` is changed."""
    resolved = resolve_here(agent, state, chunk)
    with nobody_is_asked():
        return agent.handle(state, resolved)


@contextmanager
def nobody_is_asked() -> Iterator[None]:
    """A call of a port fails the test: `handle` must be a function of state and chunk."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("handle asked a port; it has to be looked up in `questions` and `resolve`")

    with ExitStack() as patched:
        for port, methods in PORTS.items():
            for method in methods:
                patched.enter_context(patch.object(port, method, refuse))
        yield

"""Looks up what an agent asks before it handles a chunk, in threads of the agent's own.

A service that is slow delays only the partitions that ask it. A service that is away is asked again until it
is back. One question that it can't answer, while it answers others, must not stop a partition for ever: the
record behind it may be parked after `PARK_SECONDS`.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic

from driftloop.mlops_core.errors import Temporary
from driftloop.streams.processing.agent import Agent, Resolving, State
from driftloop.streams.records import Chunk

PARK_SECONDS = 15.0
"""How long one record is tried again while others are answered."""
PROBES = 20
"""Records of a chunk that are asked for one by one, at most, to see whether any is answered."""
THREADS = 16
"""Of one agent: so many of its partitions may wait for a service at the same time."""


def resolve_here(agent: Agent[State], state: State, chunk: Chunk) -> Chunk:
    """The chunk with its answers, looked up by the caller itself: to run an agent without a runner."""
    resolving: Any = agent
    questions = resolving.questions(state, chunk) if isinstance(agent, Resolving) else None
    return chunk if questions is None else replace(chunk, resolved=resolving.resolve(questions).value)


@dataclass(frozen=True)
class _Failure:
    """A chunk that could not be resolved."""

    place: tuple[str, int]
    since: float
    """Monotonic seconds of the first attempt."""
    answers: int
    """Answers that the agent had had by then."""


class Resolver(Generic[State]):
    """Resolves the chunks of one agent."""

    def __init__(self, agent: Agent[State]) -> None:
        self._agent: Resolving[State, Any] | None = agent if isinstance(agent, Resolving) else None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"resolve-{agent.name}")
        self._answers = 0
        self._failures: dict[int, _Failure] = {}
        """By partition."""

    async def resolve(self, state: State, chunk: Chunk) -> tuple[Chunk, bool]:
        """The chunk with the answers to its questions, and whether the state will depend on them.

        Raises what the agent's `resolve` raises.
        """
        questions = None if self._agent is None else self._agent.questions(state, chunk)
        if self._agent is None or questions is None:
            return chunk, False
        loop = asyncio.get_running_loop()
        resolved = await loop.run_in_executor(self._threads, self._agent.resolve, questions)
        self._answers += resolved.answered
        return replace(chunk, resolved=resolved.value), resolved.enters_state

    async def may_park(self, state: State, chunk: Chunk) -> bool:
        """Whether a record of a chunk that fails again and again may be parked.

        Only after `PARK_SECONDS` in which other questions were answered: else the service is away, and the
        chunk waits for it.
        """
        place = chunk.topic, chunk.last
        failure = self._failures.get(chunk.partition)
        if failure is None or failure.place != place:
            self._failures[chunk.partition] = _Failure(place, time.monotonic(), self._answers)
            return False
        if time.monotonic() - failure.since < PARK_SECONDS:
            return False
        if self._answers == failure.answers:
            await self._probe(state, chunk)
        return self._answers > failure.answers

    async def _probe(self, state: State, chunk: Chunk) -> None:
        """Ask for single records until one is answered."""
        before = self._answers
        for record in chunk.records[:PROBES]:
            try:
                await self.resolve(state, chunk.with_records([record]))
            except Temporary:
                continue
            if self._answers > before:
                return

"""Effects of an agent: a task for each effect that a partition's state asks for, and no others."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import ParamSpec

from driftloop.streams import metrics

P = ParamSpec("P")
Perform = Callable[[int, object], Awaitable[None]]
"""Carries out an effect of a partition and publishes what follows."""


class Effects:
    """Starts and cancels the tasks of one agent's effects, by partition and name."""

    def __init__(self, agent: str, perform: Perform) -> None:
        self._agent = agent
        self._perform = perform
        self._tasks: dict[tuple[int, str], asyncio.Task[None]] = {}

    @property
    def partitions(self) -> set[int]:
        """Partitions that have effects."""
        return {partition for partition, _ in self._tasks}

    def update(self, partition: int, pending: Mapping[str, object]) -> None:
        """Start the pending effects that have no task yet; cancel those that are no longer pending."""
        for key in [key for key in self._tasks if key[0] == partition and key[1] not in pending]:
            self._tasks.pop(key).cancel()
        for name, effect in pending.items():
            if (partition, name) not in self._tasks:
                self._tasks[partition, name] = self._start(partition, effect)

    def cancel(self, partition: int) -> None:
        """Cancel all effects of a partition."""
        self.update(partition, {})

    def _start(self, partition: int, effect: object) -> asyncio.Task[None]:
        async def perform() -> None:
            await self._perform(partition, effect)

        task = asyncio.create_task(perform())
        metrics.change_performing(self._agent, 1)
        task.add_done_callback(lambda _: metrics.change_performing(self._agent, -1))
        return task


async def run_to_the_end(call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call in a thread. A thread can't be cancelled, so a cancellation takes effect once it has ended."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise

"""What an agent is to the consuming loop: topics, a state, and functions. It never touches Kafka itself."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from driftloop.streams.records import Chunk
from driftloop.streams.routes import Output
from driftloop.streams.topics import Topic

State = TypeVar("State")
State_contra = TypeVar("State_contra", contravariant=True)


class Agent(Protocol[State]):
    """Handles chunks of records; what it returns gets published, what it remembers survives a crash.

    `handle` may change the state it is given: if it raises, the state is thrown away and taken from what is
    remembered. The same records must lead from the same state to the same one: that is how a state is found
    again (see `streams.processing.checkpoints`). It may raise `Temporary` (the chunk is tried again,
    nothing is lost) or anything else (the record that did it becomes a dead letter, the others go on).
    """

    @property
    def name(self) -> str:
        """Also the name of its consumer group and, with `-memory`, of its changelog."""
        ...

    @property
    def checkpoint_interval(self) -> int:
        """Chunks between two dumps of the whole state, at most; bytes decide, too (see `bases`).

        1 is right for a small state and a handler that asks others than its state. What is large against a
        chunk takes `bases.MANY_STEPS`, for as many chunks to handle again after a crash.
        """
        ...

    @property
    def topics(self) -> Sequence[Topic]:
        """What it reads; all of the same plane, so that partition n of each reaches the same worker."""
        ...

    def initial_state(self) -> State:
        """The state of a partition that has seen nothing."""
        ...

    def dump(self, state: State) -> bytes:
        """The state as bytes."""
        ...

    def load(self, data: bytes) -> State:
        """Back from `dump`; may raise `Temporary`."""
        ...

    def handle(self, state: State, chunk: Chunk) -> list[Output]:
        """Apply the records of `chunk` to the state; returns what follows from them."""
        ...

    def pending_effects(self, state: State) -> Mapping[str, object]:
        """Effects that the state asks for and that are not known to be done, by a name of each."""
        ...

    async def perform(self, effect: object) -> list[Output]:
        """Carry out one effect (doing it twice must be harmless); what it returns gets published.

        Cancelled when the state no longer asks for it. `Temporary` is tried again with back-off.
        """
        ...


@runtime_checkable
class Resolving(Protocol[State_contra]):
    """An agent that needs more than its state: others are asked, or much is computed, before `handle`.

    What `resolve` returns is handed to `handle` as `chunk.resolved`. Records that are handled again after a
    crash come without it: what followed from them was published then. So it may decide what is returned,
    never how the state changes.
    """

    async def resolve(self, state: State_contra, chunk: Chunk) -> object:
        """What `handle` needs for the chunk; off the event loop, and without changing the state.

        `Temporary` is tried again with back-off, like that of `handle`.
        """
        ...


class WithoutEffects:
    """For agents whose only effect is what they return."""

    name: str
    checkpoint_interval = 1

    def pending_effects(self, state: object) -> Mapping[str, object]:
        """Nothing has to be performed."""
        return {}

    async def perform(self, effect: object) -> list[Output]:
        """Never asked."""
        raise NotImplementedError(f"{self.name} performs nothing, least of all {effect!r}")

"""What the runner needs of an agent: its topics, its state, and functions. An agent never calls Kafka."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from driftloop.schemas.messages import Output
from driftloop.schemas.topics import Topic
from driftloop.streams.records import Chunk

State = TypeVar("State")
State_contra = TypeVar("State_contra", contravariant=True)


class Agent(Protocol[State]):
    """Handles chunks of records. What `handle` returns is published; its state survives a crash.

    `handle` may change the state it is given; if it raises, the state is restored. It must be deterministic:
    after a crash the newest checkpoint is loaded and the later records are handled again (see `checkpoints`).
    It may raise `Temporary` (the chunk is tried again) or anything else (the record becomes a dead letter and
    the others are handled).
    """

    @property
    def name(self) -> str:
        """Part of the names of its consumer group and of its changelog topic."""
        ...

    @property
    def checkpoint_interval(self) -> int:
        """Chunks from one checkpoint to the next, at most; bytes count too (`checkpoints.should_checkpoint`).

        1 for a small state, and for a handler that is not deterministic. A state that is much larger than a
        chunk takes `checkpoints.MAX_LOG_ENTRIES`, and a restart repeats so many chunks at most.
        """
        ...

    @property
    def topics(self) -> Sequence[Topic]:
        """Topics it reads, all of one plane: partition n of each is assigned to the same worker."""
        ...

    def initial_state(self) -> State:
        """The state of a partition before its first record."""
        ...

    def dump(self, state: State) -> bytes:
        """The state as bytes."""
        ...

    def load(self, data: bytes) -> State:
        """The state from the bytes of `dump`. May raise `Temporary`."""
        ...

    def handle(self, state: State, chunk: Chunk) -> list[Output]:
        """Apply the records of `chunk` to the state; returns the messages to publish."""
        ...

    def pending_effects(self, state: State) -> Mapping[str, object]:
        """Effects that the state asks for and that no event has confirmed yet, by name."""
        ...

    async def perform(self, effect: object) -> list[Output]:
        """Carry out one effect; returns the messages to publish. It must be idempotent.

        Cancelled when the state no longer asks for it. What it raises is logged, and it is tried again.
        """
        ...


@runtime_checkable
class Resolving(Protocol[State_contra]):
    """An agent that calls other services, or computes for long, before `handle`.

    `handle` finds what `resolve` returned in `chunk.resolved`. A replay after a crash comes without it, since
    the messages of those records are in the log already. So `chunk.resolved` may decide which messages
    follow, never how the state changes.
    """

    async def resolve(self, state: State_contra, chunk: Chunk) -> object:
        """What `handle` needs for the chunk. It must not block the event loop, nor change the state.

        `Temporary` is tried again, like that of `handle`.
        """
        ...


class WithoutEffects:
    """For agents that have no effects."""

    name: str
    checkpoint_interval = 1

    def pending_effects(self, state: object) -> Mapping[str, object]:
        """None."""
        return {}

    async def perform(self, effect: object) -> list[Output]:
        """Never called."""
        raise NotImplementedError(f"agent {self.name} has no effects, but was asked to perform {effect!r}")

"""What the runner needs of an agent: its topics, its state, and functions. An agent never calls Kafka."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from driftloop.schemas.messages import Output
from driftloop.schemas.topics import Topic
from driftloop.streams.records import Chunk

State = TypeVar("State")
State_contra = TypeVar("State_contra", contravariant=True)
Question = TypeVar("Question")


class Agent(Protocol[State]):
    """Handles chunks of records. What `handle` returns is published; its state survives a crash.

    `handle` may change the state it is given; if it raises, the state is restored. It is a pure function of
    state and chunk, and asks nobody: after a crash the newest checkpoint is loaded and the later records are
    handled again (see `checkpoints`). What an agent needs from other services it looks up before
    (`Resolving`). Whatever `handle` raises, the record becomes a dead letter and the others are handled.
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
        """The state from the bytes of `dump`."""
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


@dataclass(frozen=True)
class Resolved:
    """What `resolve` found."""

    value: object
    """`handle` finds it in `chunk.resolved`."""
    enters_state: bool = False
    """Whether the state depends on it. A replay after a crash comes without it, so such a chunk is committed
    with a checkpoint. Otherwise it may decide which messages follow, which are in the log already."""
    answered: bool = True
    """Whether another service answered: then it is not away, and a record that it can't answer is parked."""


@runtime_checkable
class Resolving(Protocol[State_contra, Question]):
    """An agent that needs other services, or long computations, for `handle`.

    Both functions must leave the state as it is.
    """

    def questions(self, state: State_contra, chunk: Chunk) -> Question | None:
        """What has to be looked up for the chunk; None: nothing. Asks nobody; called on the event loop."""
        ...

    def resolve(self, questions: Question, /) -> Resolved:
        """The answers. May block: it is called in a thread of the agent's own.

        `Temporary` is tried again. When it fails for one record and not for others, that record is parked.
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

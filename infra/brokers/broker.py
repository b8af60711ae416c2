"""What every broker of ours is: an address, and a way to end it.

BrokerUnavailable    it can't run on this machine; the message says what to install or change
ChildFailed          it should run and didn't; the message ends with the end of its log
"""

from types import TracebackType
from typing import Protocol, Self

from driftloop.infra.processes.child import Child, free_port, listening
from driftloop.mlops_core.errors import Permanent

HOST = "127.0.0.1"


class BrokerUnavailable(Permanent):
    """A broker can't run here; says what to install or change."""


class Broker(Protocol):
    """A running Kafka-compatible broker; leaving its `with` block stops it."""

    @property
    def bootstrap(self) -> str:
        """Where clients find it, `host:port`."""

    @property
    def pid(self) -> int:
        """The operating system's id of its process."""

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""

    def stop(self) -> None:
        """End it in order and wait until it is gone; doing it twice is fine."""

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ChildBroker:
    """A broker that is one child process of ours on 127.0.0.1; it never outlives us (on Linux)."""

    STOP_SECONDS = 10.0
    """How long an orderly end may take before it is killed."""

    def __init__(self, child: Child, port: int) -> None:
        self.child = child
        self.port = port

    @property
    def bootstrap(self) -> str:
        """Where clients find it, `host:port`."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The operating system's id of its process."""
        return self.child.pid

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return self.child.alive

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after `STOP_SECONDS`; waits until it is gone. Twice is fine."""
        if self.alive:
            self.child.stop(self.STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL, as a crash would; waits until it is gone."""
        if self.alive:
            self.child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def choose_port(wanted: int | None) -> int:
    """`wanted`, or a free port.

    Raises:
        BrokerUnavailable: somebody listens on `wanted`; a client would talk to that one instead.
    """
    if wanted is not None and listening(wanted):
        raise BrokerUnavailable(
            f"port {wanted} of {HOST} is taken by another process: stop that one, or name another port"
        )
    return wanted or free_port()

"""Child processes: they end with their parent, and an error has the end of their log."""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

_PR_SET_PDEATHSIG = 1


def python_command(module: str, *arguments: str) -> list[str]:
    """Command line that runs one of our modules.

    `-P` keeps the working directory off the import path: a `schemas.py` or `agents/` of the user's can't
    be imported in the place of anything that we need.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def end_with_parent() -> list[str]:
    """Prefix of a command line whose process the kernel ends with this one; empty where that isn't Linux."""
    return [sys.executable, "-S", str(Path(__file__)), str(os.getpid())] if sys.platform == "linux" else []


class ChildFailed(RuntimeError):
    """A child process ended or did not become ready; carries the last lines of its log."""


class Child:
    """A running child process in a process group of its own.

    On Linux the kernel ends it when its parent ends, also after a kill -9.
    """

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Self:
        """Start `command`; its output goes to `log`. `env` is added to this process's environment."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*end_with_parent(), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """The operating system's id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready()`; the child must live meanwhile.

        Raises:
            ChildFailed: it ended, or was not ready in time; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise ChildFailed(f"{self.name} ended with code {self.exit_code}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ChildFailed(f"{self.name} was not ready after {seconds:g} s:\n{self.tail()}")
            time.sleep(0.05)

    def stop(self, grace: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds; its whole process group goes with it."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._signal(signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL at once."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass


class _Ports:
    """Ports of 127.0.0.1, each reserved for one process of this user.

    A port is a byte of a lock file: the kernel frees the byte when the process that locked it ends. The ports
    lie below those that kernels give to outgoing connections, so that no client takes one in the meantime.
    """

    FIRST, COUNT = 20_000, 12_000

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._asked = os.getpid()

    def reserve(self) -> int:
        """The next port that no other process has reserved and that can be bound; kept until we end."""
        for _ in range(self.COUNT):
            self._asked += 1
            port = self.FIRST + self._asked * 7919 % self.COUNT  # a prime: neighbours in time lie far apart
            if self._lock(port) and _bindable(port):
                return port
        raise OSError(f"no free port of 127.0.0.1 from {self.FIRST} to {self.FIRST + self.COUNT - 1}")

    def _lock(self, port: int) -> bool:
        import tempfile  # each child starts through this file: it imports little

        if self._file is None:
            self._file = (Path(tempfile.gettempdir()) / f"driftloop-ports-{os.getuid()}").open("ab")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except BlockingIOError:
            return False
        return True


_ports = _Ports()


def free_port() -> int:
    """A port of 127.0.0.1 on which no process listens, reserved for this process and its children.

    Another process of this user gets other ports until this process has ended.
    """
    return _ports.reserve()


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a process accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _exec(parent: int, command: Sequence[str]) -> None:
    """Ask the kernel to end this process with its parent, then become `command`."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(f"{command[0]} was not started: its parent had ended")
    os.execvp(command[0], list(command))  # noqa: S606 - this process becomes the command


if __name__ == "__main__":
    _exec(int(sys.argv[1]), sys.argv[2:])

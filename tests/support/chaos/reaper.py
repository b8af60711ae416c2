"""Processes that are started again when they end, and somebody who ends them.

The supervisor is what systemd or Kubernetes would be: it knows a name and a way to start, and nothing else.
Its children are tethered to the thread that starts them, so all of it happens in the test's own thread.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

PAUSE = 0.3
"""Seconds between a death and the next start; the kernel needs some, too."""
CHILD = "'s child"
"""Put behind the name of a victim: one of the processes that it has started."""
LIVES = 25
"""Deaths of their own accord after which a process is in a crash loop, and the test has failed."""


class Process(Protocol):
    """`Child` and `Broker` both are one."""

    @property
    def pid(self) -> int: ...
    @property
    def alive(self) -> bool: ...
    def kill(self) -> None: ...
    def stop(self) -> None: ...


@dataclass
class Ward:
    """One process under supervision."""

    name: str
    start: Callable[[], Process]
    process: Process
    dead_since: float | None = None
    kills: int = 0
    own_deaths: int = 0
    """Ended though nobody killed it."""


@dataclass
class Supervisor:
    """Starts processes, and starts them again when they end."""

    wards: dict[str, Ward] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    """What happened, with the seconds since the beginning."""
    began: float = field(default_factory=time.monotonic)

    def watch(self, name: str, start: Callable[[], Process]) -> None:
        """Start it now, and whenever it ends."""
        self.wards[name] = Ward(name, start, start())

    def kill(self, name: str) -> None:
        """SIGKILL; it comes back by `tend`."""
        ward = self.wards[name]
        ward.process.kill()
        ward.kills += 1
        ward.dead_since = time.monotonic()
        self.tell(f"kill -9 {name}")

    def kill_child(self, name: str, dice: random.Random) -> bool:
        """SIGKILL to one of its children, which it is itself to replace; False if it has none just now."""
        children = _children(self.wards[name].process.pid)
        if not children:
            return False
        pid = dice.choice(children)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.tell(f"kill -9 a child of {name} (pid {pid})")
        return True

    def tend(self) -> None:
        """Start what has ended."""
        for ward in self.wards.values():
            if ward.dead_since is None and not ward.process.alive:
                ward.dead_since = time.monotonic()
                ward.own_deaths += 1
                self.tell(f"{ward.name} ended by itself")
                assert ward.own_deaths <= LIVES, f"{ward.name} is in a crash loop"
            if ward.dead_since is not None and time.monotonic() - ward.dead_since >= PAUSE:
                ward.process = ward.start()
                ward.dead_since = None
                self.tell(f"{ward.name} started again")

    def stop(self) -> None:
        """End all of it, the newest first."""
        for ward in reversed(self.wards.values()):
            ward.process.stop()

    def tell(self, what: str) -> None:
        """Note what happened."""
        self.story.append(f"{time.monotonic() - self.began:6.1f} s  {what}")

    @property
    def own_deaths(self) -> dict[str, int]:
        """Who ended without having been killed, and how often."""
        return {ward.name: ward.own_deaths for ward in self.wards.values() if ward.own_deaths}


@dataclass
class Reaper:
    """Kills at random moments, in the order that the seed says."""

    supervisor: Supervisor
    victims: Sequence[str]
    seed: int
    pauses: tuple[float, float]
    """Seconds between two kills, least and most."""
    kills: int = 0
    _random: random.Random = field(init=False)
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - chaos that can be repeated
        self._next = time.monotonic() + self._random.uniform(*self.pauses)

    def swing(self) -> bool:
        """Kill whoever is next, if it is time and there is somebody; whether there was."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._random.uniform(*self.pauses)
        alive = [name for name in self.victims if self._ward(name).process.alive]
        killed = bool(alive) and self._killed(self._random.choice(alive))
        self.kills += killed
        return killed

    def _ward(self, victim: str) -> Ward:
        return self.supervisor.wards[victim.removesuffix(CHILD)]

    def _killed(self, victim: str) -> bool:
        if victim.endswith(CHILD):
            return self.supervisor.kill_child(victim.removesuffix(CHILD), self._random)
        self.supervisor.kill(victim)
        return True


def _children(parent: int) -> list[int]:
    """Process ids, from Linux's own table."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and int(_status(entry)[1]) == parent:
                found.append(int(entry.name))
    return sorted(found)


def _status(entry: Path) -> list[str]:
    """State, parent, ... of a process."""
    return (entry / "stat").read_text().rpartition(")")[2].split()


def log_of(folder: Path, name: str) -> Path:
    """Where a process of this name writes."""
    return folder / "logs" / f"{name}.log"

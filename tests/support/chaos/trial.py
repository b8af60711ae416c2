"""One trial: load and trouble at the same time, then calm, then the accounts."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.chaos.accounts import Accounts, complaints
from tests.support.chaos.load import Load
from tests.support.chaos.reaper import Reaper
from tests.support.chaos.system import System

PATIENCE = 45.0
"""Seconds without any news after which what is missing is lost: three starts and rebalances of a worker."""
CALM = 5.0
"""Seconds without any news after which open segments get more rows."""
Failures = list[BaseException]


@contextmanager
def meanwhile(
    system: System, run: Callable[[Callable[[], bool]], None], failed: Failures | None = None
) -> Iterator[Failures]:
    """Have `run(enough)` work in a thread until the block ends, and wait for it.

    Yields what went wrong in the thread, so that the block needn't go on; it is raised at the end.
    """
    calm, wrong = threading.Event(), Failures() if failed is None else failed

    def work() -> None:
        try:
            run(calm.is_set)
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            wrong.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield wrong
    finally:
        calm.set()
        while thread.is_alive():
            system.supervisor.tend()
            thread.join(0.1)
    if wrong:
        raise wrong[0]


def survive(system: System, load: Load, accounts: Accounts, reaper: Reaper, kills: int) -> None:
    """Kill under load, `kills` times."""
    with meanwhile(system, load.run) as failed:
        while reaper.kills < kills and not failed:
            reaper.swing()
            system.supervisor.tend()
            accounts.read(0.05)
        system.supervisor.tell("calm")


def settle(system: System, load: Load, accounts: Accounts) -> None:
    """Wait until everything has arrived; then have everybody give up who waits in vain."""
    tend = system.supervisor.tend
    accounts.drain(lambda: accounts.outcomes_of(load.ledgers) >= load.labels, PATIENCE, tend)
    system.supervisor.tell("everybody has met, or nobody else will")
    for turn, patience in enumerate((CALM, CALM, PATIENCE)):
        if not turn or wrong(system, load, accounts):
            load.close(system.settings.kafka.data_partitions, turn)
            accounts.drain(lambda: not wrong(system, load, accounts), patience, tend)
    system.supervisor.tell("nothing more comes")


def wrong(system: System, load: Load, accounts: Accounts) -> list[str]:
    """All complaints."""
    accounts.stored(system.settings.store.folder, load.ledgers)
    return complaints(load.ledgers, accounts, system.settings)


def report(system: System, load: Load, accounts: Accounts, seed: int) -> str:
    """What happened, for whoever reads the failure; also printed."""
    published = sum(len(one.predicted) for one in load.ledgers.values())
    lines = [
        f"seed {seed}: {published} predictions and {load.labels} labels of {len(load.models)} models, "
        f"{sum(one.twice for one in load.ledgers.values())} of them twice, "
        f"{sum(len(one.orphans) for one in load.ledgers.values())} orphans; "
        f"{accounts.once.repetitions} repetitions recognised; logs and data in {system.folder}",
        f"ended by themselves: {system.supervisor.own_deaths or 'nobody'}",
        *system.supervisor.story,
        *wrong(system, load, accounts),
    ]
    told = "\n".join(lines)
    sys.stdout.write(told + "\n")
    return told


def attend(system: System, accounts: Accounts) -> None:
    """Read what came, and start who ended."""
    system.supervisor.tend()
    accounts.read(0.1)


def until(holds: Callable[[], bool], system: System, accounts: Accounts, what: str) -> None:
    """Attend until a condition holds; says what didn't come true."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"after {PATIENCE:g} s still no {what}; see {system.folder}"
        attend(system, accounts)


def more(count: int, system: System, accounts: Accounts) -> None:
    """Attend until so many more rows were joined."""
    found = accounts.places["outcomes"]
    wanted = found.total() + count
    until(lambda: found.total() >= wanted, system, accounts, f"{wanted} outcomes, but {found.total()}")

"""One Apache Kafka a folder.

Kafka locks its data folder itself, but too late: a second node that is broker and controller in one writes to
the metadata log ("Performing controller activation") before it fails with "Failed to acquire lock". In 5 of 6
tries (4.3.1) the first one couldn't create a topic any more. So we look before anything is started.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from driftloop.infra.brokers.broker import BrokerUnavailable

SECONDS = 10.0
"""How long a start waits for another broker to leave: one whose parent was killed needs about a second."""


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Have the folder for ourselves while a broker starts there; once it serves, its own lock takes over.

    Raises:
        BrokerUnavailable: a broker runs there, or is being started, and didn't leave within `SECONDS`.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with (folder / "starting.lock").open("a") as starting, (folder / "data" / ".lock").open("a") as kafkas:
        deadline = time.monotonic() + SECONDS
        while not (_free(starting, keep=True) and _free(kafkas, keep=False)):
            if time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"another Apache Kafka runs in {folder}: use that one, stop it, or name another folder"
                )
            time.sleep(0.05)
        yield


def _free(file: IO[str], keep: bool) -> bool:
    """Whether nobody else holds the lock of `file`; with `keep` it is ours until the file is closed."""
    lock = fcntl.flock if keep else fcntl.lockf  # Java's locks are lockf's, and end with the process
    try:
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    if not keep:
        fcntl.lockf(file, fcntl.LOCK_UN)
    return True

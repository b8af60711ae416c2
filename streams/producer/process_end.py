"""Open publishers of this process: told of a fork, and closed when the process ends without closing them.

A process ends in many ways. `atexit` covers the end of the script, `sys.exit` and exceptions; a worker of
`multiprocessing` (or billiard, Celery's copy of it) runs its finalizers instead. SIGTERM gets a handler only
where the program has none: it closes the publishers in a thread, since the main thread may hold a lock of
theirs, and ends the process by the same signal.
"""

import atexit
import os
import signal
import sys
import threading
from typing import Any, Protocol
from weakref import WeakSet

FORKING_LIBRARIES = ("multiprocessing", "billiard")
"""Libraries whose forked workers end without `atexit`; both have `util.Finalize`."""


class Closable(Protocol):
    """What a publisher offers."""

    def after_fork(self) -> None:
        """Called in a forked child, which has none of the parent's threads."""
        ...

    def close_at_exit(self) -> None:
        """Close within a limit, and say on stderr what was not delivered."""
        ...


_open: WeakSet[Closable] = WeakSet()


def register(publisher: Closable) -> None:
    """Close the publisher when this process ends."""
    _open.add(publisher)
    for name in FORKING_LIBRARIES:
        util: Any = sys.modules.get(f"{name}.util")
        if util is not None:
            util.Finalize(None, _close_all, exitpriority=0)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _close_all() -> None:
    for publisher in list(_open):
        publisher.close_at_exit()


def _on_sigterm(*_: object) -> None:
    def close_and_end() -> None:
        _close_all()
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=close_and_end, name="publisher-end", daemon=True).start()


def _after_fork() -> None:
    for publisher in list(_open):
        publisher.after_fork()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_close_all)

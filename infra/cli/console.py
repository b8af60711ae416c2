"""What a person at a terminal sees: errors without tracebacks, and a way to wait for Ctrl-C."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from driftloop.mlops_core.errors import DriftloopError


@contextmanager
def errors() -> Iterator[None]:
    """Print our own errors in one line and exit with 1; everything else is a bug and keeps its traceback."""
    from driftloop.infra.brokers import BrokerUnavailable
    from driftloop.infra.processes.child import ChildFailed
    from driftloop.streams.producer.publisher import BufferFull, NotDelivered

    try:
        yield
    except (DriftloopError, BrokerUnavailable, ChildFailed, BufferFull, NotDelivered) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error


def until_interrupted() -> None:
    """Wait for SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(1.0):
        pass


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log lines with their fields, one a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Fields())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("httpx", "aiokafka", "faust", "mode", "driftloop.streams.processing.faust_transport"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("mode.timers").setLevel(logging.ERROR)  # a timer that comes late is no news here


class _Fields(logging.Formatter):
    """`time level logger: constant sentence key=value ...`."""

    _KNOWN = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={v!r}" for k, v in vars(record).items() if k not in self._KNOWN)
        head = f"{self.formatTime(record)} {record.levelname.lower()} {record.name}"
        line = f"{head}: {record.getMessage()} {fields}"
        return line.rstrip() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


def one_thread_a_matrix() -> None:
    """Have numpy multiply in the thread that asks, unless the environment says otherwise; call it before it.

    An agent's matrices are small: threads that wait for each other took thirty times the CPU (160 columns in
    pairs, 30 us a row, not 1), and a worker shares its cores with others.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

"""What all commands share: errors without tracebacks, waiting for Ctrl-C, logging."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from driftloop.mlops_core.errors import DriftloopError


def group(help: str | None = None, name: str | None = None) -> typer.Typer:  # noqa: A002 - typer's word
    """A group of commands. Help is plain: typer's boxes take three times as long as everything else."""
    return typer.Typer(
        name=name, help=help, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )


@contextmanager
def errors() -> Iterator[None]:
    """Print driftloop's own errors in one line and exit with 1; any other exception keeps its traceback."""
    from driftloop.infra.brokers import BrokerUnavailable
    from driftloop.infra.processes.child import ChildFailed
    from driftloop.streams.producer.publisher import BufferFull, NotDelivered

    try:
        yield
    except (DriftloopError, BrokerUnavailable, ChildFailed, BufferFull, NotDelivered) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error


def until_interrupted(look: Callable[[], None] = lambda: None) -> None:
    """Wait for SIGINT or SIGTERM; `look` is called once a second."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(1.0):
        look()


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write log records to stderr, a line each, with their extra fields."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Fields())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for logger in ("httpx", "aiokafka", "faust", "mode", "driftloop.streams.processing.faust_transport"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    logging.getLogger("mode.timers").setLevel(logging.ERROR)  # it warns about every late timer


class _Fields(logging.Formatter):
    """`time level logger: constant sentence key=value ...`."""

    _KNOWN = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={v!r}" for k, v in vars(record).items() if k not in self._KNOWN)
        head = f"{self.formatTime(record)} {record.levelname.lower()} {record.name}"
        line = f"{head}: {record.getMessage()} {fields}"
        return line.rstrip() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


def limit_blas_threads() -> None:
    """Make numpy multiply in one thread unless OPENBLAS_NUM_THREADS is set; call it before numpy's import.

    An agent's matrices are small, so more threads only wait for each other: 160 columns in pairs took 30 us
    of CPU a row with two threads, 1 us with one.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

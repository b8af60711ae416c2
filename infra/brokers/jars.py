"""Apache Kafka's jars: what is needed to have them, and fetching them from Maven Central once.

They lie outside git and outside the project, one folder a version, shared by everybody on the machine
account. A folder that is there is complete: it is filled under another name, then renamed.
"""

import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from driftloop.infra.brokers.broker import BrokerUnavailable

FILES = Path(__file__).parent.parent / "kafka"
"""Shipped with the package: `pom.xml`, `server.properties`, `log4j2.properties`."""
OLDEST_JAVA = 17
FETCH_SECONDS = 600.0
"""44 MB; Maven's own plugins come on top the first time."""


def missing(folder: Path | None = None) -> str | None:
    """Why Apache Kafka can't run here and what to install; None when it can (the network is not tried)."""
    java = shutil.which("java")
    if java is None:
        return f"{_need_java()}; there is no `java` on the PATH"
    version = _java_version(java)
    if version is None or version < OLDEST_JAVA:
        return f"{_need_java()}; {java} is {f'version {version}' if version else 'not a working Java'}"
    if shutil.which("mvn") is None and not (folder or default_folder()).is_dir():
        return (
            f"Apache Kafka {kafka_version()} is fetched by Maven the first time, and there is no `mvn` on "
            "the PATH: install it (Debian, Ubuntu: apt install maven; macOS: brew install maven)"
        )
    return None


def fetch(folder: Path | None = None) -> Path:
    """The folder with the jars, filled first if it isn't there; several may ask at once.

    Raises:
        BrokerUnavailable: Maven could not fetch them; with the end of what it said.
    """
    folder = folder or default_folder()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        filled = Path(scratch) / "jars"
        _download(filled)
        try:
            filled.rename(folder)
        except OSError:  # somebody else was quicker: theirs is as complete as ours
            if not folder.is_dir():
                raise
    return folder


def default_folder() -> Path:
    """`driftloop/kafka-<version>` in the user's cache, where the XDG specification puts it."""
    given = os.environ.get("XDG_CACHE_HOME")  # the desktop's setting, not one of ours
    return (Path(given) if given else Path.home() / ".cache") / "driftloop" / f"kafka-{kafka_version()}"


@cache
def kafka_version() -> str:
    """Which Apache Kafka the `pom.xml` asks for; it is written down only there."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", (FILES / "pom.xml").read_text())
    if found is None:
        raise BrokerUnavailable(f"no <kafka.version> in {FILES / 'pom.xml'}: reinstall driftloop")
    return found[1]


def _download(folder: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(FILES / "pom.xml"), "dependency:copy-dependencies"]
    options = [f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
    who = f"Maven could not fetch Apache Kafka {kafka_version()}"
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise BrokerUnavailable(f"{who}: there is no `mvn` on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise BrokerUnavailable(f"{who} within {FETCH_SECONDS:g} s: is Maven Central reachable?") from error
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise BrokerUnavailable(f"{who} (the network is needed this once):\n{said}")


@cache
def _java_version(java: str) -> int | None:
    """Major version of this `java`; None if it doesn't say (macOS has one that only asks to install Java)."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else None


def _need_java() -> str:
    return (
        f"Apache Kafka needs Java {OLDEST_JAVA} or newer: install it "
        "(Debian, Ubuntu: apt install default-jre-headless; macOS: brew install openjdk)"
    )

"""Supervises one replica process: starts it, probes whether it is ready, restarts it when it ends."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp

from driftloop.infra.processes.child import Child, free_port, python_command
from driftloop.infra.serving.replica import CANNOT_SERVE, LOAD_PAGE
from driftloop.schemas.settings import KafkaSettings, PublisherSettings, TrainingSettings

STARTING_LOOKS = 0.1
"""Seconds between two looks at a replica that isn't ready."""
READY_LOOKS = 0.25
PROBE_SECONDS = 1.0
BACK_OFF_SECONDS = 0.5
LONGEST_BACK_OFF_SECONDS = 30.0
SETTLED_SECONDS = 60.0
"""A replica that was ready this long begins with the shortest back-off again."""
HUNG_SECONDS = 15.0
"""A replica that was ready and hasn't answered for this long is killed."""
STOP_SECONDS = 20.0
LOAD_SECONDS = 5.0
"""How long a replica that starts has to load the other versions of its blend before it gets requests."""
MAX_CRASHES = 3
"""Starts of a version that was never ready, until it counts as broken."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """What every replica is started with."""

    tracking_uri: str
    kafka: KafkaSettings
    publisher: PublisherSettings
    training: TrainingSettings
    logs: Path

    def start(self, model: str, version: str, place: int, port: int) -> Child:
        """Start the process from the main thread: the kernel ends a child when its thread ends."""
        name = f"{model}:{version}/{place}"
        command = python_command("driftloop.infra.serving.replica", "--model", model, "--version", version)
        command += ["--port", str(port), "--tracking-uri", self.tracking_uri]
        command += ["--kafka", self.kafka.model_dump_json(), "--publisher", self.publisher.model_dump_json()]
        command += ["--training", self.training.model_dump_json(exclude_defaults=True)]
        log_file = self.logs / f"{quote(model, safe='')}-{quote(version, safe='')}-{place}.log"
        return Child.start(name, command, log_file)


class ReplicaSupervisor:
    """One replica of a version: its process, its address, its requests in flight.

    `blended` returns the versions that the replica's answers average; it loads them before it is ready.
    """

    def __init__(
        self,
        launch: Launch,
        model: str,
        version: str,
        place: int,
        session: aiohttp.ClientSession,
        blended: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.name = f"{model}:{version}/{place}"
        self.ready = False
        self.was_ready = False
        self.url = ""
        self.in_flight = 0
        """Requests that it has not answered yet."""
        self.crashes = 0
        """In a row."""
        self.error: str | None = None
        """Why it ended the last time; the end of its log."""
        self.hopeless = False
        """Its exit code says that it can't serve this version."""
        self._launch = launch
        self._identity = (model, version, place)
        self._session = session
        self._blended = blended
        self._child: Child | None = None
        self._seen = 0.0
        self._task = asyncio.create_task(self._restart_forever(), name=f"keep {self.name}")

    @property
    def pid(self) -> int | None:
        """The process; None between two."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def mark_not_ready(self) -> None:
        """A request to it failed: the router sends nothing to it until a probe succeeds."""
        self.ready = False

    async def load(self, versions: Collection[str], seconds: float) -> None:
        """Have the replica load other versions of its model, for a blend with them.

        After `seconds`, or when one can't be loaded, the replica answers without those that are missing.
        """
        if not set(versions) - {self._identity[1]}:
            return
        limit = aiohttp.ClientTimeout(total=seconds)
        page = f"{self.url}/{'/'.join(LOAD_PAGE)}"
        try:
            async with self._session.post(page, json=list(versions), timeout=limit) as reply:
                await reply.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fields = {"replica": self.name, "versions": list(versions), "error": repr(error)}
            log.warning("versions of a blend are not loaded yet", extra=fields)

    async def drain(self, seconds: float) -> bool:
        """Wait until it has no request in flight; False if it still has after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return not self.in_flight

    async def stop(self) -> None:
        """End the process with SIGTERM; it publishes its remaining predictions first."""
        self.ready = False
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._child is not None:
            await asyncio.to_thread(self._child.stop, STOP_SECONDS)

    async def _restart_forever(self) -> None:
        while True:
            began = time.monotonic()
            await self._run_process()
            self.ready = False
            self.crashes = 1 if time.monotonic() - began > SETTLED_SECONDS else self.crashes + 1
            pause = min(BACK_OFF_SECONDS * 2 ** (self.crashes - 1), LONGEST_BACK_OFF_SECONDS)
            fields = {"replica": self.name, "error": self.error, "again_in": pause}
            log.warning("a replica ended", extra=fields)
            await asyncio.sleep(pause)

    async def _run_process(self) -> None:
        """Start the process and probe it until it ends."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        child = self._child = self._launch.start(*self._identity, port)
        self._seen = time.monotonic()
        while child.alive:
            await self._probe(child)
            await asyncio.sleep(READY_LOOKS if self.ready else STARTING_LOOKS)
        self.hopeless = child.exit_code == CANNOT_SERVE
        self.error = f"{self.name} ended with code {child.exit_code}:\n{child.tail()}"

    async def _probe(self, child: Child) -> None:
        if self.ready or await self._answers():
            if not self.ready:
                await self.load(self._blended(), LOAD_SECONDS)
            self.ready = self.was_ready = True
            self._seen = time.monotonic()
        elif self.was_ready and time.monotonic() - self._seen > HUNG_SECONDS:
            log.error("a replica hangs and is killed", extra={"replica": self.name})
            await asyncio.to_thread(child.kill)

    async def _answers(self) -> bool:
        """Whether a ready replica of this version answers; another process may have taken the port."""
        model, version, _ = self._identity
        page = f"{self.url}/v2/models/{quote(model, safe='')}/versions/{quote(version, safe='')}/ready"
        try:
            async with self._session.get(page, timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS)) as reply:
                return reply.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

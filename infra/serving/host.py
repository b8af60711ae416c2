"""The serving host: router and replicas of one machine, one process in front and one a replica behind.

    python -m driftloop.infra.serving.host --settings driftloop.yaml

Replicas are its children and end with it; the plan stays in its folder, and a restart makes it true again.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from driftloop.infra.cli import console
from driftloop.infra.serving import asgi
from driftloop.infra.serving.admin import Admin
from driftloop.infra.serving.asgi import Answer, Handle, Refused, Request
from driftloop.infra.serving.fleet import Fleet
from driftloop.infra.serving.replica_supervisor import Launch
from driftloop.infra.serving.router import Router, client_session
from driftloop.infra.serving.traffic import TrafficReporter
from driftloop.mlops_core.errors import Unavailable
from driftloop.schemas.settings import Settings


class Host:
    """Everything that lives on the host's event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._handle: Handle = _not_yet

    async def handle(self, request: Request) -> Answer:
        """Answer one request."""
        return await self._handle(request)

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """Restore what was served, and end the replicas at the end."""
        settings = self._settings
        folder = settings.serving.folder.absolute()
        launch = Launch(
            settings.registry.tracking_uri,
            settings.kafka,
            settings.publisher,
            settings.training,
            folder / "logs",
        )
        async with client_session() as session:
            fleet = Fleet(launch, session, folder / "plan.json")
            reports = TrafficReporter(
                settings.kafka, settings.publisher, fleet.is_shared, settings.serving.report_seconds
            )
            router = Router(fleet, session, CollectorRegistry(), reports.tally)
            admin = Admin(fleet, settings.serving.host)

            async def handle(request: Request) -> Answer:
                return await (admin if request.path[:1] == ("admin",) else router).handle(request)

            fleet.restore()
            self._handle = handle
            reporting = asyncio.create_task(reports.run())
            try:
                yield
            finally:
                reporting.cancel()
                await asyncio.wait([reporting])
                await asyncio.gather(fleet.close(), asyncio.to_thread(reports.close))


async def _not_yet(_: Request) -> Answer:
    raise Refused(503, "the serving host is still starting")


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        Unavailable: somebody else listens on the port.
        Conflict: the saved plan can't be read.
    """
    console.log_to_stderr()
    host, port = settings.serving.host, settings.serving.port
    try:
        listener = asgi.listen(host, port)
    except OSError as error:
        raise Unavailable(
            f"can't listen on {host}:{port}: {error.strerror}; choose another serving.port"
        ) from error
    print(f"predictions at http://{host}:{listener.getsockname()[1]}", flush=True)  # noqa: T201 - for a person
    serving = Host(settings)
    asyncio.run(asgi.serve(asgi.application(serving.handle, serving.life), listener))


def main(arguments: Sequence[str] | None = None) -> None:
    """The process."""
    parser = argparse.ArgumentParser(prog="driftloop.infra.serving.host", description="Router and replicas.")
    parser.add_argument("--settings", type=Path, help="YAML or JSON; DRIFTLOOP_... variables go before it")
    with console.errors():
        run(Settings.load(parser.parse_args(arguments).settings))


if __name__ == "__main__":
    main()

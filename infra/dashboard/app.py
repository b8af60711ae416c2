"""The page over HTTP: Starlette, server-sent events, no state of its own.

    GET /                        the page
    GET /api/v1/snapshot         everything that is kept, and the sequence number to go on from
    GET /api/v1/stream?after=ID  what came after, as it comes (server-sent events)
        both: &model=NAME        of other models only the status; the empty name is the first model's
    GET /api/v1/events/{id}      the chain of causes behind one event
    GET /metrics, /healthz       for Prometheus and for probes

A stream's event id is `run-sequence`; a browser that comes back with one of this run gets what it missed,
with one of another run it is told to `reset`. A browser is asked for nothing while it is slow: its next
delta is computed when it has taken the last, so nothing queues up for it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import uplot
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from driftloop.infra.dashboard import metrics
from driftloop.infra.dashboard.agent_lag import Agents
from driftloop.infra.dashboard.board import Board
from driftloop.infra.dashboard.feed import Feed
from driftloop.infra.wiring.agents import AGENTS
from driftloop.schemas.events import Part
from driftloop.schemas.settings import Settings

STATIC = Path(__file__).parent / "static"
VENDOR = Path(uplot.__file__).parent / "static"
TICK_SECONDS, HEARTBEAT_SECONDS = 0.25, 15.0
GRACE_SECONDS = 2
"""For open answers when the server stops; a stream ends within a tick."""
GUARDS = {
    b"content-security-policy": b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def build(settings: Settings, stopping: Callable[[], bool] = lambda: False) -> Starlette:
    """The app; it begins to read Kafka when it starts, and stops when it ends.

    A server says `stopping` before it waits for its connections: streams then end by themselves.
    """
    feed = Feed(settings.kafka, Board(settings.drift, settings.rollout))
    agents = Agents(settings.kafka, AGENTS)
    page = Page(feed, agents, settings, stopping)

    @asynccontextmanager
    async def reading(_app: Starlette) -> AsyncIterator[None]:
        feed.start()
        agents.start()
        yield
        await asyncio.gather(asyncio.to_thread(feed.stop), asyncio.to_thread(agents.stop))

    return Starlette(
        routes=[
            Route("/", page.index),
            Route("/api/v1/snapshot", page.snapshot),
            Route("/api/v1/stream", page.stream),
            Route("/api/v1/events/{id:str}", page.chain),
            Route("/metrics", page.metrics),
            Route("/healthz", page.healthz),
            Mount("/static/vendor", StaticFiles(directory=VENDOR)),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(SecurityHeaders), Middleware(GZipMiddleware, minimum_size=1000)],
        lifespan=reading,
    )


def run(settings: Settings) -> None:
    """Serve the page until SIGINT or SIGTERM (`driftloop dashboard`)."""
    at = settings.dashboard
    app = build(settings, lambda: server.should_exit)
    config = uvicorn.Config(
        app, host=at.host, port=at.port, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS
    )
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):  # raised again by the server once all is closed
        server.run()
    if not server.started:
        raise SystemExit(3)  # as uvicorn itself: it has said why


class Page:
    """The handlers, over one feed."""

    def __init__(self, feed: Feed, agents: Agents, settings: Settings, stopping: Callable[[], bool]) -> None:
        self._feed = feed
        self._agents = agents
        self._stopping = stopping
        self._settings = settings
        self._run = secrets.token_hex(4)
        self._registry = metrics.registry(feed.read)
        self._registry.register(agents)
        self._last: tuple[int, int, str | None, bytes] = (-1, -1, None, b"")

    async def index(self, _request: Request) -> Response:
        """The page itself."""
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def snapshot(self, request: Request) -> Response:
        """Everything that is kept, or that of one model."""
        kafka, only = self._settings.kafka, request.query_params.get("model")
        told = {
            **self._feed.read(lambda board: board.news(0, only)),
            "kafka": {"bootstrap": kafka.bootstrap, "prefix": kafka.prefix},
            "window_rows": self._settings.drift.window_rows,
        }
        return self._json({**told, "id": self._id(int(str(told["sequence"]))), **self._alive()})

    async def stream(self, request: Request) -> Response:
        """Deltas, about four a second while there is news."""
        known = request.headers.get("last-event-id") or request.query_params.get("after", "")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        deltas = self._deltas(known, request.query_params.get("model"))
        return StreamingResponse(deltas, media_type="text/event-stream", headers=headers)

    async def chain(self, request: Request) -> Response:
        """The event and what led to it, newest first; 404 if it is not known (any more)."""
        event_id = request.path_params["id"]
        chain = self._feed.read(lambda board: board.chain(event_id))
        if not chain:
            return self._json({"error": f"event {event_id} is not among those that the page keeps"}, 404)
        return self._json({"chain": chain, "complete": chain[-1].caused_by is None})

    async def metrics(self, _request: Request) -> Response:
        """The board as Prometheus sees it."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def healthz(self, _request: Request) -> Response:
        """200 while Kafka answers, else 503 with the reason."""
        health = self._feed.health
        return self._json({**asdict(health), "lag": health.lag}, 200 if health.connected else 503)

    async def _deltas(self, known: str, only: str | None) -> AsyncIterator[bytes]:
        run, _, number = known.partition("-")
        newest = self._feed.read(lambda board: board.sequence)
        yield b"retry: 1000\n\n"
        if run != self._run or not number.isdigit() or int(number) > newest:
            yield b"event: reset\ndata: {}\n\n"
            return
        cursor, said, quiet = int(number), self._alive(), 0.0
        while not self._stopping():
            sequence, news = self._encode_news(cursor, only)
            alive = self._alive()
            if sequence > cursor or _differs(said, alive):
                yield b"id: %s\ndata: %s\n\n" % (self._id(sequence).encode(), _with(news, alive))
                cursor, said, quiet = sequence, alive, 0.0
            elif quiet >= HEARTBEAT_SECONDS:
                yield b": still here\n\n"
                quiet = 0.0
            await asyncio.sleep(TICK_SECONDS)
            quiet += TICK_SECONDS

    def _encode_news(self, since: int, only: str | None) -> tuple[int, bytes]:
        """What came after `since`; browsers at the same place share one encoding."""
        newest = self._feed.read(lambda board: board.sequence)
        if newest == since:
            return newest, b'{"models":{}}'
        if self._last[:3] != (since, newest, only):
            news = self._feed.read(lambda board: board.news(since, only))
            self._last = (since, int(str(news["sequence"])), only, encode_json(news))
        return self._last[1], self._last[3]

    def _alive(self) -> Mapping[str, object]:
        health = self._feed.health
        return {
            "now": health.now,
            "last_message": health.last_message,
            "caught_up": health.caught_up,
            "trouble": health.error,
            "agents": asdict(self._agents.pace),
        }

    def _id(self, sequence: int) -> str:
        return f"{self._run}-{sequence}"

    def _json(self, told: object, status: int = 200) -> Response:
        headers = {"cache-control": "no-store"}
        return Response(encode_json(told), status, headers=headers, media_type="application/json")


class SecurityHeaders:
    """Puts the security headers on every response."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the answer gets the headers when it starts."""

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *GUARDS.items()]
            await send(message)

        await self._app(scope, receive, guarded)


def _differs(before: Mapping[str, object], now: Mapping[str, object]) -> bool:
    return any(before[key] != now[key] for key in ("caught_up", "trouble", "agents"))


def _with(news: bytes, alive: Mapping[str, object]) -> bytes:
    """Both objects as one."""
    return news[:-1] + b"," + orjson.dumps(alive)[1:]


def encode_json(told: object) -> bytes:
    """JSON of what the board tells. Raises TypeError for what has no place on the page."""
    return orjson.dumps(told, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Part):
        return value.model_dump()
    raise TypeError(f"{type(value).__name__} has no place on the page")

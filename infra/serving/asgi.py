"""The thin end of HTTP: one function from request to answer, on uvicorn, without a framework.

Routing a one-row prediction through a web framework costs more than scoring it, and a `match` over method
and path says which pages there are just as well.
"""

import signal
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import orjson
import uvicorn

MAX_BODY = 64 << 20
"""Bytes a request may have: 100,000 rows of 40 numbers fit in."""
DRAIN_SECONDS = 30
"""How long an ending server waits for answers in progress."""
KEEP_ALIVE_SECONDS = 75
"""Longer than any client of ours keeps an idle connection, so that it is never the server who hangs up."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. `path` is split at slashes and decoded; empty parts are left out."""

    method: str
    path: tuple[str, ...]
    body: bytes = b""
    client: str = ""
    """Address of the other end."""
    headers: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int
    body: bytes
    kind: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Beside type and length; for the router, not for clients."""


class Refused(Exception):
    """A request that can't be answered: the status, and a sentence that says what and where."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


Handle = Callable[[Request], Awaitable[Answer]]


def answer(content: object, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    """JSON of `content`."""
    return Answer(status, orjson.dumps(content), headers=headers)


def refusal(error: Refused) -> Answer:
    """The JSON that every refusal has."""
    return answer({"error": str(error)}, error.status)


def no_page(request: Request, pages: str) -> Refused:
    """404, saying which pages there are."""
    return Refused(404, f"no page {request.method} /{'/'.join(request.path)}; there are {pages}")


def application(handle: Handle, life: Callable[[], AbstractAsyncContextManager[None]]) -> App:
    """The ASGI application: `life` is entered before the first request and left after the last."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(life, receive, send)
        elif scope["type"] == "http":
            await _send(send, await _answer_or_refuse(handle, scope, receive))

    return app


async def serve(app: App, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; answers in progress are finished, then `life` is left."""
    config = uvicorn.Config(
        app,
        access_log=False,
        lifespan="on",
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws="none",
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again when it is done; having been drained is no failure, so exit with 0.
        signal.signal(number, lambda *_: None)
    await server.serve(sockets=[listener])
    if not server.started:
        raise SystemExit(1)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError if somebody else has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, or asyncio leaves Nagle's algorithm on, and every answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(1024)
    return listener


async def _answer_or_refuse(handle: Handle, scope: Message, receive: Receive) -> Answer:
    try:
        request = Request(
            scope["method"],
            tuple(unquote(part) for part in scope["raw_path"].decode("latin-1").split("/") if part),
            await _body(receive) if scope["method"] in {"POST", "PUT"} else b"",
            (scope["client"] or ("",))[0],
            dict(scope["headers"]),
        )
        return await handle(request)
    except Refused as error:
        return refusal(error)


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the client left before its request was whole")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            raise Refused(413, f"the body has more than {MAX_BODY} bytes; send fewer rows at a time")
        if not message.get("more_body"):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


async def _send(send: Send, given: Answer) -> None:
    length = (b"content-length", str(len(given.body)).encode())
    headers = [(b"content-type", given.kind), length, *given.headers]
    await send({"type": "http.response.start", "status": given.status, "headers": headers})
    await send({"type": "http.response.body", "body": given.body})


async def _lifespan(
    life: Callable[[], AbstractAsyncContextManager[None]], receive: Receive, send: Send
) -> None:
    await receive()
    async with life():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})

"""The clients' door: rows go to the versions that their entities belong to, and come back in order.

While one version has all traffic, bodies pass through unread. A replica that fails is asked no more until
it answers its probe; its requests go to another replica of the version, then to the version with the most
traffic beside it. So a canary that crashes costs its clients nothing but a little time.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from driftloop.infra.serving import asgi, protocol
from driftloop.infra.serving.asgi import Answer, Refused, Request
from driftloop.infra.serving.fleet import Fleet, Served
from driftloop.infra.serving.protocol import ROWS_HEADER, Rows, Scored
from driftloop.infra.serving.replica import LATENCY_BUCKETS
from driftloop.infra.serving.replica_supervisor import ReplicaSupervisor
from driftloop.infra.serving.split import Split
from driftloop.infra.serving.traffic import Failure, TrafficCounter

FORWARD_SECONDS = 10.0
"""A replica that takes longer counts as failed."""
PAGES = (
    "POST /predict, POST /v2/models/MODEL/infer, POST /v2/models/MODEL/versions/VERSION/infer, "
    "GET /v2/models/MODEL, GET /v2/health/ready, GET /metrics, and /admin/models/MODEL from this machine"
)
_JSON = {"content-type": "application/json"}
_MODEL_FIRST = re.compile(rb'\s*\{\s*"model"\s*:\s*"([^"\\]{1,200})"')
"""A body that names its model first need not be read to be passed on; the replica reads it all."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a call to a replica."""

    answer: Answer | None
    """None if there is none."""
    failure: Failure = ""
    rows: int = 0
    """Rows that the replica scored."""
    seconds: float | None = None
    """How long the answer took, or the timeout; None where there was an error."""


class Router:
    """Answers clients with the fleet's replicas; `tally` counts every call to one."""

    def __init__(
        self, fleet: Fleet, session: aiohttp.ClientSession, registry: CollectorRegistry, tally: TrafficCounter
    ) -> None:
        self._fleet = fleet
        self._tally = tally
        self._session = session
        self._registry = registry
        self._requests = Counter(
            "driftloop_router_requests", "Clients' requests, by status", ["status"], registry=registry
        )
        self._forwards = Counter(
            "driftloop_router_forwards",
            "Requests to replicas, by what became of them",
            ["model", "version", "outcome"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "driftloop_router_fallbacks",
            "Requests that another version answered, by the version that should have",
            ["model", "version"],
            registry=registry,
        )
        self._seconds = Histogram(
            "driftloop_router_seconds", "From request to answer", buckets=LATENCY_BUCKETS, registry=registry
        )

    async def handle(self, request: Request) -> Answer:
        """Answer a client."""
        if request.method == "GET":
            return await self._status(request)
        began = time.perf_counter()
        try:
            given = await self._answer_prediction(request)
        except Refused as error:
            given = asgi.refusal(error)
        self._requests.labels(str(given.status)).inc()
        self._seconds.observe(time.perf_counter() - began)
        return given

    async def _answer_prediction(self, request: Request) -> Answer:
        match request.method, request.path:
            case "POST", ("predict",):
                return await self._predict(request.body)
            case "POST", ("v2", "models", model, "infer"):
                return await self._infer(model, request.body)
            case "POST", ("v2", "models", model, "versions", version, "infer"):
                return await self._forward_to_version("POST", model, version, request)
            case _:
                raise asgi.no_page(request, PAGES)

    async def _predict(self, body: bytes) -> Answer:
        named = _MODEL_FIRST.match(body)
        model = named[1].decode(errors="replace") if named else protocol.read_predict(body, _now()).model
        served, split = self._served_split(model)
        if not split.whole:
            scored = await self._infer_split(served, split, protocol.read_predict(body, _now()))
            if scored is not None:
                return asgi.answer(protocol.predict_answer(scored))
        return (await self._infer_with_fallback(served, model, split.stable, "/predict", body))[1]

    async def _infer(self, model: str, body: bytes) -> Answer:
        served, split = self._served_split(model)
        if not split.whole:
            rows, request = protocol.read_infer(model, body, _now())
            scored = await self._infer_split(served, split, rows)
            if scored is not None:
                return asgi.answer(protocol.infer_answer(scored, request))
        return (await self._infer_with_fallback(served, model, split.stable, _infer_page(model), body))[1]

    async def _infer_split(self, served: Served, split: Split, rows: Rows) -> Scored | None:
        """Scores of all rows, each by the version it belongs to.

        None where a version refuses the rows: then the client's own body goes to the stable version, whose
        refusal names the places as the client counts them.
        """
        places = split.rows(rows.model, rows.keys)
        page = _infer_page(rows.model)
        asked = [
            self._infer_with_fallback(
                served, rows.model, version, page, protocol.write_infer(rows.select(chosen))
            )
            for version, chosen in places.items()
        ]
        answers = await asyncio.gather(*asked)
        if any(given.status >= 400 for _, given in answers):
            return None
        versions, scores = [""] * len(rows), [0.0] * len(rows)
        for chosen, (version, given) in zip(places.values(), answers, strict=True):
            for row, score in zip(chosen, protocol.read_scores(given.body), strict=True):
                versions[row], scores[row] = served.names.get(version, version), score
        return Scored(rows.model, rows.ids, versions, scores)

    async def _infer_with_fallback(
        self, served: Served, model: str, version: str, page: str, body: bytes
    ) -> tuple[str, Answer]:
        """The answer to a POST, and which version gave it: this one, else the one instead of it."""
        given = await self._infer_version(served, model, version, page, body)
        if given is not None:
            return version, given
        other = served.fallback(version)
        if other is not None:
            self._fallbacks.labels(model, version).inc()
            given = await self._infer_version(served, model, other, page, body)
        if other is None or given is None:
            raise Refused(503, f"no replica of {model} answers just now; try again in a second")
        return other, given

    async def _infer_version(
        self, served: Served, model: str, version: str, page: str, body: bytes
    ) -> Answer | None:
        revision = served.revisions.get(version)
        asked = False
        for supervisor in revision.pair() if revision else ():
            if not supervisor.ready:
                continue  # it was the first of the pair, too, and just didn't answer
            asked = True
            headers = {**_JSON, **served.headers.get(version, {})}
            reply = await self._forward("POST", supervisor, page, body, headers)
            self._tally.count(model, version, rows=reply.rows, seconds=reply.seconds, failure=reply.failure)
            self._forwards.labels(model, version, "failed" if reply.failure else "answered").inc()
            if not reply.failure:
                return reply.answer
        if not asked:
            self._tally.count(model, version, failure="error")
        return None

    async def _forward(
        self,
        method: str,
        supervisor: ReplicaSupervisor,
        page: str,
        body: bytes = b"",
        headers: Mapping[str, str] = _JSON,
    ) -> Reply:
        """What a replica answers."""
        supervisor.in_flight += 1
        began = time.perf_counter()
        try:
            async with self._session.request(
                method,
                supervisor.url + page,
                data=body or None,
                headers=headers,
            ) as reply:
                given = Answer(reply.status, await reply.read(), reply.content_type.encode())
                rows = int(reply.headers.get(ROWS_HEADER, 0))
        except TimeoutError:  # hanging
            supervisor.mark_not_ready()
            return Reply(None, "timeout", seconds=time.perf_counter() - began)
        except aiohttp.ClientConnectorError:  # nobody there
            supervisor.mark_not_ready()
            return Reply(None, "error")
        except (aiohttp.ClientError, OSError):  # the connection broke, which says little about the next one
            return Reply(None, "error")
        finally:
            supervisor.in_flight -= 1
        if given.status >= 500:
            return Reply(given, "error")
        return Reply(given, rows=rows, seconds=time.perf_counter() - began)

    async def _forward_to_version(self, method: str, model: str, version: str, request: Request) -> Answer:
        """Ask one version and no other, with or without traffic of its own: to try it, or look at it."""
        revision = self._fleet.model(model).revisions.get(version)
        if revision is None:
            known = ", ".join(self._fleet.model(model).revisions)
            raise Refused(404, f"{model}:{version} is not served here; there is {known}")
        page = "/" + "/".join(quote(part, safe="") for part in request.path)
        for supervisor in revision.pair():
            reply = await self._forward(method, supervisor, page, request.body)
            if reply.answer is not None:
                return reply.answer
        raise Refused(503, f"no replica of {model}:{version} answers just now; it is {revision.state}")

    def _served_split(self, model: str) -> tuple[Served, Split]:
        served = self._fleet.model(model)
        if served.split is None:
            raise Refused(503, f"no version of {model} has traffic so far")
        return served, served.split

    async def _status(self, request: Request) -> Answer:
        match request.path:
            case ("v2",):
                return asgi.answer({"name": "driftloop", "version": "0", "extensions": []})
            case ("v2", "health", "live"):
                return asgi.answer({"live": True})
            case ("v2", "health", "ready"):
                return asgi.answer({"ready": self._fleet.ready}, 200 if self._fleet.ready else 503)
            case ("v2", "models", model, "versions", version, *_):
                return await self._forward_to_version("GET", model, version, request)
            case ("v2", "models", model) | ("v2", "models", model, "ready"):
                served, split = self._served_split(model)
                given = await self._forward_to_version("GET", model, split.stable, request)
                return given if len(request.path) == 4 else _listing(given, list(served.revisions))
            case ("metrics",):
                return Answer(200, generate_latest(self._registry), CONTENT_TYPE_LATEST.encode())
            case _:
                raise asgi.no_page(request, PAGES)


def client_session() -> aiohttp.ClientSession:
    """Connections to replicas, kept for less long than replicas keep theirs."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=asgi.KEEP_ALIVE_SECONDS / 2),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=FORWARD_SECONDS),
        auto_decompress=False,
    )


def _listing(metadata: Answer, versions: Sequence[str]) -> Answer:
    if metadata.status != 200:
        return metadata
    return asgi.answer({**orjson.loads(metadata.body), "versions": versions})


def _infer_page(model: str) -> str:
    return f"/v2/models/{quote(model, safe='')}/infer"


def _now() -> int:
    return time.time_ns() // 1_000_000

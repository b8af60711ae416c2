"""The operators' door, for this machine only: versions up, weights, versions down.

    PUT    /admin/models/MODEL/versions/VERSION  {"replicas": 1}   200 ready, 202 starting, 422 can't serve
    PUT    /admin/models/MODEL/weights           {"1": 90, "2": 10}
    DELETE /admin/models/MODEL/versions/VERSION                    409 while it has traffic
    PUT    /admin/models/MODEL/blend             {"1": 0.25, "3": 0.75}; {} ends it
    PUT    /admin/models/MODEL/versions/VERSION/blend  the same for one version that serves
    GET    /admin/models, /admin/models/MODEL

Every call states what should be, so repeating one is harmless.
"""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from driftloop.infra.serving import asgi
from driftloop.infra.serving.asgi import Answer, Refused, Request
from driftloop.infra.serving.fleet import Fleet, Revision, Served, State
from driftloop.infra.serving.plan import Replicas
from driftloop.schemas.records import Name

T = TypeVar("T")
_STATUS = {State.READY: 200, State.STARTING: 202, State.BROKEN: 422}
_ENSURE: TypeAdapter[dict[str, Replicas]] = TypeAdapter(
    dict[Annotated[str, Field(pattern="^replicas$")], Replicas]
)
_WEIGHTS: TypeAdapter[Mapping[str, int]] = TypeAdapter(
    Mapping[str, Annotated[int, Field(ge=0, le=100, strict=True)]]
)
_BLEND: TypeAdapter[Mapping[str, float]] = TypeAdapter(
    Mapping[Name, Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]]
)
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip")
PAGES = (
    "GET /admin/models, PUT and DELETE /admin/models/MODEL/versions/VERSION, "
    "PUT /admin/models/MODEL/weights, PUT /admin/models/MODEL/blend, "
    "PUT /admin/models/MODEL/versions/VERSION/blend"
)


class Admin:
    """Tells the fleet what to serve."""

    def __init__(self, fleet: Fleet, host: str) -> None:
        self._fleet = fleet
        self._names = {"localhost", host}

    async def handle(self, request: Request) -> Answer:
        """Answer an operator. Raises Refused (403) for anybody who isn't on this machine."""
        self._only_here(request)
        match request.method, request.path[1:]:
            case "GET", ("models",):
                return asgi.answer(
                    {name: _model_status(served) for name, served in self._fleet.models.items()}
                )
            case "GET", ("models", model):
                return asgi.answer(_model_status(self._fleet.model(model)))
            case "DELETE", ("models", model, "versions", version):
                await self._fleet.retire(model, version)
                return asgi.answer({"retired": version})
            case "PUT", ("models", model, "versions", version):
                replicas = _read(_ENSURE, request.body or b"{}").get("replicas", 1)
                revision = self._fleet.ensure(model, version, replicas)
                return asgi.answer(_revision_status(revision), _STATUS[revision.state])
            case "PUT", ("models", model, *where):
                return await self._put_weights(model, where, request)
            case _:
                raise asgi.no_page(request, PAGES)

    async def _put_weights(self, model: str, where: list[str], request: Request) -> Answer:
        match where:
            case ["weights"]:
                await self._fleet.set_weights(model, _read(_WEIGHTS, request.body))
            case ["blend"]:
                await self._fleet.set_blend(model, _read(_BLEND, request.body))
            case ["versions", version, "blend"]:
                await self._fleet.set_blend(model, _read(_BLEND, request.body), version)
            case _:
                raise asgi.no_page(request, PAGES)
        return asgi.answer(_model_status(self._fleet.model(model)))

    def _only_here(self, request: Request) -> None:
        """Neither other machines, nor a proxy on behalf of them, nor a web page by a name of its own."""
        host = request.headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0].strip("[]")
        named = host in self._names or _loopback(host)
        if not (named and _loopback(request.client)) or any(one in request.headers for one in _FORWARDED):
            raise Refused(403, "/admin answers only requests from this machine, to its loopback address")


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _model_status(served: Served) -> dict[str, object]:
    versions = {
        version: {
            **_revision_status(revision),
            "weight": served.weights.get(version, 0),
            "blend": dict(served.blends.get(version, served.blend)),
            "replicas": [
                {
                    "url": supervisor.url,
                    "pid": supervisor.pid,
                    "ready": supervisor.ready,
                    "in_flight": supervisor.in_flight,
                }
                for supervisor in revision.supervisors
            ],
        }
        for version, revision in served.revisions.items()
    }
    return {"versions": versions, "weights": dict(served.weights), "blend": dict(served.blend)}


def _revision_status(revision: Revision) -> dict[str, object]:
    return {"state": revision.state} | ({"error": revision.error} if revision.error else {})


def _read(adapter: TypeAdapter[T], body: bytes) -> T:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Refused(422, f"{where}: {first['msg']}") from error

"""`ports.Target` on this machine: tells a serving host what should be, over its admin door."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

import httpx

from driftloop.mlops_core.errors import Conflict, Unavailable, Unservable
from driftloop.schemas.events import Resources
from driftloop.schemas.settings import Settings

POLL_SECONDS = 0.2
ANSWER_SECONDS = 60.0
"""A retirement answers when the last request is done, at most 30 s, and the replica has ended."""


class LocalTarget:
    """A serving host. `ready_timeout`: seconds a version has to become ready."""

    def __init__(self, url: str, ready_timeout: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._ready_timeout = ready_timeout

    async def ensure(
        self, model: str, version: str, replicas: int, resources: Resources = MappingProxyType({})
    ) -> None:
        """Return once that many replicas of the version can score.

        Raises:
            Unservable: it can't be served, or wasn't ready in time; with the end of its log.
            Unavailable: the host doesn't answer.
        """
        if resources:
            raise Unservable(
                f"{model}:{version}: the local target runs replicas as processes without limits, so it can't "
                f"give each {dict(resources)}; deploy without resources, or choose another serving.target"
            )
        deadline = time.monotonic() + self._ready_timeout
        while True:
            reply = await self._call("PUT", _version(model, version), {"replicas": replicas})
            if reply.status_code == httpx.codes.OK:
                return
            if reply.status_code != httpx.codes.ACCEPTED:
                raise Unservable(f"{model}:{version} can't be served: {_error(reply)}")
            if time.monotonic() > deadline:
                raise Unservable(f"{model}:{version} was not ready after {self._ready_timeout:g} s")
            await asyncio.sleep(POLL_SECONDS)

    async def shift(self, model: str, weights: Mapping[str, int]) -> None:
        """Split traffic: percent per version.

        Raises:
            Conflict: the weights don't sum to 100.
            Unavailable: a version isn't ready (any more), or the host doesn't answer.
        """
        if sum(weights.values()) != 100:
            raise Conflict(f"weights of {model} must be 0 or more and add up to 100; got {dict(weights)}")
        await self._put(f"/admin/models/{quote(model, safe='')}/weights", weights)

    async def blend(self, model: str, weights: Mapping[str, float], version: str | None = None) -> None:
        """Have scores averaged over versions, by weight; no weights: each version serves its own again.

        With `version`: only where that one serves, in place of the model's blend.

        Raises:
            Conflict: the weights are no weights, or of more than 8 versions.
            Unavailable: the model or version isn't served (any more), or the host doesn't answer.
        """
        whose = f"/admin/models/{quote(model, safe='')}" if version is None else _version(model, version)
        await self._put(f"{whose}/blend", weights)

    async def retire(self, model: str, version: str) -> None:
        """Take the version down, once its last answers are given.

        Raises:
            Conflict: it still has traffic.
            Unavailable: the host doesn't answer.
        """
        reply = await self._call("DELETE", _version(model, version))
        if reply.is_error:
            raise Conflict(_error(reply))

    async def endpoints(self, model: str) -> Sequence[str]:
        """Where clients reach the model: Open Inference V2, and plain rows. Empty if it isn't served."""
        reply = await self._call("GET", f"/admin/models/{quote(model, safe='')}")
        if reply.status_code == httpx.codes.NOT_FOUND:
            return ()
        return f"{self.url}/v2/models/{quote(model, safe='')}/infer", f"{self.url}/predict"

    async def _put(self, page: str, weights: Mapping[str, float]) -> None:
        reply = await self._call("PUT", page, dict(weights))
        if reply.status_code == httpx.codes.CONFLICT:
            raise Unavailable(_error(reply))
        if reply.is_error:
            raise Conflict(_error(reply))

    async def _call(self, method: str, page: str, body: object = None) -> httpx.Response:
        try:
            async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as client:
                reply = await client.request(method, self.url + page, json=body)
        except httpx.TransportError as error:
            raise Unavailable(f"the serving host at {self.url} doesn't answer: {error!r}") from error
        if reply.is_server_error:
            raise Unavailable(f"{self.url}{page} answered {reply.status_code}: {reply.text[:500]}")
        return reply


def local_target(settings: Settings) -> LocalTarget:
    """The target that `serving.target: local` names: the host at `serving.host` and `serving.port`."""
    return LocalTarget(settings.serving.url, settings.rollout.ready_timeout)


def _version(model: str, version: str) -> str:
    return f"/admin/models/{quote(model, safe='')}/versions/{quote(version, safe='')}"


def _error(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"])
    except (ValueError, KeyError, TypeError):
        return reply.text[:500]

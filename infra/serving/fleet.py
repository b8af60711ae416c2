"""All versions that the host serves: what the plan says, made true by supervisors, one a replica.

Runs on one event loop, so between two awaits nothing changes: a request that picks a replica has it
counted in flight before a retirement can look.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from pathlib import Path
from urllib.parse import quote

import aiohttp

from driftloop.infra.serving import blend
from driftloop.infra.serving import plan as plans
from driftloop.infra.serving.asgi import Refused
from driftloop.infra.serving.plan import Plan
from driftloop.infra.serving.replica_supervisor import LOAD_SECONDS, MAX_CRASHES, Launch, ReplicaSupervisor
from driftloop.infra.serving.split import Split

DRAIN_SECONDS = 30.0
"""How long a retired version's requests in flight are waited for."""
SHIFT_LOAD_SECONDS = 1.0
"""How long a shift of traffic waits for a blend to be loaded: a way back must not take longer than 2 s."""

log = logging.getLogger(__name__)


class State(StrEnum):
    """How a version is."""

    STARTING = "starting"
    READY = "ready"
    """All its replicas are up."""
    BROKEN = "broken"
    """It was never ready, and trying further won't help."""


@dataclass
class Revision:
    """One version's replicas."""

    supervisors: list[ReplicaSupervisor] = field(default_factory=list)
    _turn: "count[int]" = field(default_factory=count)

    @property
    def any_ready(self) -> bool:
        """Whether anybody can answer."""
        return any(supervisor.ready for supervisor in self.supervisors)

    @property
    def state(self) -> State:
        """How it is now."""
        if all(supervisor.ready for supervisor in self.supervisors):
            return State.READY
        return State.STARTING if self.error is None else State.BROKEN

    @property
    def error(self) -> str | None:
        """Why it can't be served; None while there is hope."""
        if any(supervisor.was_ready for supervisor in self.supervisors):
            return None
        lost = (one.error for one in self.supervisors if one.hopeless or one.crashes >= MAX_CRASHES)
        return next(lost, None)

    def pair(self) -> Sequence[ReplicaSupervisor]:
        """Whom to ask, and whom to ask if that fails; round robin over those that are ready."""
        ready = [supervisor for supervisor in self.supervisors if supervisor.ready]
        if not ready:
            return ()
        turn = next(self._turn)
        return ready[turn % len(ready)], ready[(turn + 1) % len(ready)]


@dataclass
class Served:
    """One model: its versions, and how traffic is split over them (None: nobody serves yet)."""

    revisions: dict[str, Revision] = field(default_factory=dict)
    split: Split | None = None
    weights: Mapping[str, int] = field(default_factory=dict)
    blend: Mapping[str, float] = field(default_factory=dict)
    blends: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """As in the plan."""
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What a call to each version carries: its blend, whose answer that is, and whether it is a canary."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The version that each answer counts for: the stable one where a blend answers, else the one asked."""

    def fallback(self, version: str) -> str | None:
        """Who answers when `version` fails: of the others with traffic, the one with the most."""
        others = {name: weight for name, weight in self.weights.items() if name != version and weight}
        return max(others, key=lambda name: others[name]) if others else None


class Fleet:
    """Keeps the plan, and makes it true."""

    def __init__(self, launch: Launch, session: aiohttp.ClientSession, file: Path) -> None:
        self.models: dict[str, Served] = {}
        self._launch = launch
        self._session = session
        self._file = file
        self._plan = Plan()
        self._ending: set[asyncio.Task[None]] = set()

    def restore(self) -> None:
        """Start what was served when the plan was saved last. Raises Conflict if it can't be read."""
        self._plan = plans.load(self._file)
        for model, planned in self._plan.models.items():
            for version, replicas in planned.versions.items():
                self._scale(model, version, replicas)
            self._split(model)

    def ensure(self, model: str, version: str, replicas: int) -> Revision:
        """Have that many replicas; says how the version is, and calling again says it again.

        A broken version without traffic is forgotten with the answer, so that the next call tries anew.
        """
        self._save(self._plan.with_version(model, version, replicas))
        self._scale(model, version, replicas)
        revision = self.models[model].revisions[version]
        if revision.state is State.BROKEN and version not in self.models[model].weights:
            self._forget(model, version)
            self._end_later(revision.supervisors)
        return revision

    async def set_weights(self, model: str, weights: Mapping[str, int]) -> None:
        """Split traffic from the next request on.

        Replicas that get traffic for the first time load the versions of their blend before.

        Raises:
            Refused: 409 for a version that isn't served or ready, or for weights that don't sum to 100.
        """
        self._check_weights(model, weights)
        before = self._plan.model(model).weights
        await self._load(
            model, self._plan.with_weights(model, weights), set(weights) - set(before), SHIFT_LOAD_SECONDS
        )
        self._check_weights(model, weights)  # a replica may have ended meanwhile
        self._save(self._plan.with_weights(model, weights))
        self._split(model)

    async def set_blend(self, model: str, weights: Mapping[str, float], version: str | None = None) -> None:
        """Have scores averaged from the next request on, of all versions or of one; no weights: no more.

        Replicas with traffic load the versions before, so that no answer lacks a version for a while.

        Raises:
            Refused: 409 for a model or version that isn't served, 422 for weights that can't be.
        """
        self._check_served(model, version)
        try:
            weights = blend.normalise(weights)
        except ValueError as error:
            raise Refused(422, str(error)) from error
        plan = self._plan.with_blend(model, weights, version)
        await self._load(model, plan, plan.model(model).weights, LOAD_SECONDS)
        self._check_served(model, version)  # it may have been retired meanwhile
        self._save(self._plan.with_blend(model, weights, version))
        self._split(model)

    async def retire(self, model: str, version: str) -> None:
        """Take the version down when its last answer is given; unknown ones are fine.

        Raises:
            Refused: 409 while it has traffic.
        """
        served = self.models.get(model)
        if served is None or version not in served.revisions:
            return
        if weight := served.weights.get(version, 0):
            raise Refused(409, f"{model}:{version} still gets {weight} % of the traffic; move it away first")
        revision = served.revisions[version]
        self._forget(model, version)
        await _end(revision.supervisors)

    async def close(self) -> None:
        """End all replicas; the plan stays."""
        revisions = [one for served in self.models.values() for one in served.revisions.values()]
        supervisors = [supervisor for revision in revisions for supervisor in revision.supervisors]
        await asyncio.gather(*(supervisor.stop() for supervisor in supervisors), *self._ending)

    def model(self, model: str) -> Served:
        """The model. Raises Refused (404), saying which there are."""
        served = self.models.get(model)
        if served is None:
            known = ", ".join(sorted(self.models)) or "no model so far"
            raise Refused(404, f"model {model!r} is not served here; there is {known}")
        return served

    def is_shared(self, model: str) -> bool:
        """Whether several versions share the model's traffic."""
        return len(self.models.get(model, Served()).weights) > 1

    @property
    def ready(self) -> bool:
        """Whether every version with traffic can answer."""
        return all(
            served.revisions[version].any_ready
            for served in self.models.values()
            for version in served.weights
        )

    def _check_weights(self, model: str, weights: Mapping[str, int]) -> None:
        try:
            Split.of(weights)
        except ValueError as error:
            raise Refused(409, str(error)) from error
        for version in (version for version, weight in weights.items() if weight):
            revision = self.models.get(model, Served()).revisions.get(version)
            if revision is None or not revision.any_ready:
                state = "not served" if revision is None else revision.state
                raise Refused(409, f"{model}:{version} is {state}; only a ready version gets traffic")

    def _check_served(self, model: str, version: str | None) -> None:
        served = self.models.get(model, Served())
        if not served.revisions or (version is not None and version not in served.revisions):
            named = f"{model}:{version}" if version else model
            raise Refused(409, f"{named} is not served; it can't have a blend")

    async def _load(self, model: str, plan: Plan, versions: Collection[str], seconds: float) -> None:
        """Have the ready replicas of `versions` load what their answers average under `plan`."""
        revisions, planned = self.models[model].revisions, plan.model(model)
        await asyncio.gather(
            *(
                supervisor.load(planned.blend_of(version), seconds)
                for version in versions
                if version in revisions
                for supervisor in revisions[version].supervisors
                if supervisor.ready
            )
        )

    def _scale(self, model: str, version: str, replicas: int) -> None:
        supervisors = (
            self.models.setdefault(model, Served()).revisions.setdefault(version, Revision()).supervisors
        )
        for place in range(len(supervisors), replicas):
            supervisors.append(
                ReplicaSupervisor(
                    self._launch,
                    model,
                    version,
                    place,
                    self._session,
                    lambda: self._plan.model(model).blend_of(version),
                )
            )
        surplus, supervisors[replicas:] = supervisors[replicas:], []
        if surplus:
            self._end_later(surplus)

    def _split(self, model: str) -> None:
        planned, served = self._plan.model(model), self.models[model]
        served.weights, served.blend, served.blends = planned.weights, planned.blend, planned.blends
        served.split = Split.of(planned.weights, planned.stable) if planned.weights else None
        served.names = {version: _answers_as(served, version) for version in served.revisions}
        served.headers = {version: _headers(served, version) for version in served.revisions}

    def _forget(self, model: str, version: str) -> None:
        self._save(self._plan.without_version(model, version))
        del self.models[model].revisions[version]
        if self.models[model].revisions:
            self._split(model)
        else:
            del self.models[model]

    def _save(self, changed: Plan) -> None:
        if changed != self._plan:
            plans.save(self._file, changed)
            self._plan = changed

    def _end_later(self, supervisors: Sequence[ReplicaSupervisor]) -> None:
        task = asyncio.create_task(_end(supervisors))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _answers_as(served: Served, version: str) -> str:
    """Stable's name while `version` computes the model's blend beside it; else its own."""
    beside_stable = served.split is not None and version in served.split.versions
    blended = bool(served.blend) and version not in served.blends
    return served.split.stable if served.split and beside_stable and blended else version


def _headers(served: Served, version: str) -> Mapping[str, str]:
    weights, name = served.blends.get(version, served.blend), served.names[version]
    headers = {blend.BLEND_HEADER: blend.to_header(weights)} if weights else {}
    if weights and name != version:
        headers[blend.ANSWERS_AS_HEADER] = quote(name, safe="")
    if served.split is not None and version in served.split.versions and version != served.split.stable:
        headers[blend.CANARY_HEADER] = "1"
    return headers


async def _end(supervisors: Sequence[ReplicaSupervisor]) -> None:
    await asyncio.gather(*(_drain_and_stop(supervisor) for supervisor in supervisors))


async def _drain_and_stop(supervisor: ReplicaSupervisor) -> None:
    if not await supervisor.drain(DRAIN_SECONDS):
        log.warning("a replica is ended with requests in flight", extra={"replica": supervisor.name})
    await supervisor.stop()

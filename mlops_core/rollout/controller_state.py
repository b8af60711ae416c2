"""State of one model's rollouts: the champion, the open rollout, and the queue of requests."""

from typing import Annotated

from pydantic import Field

from driftloop.mlops_core.rollout.state_machine import Rollout
from driftloop.mlops_core.rollout.states import TERMINAL
from driftloop.schemas import ids
from driftloop.schemas.events import (
    AgreementMeasured,
    AlertRaised,
    ChallengerProven,
    DeployRequested,
    Event,
    EvidenceMeasured,
    ModelRegistered,
    Part,
    PerformanceMeasured,
    Resources,
    RolloutPhase,
    TrafficMeasured,
)
from driftloop.schemas.records import Millis

RolloutRequest = Annotated[ModelRegistered | DeployRequested | ChallengerProven, Field(discriminator="type")]
"""An event that requests a rollout."""
ORDER = ("DeployRequested", "ChallengerProven", "ModelRegistered")
"""Which kind of request is handled first."""
MEASUREMENTS = (TrafficMeasured, EvidenceMeasured, AgreementMeasured, PerformanceMeasured)
"""Events whose ids are not kept, as there are too many; each counts for the open rollout."""
SMALLEST_WEIGHT = 0.01
"""Smallest weight of a version in a blend; a smaller one costs more CPU than it changes scores."""
MOVED = 0.02
"""Total change of weights from which on a blend is updated."""
FINISHED = 20
"""Ended rollouts that are kept with their evidence."""
SEEN = 256
"""Ids of the newest events, kept to ignore an event that is delivered again."""
REQUESTED_VERSIONS = 1000
"""Versions that were rolled out or queued; registering one of them again starts no rollout."""
UNMEASURABLE = 3
"""Windows in a row that could not be measured, after which the rollout is paused for a person."""
PINNED, UNPINNED = "a person pinned the champion", "a person unpinned the champion"
"""Why a rollout is paused, and why it goes on."""


class RolloutController(Part):
    """State of one model's rollouts; stored as JSON."""

    model: str
    champion: str | None = None
    """The version that serves, apart from the open rollout's share."""
    previous: str | None = None
    """The champion before; its replicas still run, so returning to it needs no canary."""
    replicas: int = 1
    resources: Resources = Field(default_factory=dict)
    """Of the champion; a registered version gets as many."""
    open: Rollout | None = None
    queue: tuple[RolloutRequest, ...] = ()
    """At most one of each kind, in the order of `ORDER`."""
    pinned: bool = False
    """Whether a person keeps the champion, and the weights of a blend, as they are."""
    blend: dict[str, float] = Field(default_factory=dict)
    """Weights with which the pool answers; empty where the champion answers alone."""
    finished: tuple[Rollout, ...] = ()
    """Oldest first."""
    measured_until: Millis = 0
    """End of the newest window of labels, in the time of the data; the only clock of the controller."""
    seen: tuple[str, ...] = ()
    """Ids of the newest `SEEN` events that were handled."""
    requested_versions: tuple[str, ...] = ()
    """The newest versions that were rolled out or queued."""


def with_rollout(
    controller: RolloutController, rollout: Rollout, events: list[Event]
) -> tuple[RolloutController, list[Event]]:
    """The controller with `rollout` open and, where it is promoted or ended, the champion that follows."""
    changes: dict[str, object] = {"open": rollout}
    if rollout.phase is RolloutPhase.PROMOTED:
        changes |= {"champion": rollout.version, "previous": rollout.stable, "replicas": rollout.replicas}
        changes |= {"resources": rollout.resources}
    elif rollout.phase in TERMINAL and rollout.version == controller.previous:
        changes["previous"] = None
    return controller.model_copy(update=changes), events


def note(cause: Event, sentence: str) -> AlertRaised:
    """An alert of severity `info` that says why `cause` changes nothing."""
    id_ = ids.derive(cause.id, "AlertRaised", sentence)
    return AlertRaised.following(cause, id=id_, severity="info", sentence=sentence)

"""Settings of rollouts, the registry and serving."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from driftloop.schemas.settings.types import (
    AtLeastZero,
    Chance,
    Folder,
    Group,
    Host,
    Minutes,
    Port,
    Positive,
    Real,
    Registry,
    Seconds,
    Steps,
)


class RolloutSettings(Group):
    """How a new version gets traffic."""

    steps: Steps = (10, 50)
    """The canary's shares of traffic, in percent, rising. It takes all of it once the last one is passed, so
    that `[10, 50]` asks nothing of the hours at 100 %. 10 % first, so that a broken version fails few
    requests; then 50 %, so that it has borne load."""
    min_requests: Positive = 150
    """Predictions of the canary that a step needs before it is passed: 300 over the two default steps. They
    find 5 points more of failed requests, or twice the latency, almost always; 1 point more of failed
    requests is only found for sure with 1,000. A failure may be called before."""
    step_minutes: Minutes = 60.0
    """Minutes after which a step without enough requests raises one alert. The step stays held: a version
    is neither promoted nor rolled back for want of requests."""
    latency_ratio: Annotated[Real, Field(ge=1, le=1000)] = 1.5
    """A canary fails when its p95 or p99 is surely more than this many times stable's on the same span. 1.5,
    so that twice as slow is well beyond it; exactly at the ratio a canary fails half of the time."""
    error_tolerance: Annotated[Real, Field(ge=0, lt=1)] = 0.005
    """Largest estimated difference of the canary's and stable's shares of failed calls with which a step
    passes. 0.005: of 150 calls none may fail, of 200 one."""
    strategy: Literal["champion", "blend"] = "blend"
    """`champion`: the champion answers. `blend`: the average of the pool's scores, weighted by how well each
    version predicted recently, answers; which version is champion is decided by proof in both cases."""
    evidence: Literal["auto", "paired", "canary"] = "auto"
    """What proves a challenger. `paired`: its losses against the champion's on every labelled row. `canary`:
    the labels of its own requests. `auto`: paired, and canary where an agent can't score a version."""
    pool: Annotated[Positive, Field(ge=3, le=16)] = 8
    """Versions of a model that are compared: champion, predecessors, challengers. With 8, versions from
    before the last change are still there when it is undone."""
    span_labels: Positive = 100
    """Labelled rows between two updates of weights and proofs."""
    weight_ratio: Annotated[Real, Field(ge=1)] = 5.0
    """Multiple of the champion's weight that a challenger needs, besides the proof; 3 to 20 differ little."""
    proof: Annotated[Real, Field(ge=1)] = 10.0
    """Odds of the evidence that a challenger is better (`PairEvidence.proof`) before it is rolled out. With
    10, two equal versions change places less than once in 10,000 labels."""
    learning_rate: Annotated[Real, Field(gt=0, le=10)] = 0.5
    """Of the weights, per unit of loss. 0.5 is the largest for which the weighted average of scores in [0, 1]
    has a bounded regret (docs/selection.md)."""
    share: Annotated[Real, Field(ge=0, le=0.5)] = 0.01
    """Share of all weight that is spread evenly per 100 labels: how quickly a version can return."""
    min_labels: Positive = 300
    """Labelled rows of the canary that a step needs to pass, where its own labels judge it."""
    tolerance: AtLeastZero = 0.01
    """Largest estimated loss of the canary above stable's (mean squared error of the score) that passes."""
    alpha: Chance = 0.01
    """Probability that a canary as good as stable fails, over the whole rollout: for labels, and again for
    requests (errors, latency and agreement together)."""
    ready_timeout: Seconds = 60.0
    """Seconds within which a new version must be ready; after them the rollout fails."""


class RegistrySettings(Group):
    """MLflow."""

    tracking_uri: Registry = "http://127.0.0.1:5000"
    """Address of the MLflow server (http or https)."""


class ServingSettings(Group):
    """Where models are served. All but `target` and `replicas` concern the local target."""

    target: str = "local"
    """`local`, or the name of an entry point `driftloop.targets` of an installed package."""
    host: Host = "127.0.0.1"
    port: Port = 8080
    """0 takes a free port and prints it."""
    replicas: Annotated[Positive, Field(le=1000)] = 1
    """Replica processes of each version."""
    report_seconds: Seconds = 1.0
    """Seconds between two reports of a model's requests while versions share its traffic (ten times as many
    while one version serves); a verdict is late by that much at most."""
    folder: Folder = Path(".driftloop/serving")
    """Folder of the traffic table, from which a restarted host continues."""

    @property
    def url(self) -> str:
        """Address of the router and of its admin interface."""
        return f"http://{self.host}:{self.port}"

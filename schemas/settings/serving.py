"""How versions get traffic, and where they are kept and served."""

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
    """Minutes after which a step without enough requests is reported, once, as an alert. It stays held: a
    version that nobody asked is never promoted for it, and never rolled back."""
    latency_ratio: Annotated[Real, Field(ge=1, le=1000)] = 1.5
    """A canary whose p95 or p99 is more than this many times stable's, on the same span, is called worse once
    that is no chance. 1.5, so that one twice as slow is well beyond it: exactly at the ratio a canary is
    called worse half of the time."""
    error_tolerance: Annotated[Real, Field(ge=0, lt=1)] = 0.005
    """How much more of its calls (a share) a canary may seem to fail than stable and still go on. 0.005: of
    150 calls none may fail, of 200 one."""
    strategy: Literal["champion", "blend"] = "blend"
    """`champion`: one version answers. `blend`: the average of the pool's scores, weighted by how well each
    version predicts of late; the version with the proof is champion all the same."""
    evidence: Literal["auto", "paired", "canary"] = "auto"
    """What proves a challenger. `paired`: its losses on every labelled row, beside the champion's. `canary`:
    the labels of its own requests. `auto`: paired, and canary where a version can't be scored by an agent."""
    pool: Annotated[Positive, Field(ge=3, le=16)] = 8
    """Versions of a model that are compared: champion, predecessors, challengers. With 8, versions from
    before the last change are still there when it is undone."""
    span_labels: Positive = 100
    """Labelled rows between two looks at weights and proofs."""
    weight_ratio: Annotated[Real, Field(ge=1)] = 5.0
    """How many times the champion's weight a challenger needs; 3 to 20 differ little beside the proof."""
    proof: Annotated[Real, Field(ge=1)] = 10.0
    """Odds of the evidence that a challenger is better (`PairEvidence.proof`) before it is rolled out. With
    10, two equal versions change places less than once in 10,000 labels."""
    learning_rate: Annotated[Real, Field(gt=0, le=10)] = 0.5
    """Of the weights, per unit of loss. 0.5 is the largest for which the weighted average of scores in [0, 1]
    has a bounded regret (docs/selection.md)."""
    share: Annotated[Real, Field(ge=0, le=0.5)] = 0.01
    """Share of all weight that is spread evenly per 100 labels: how quickly a version can return."""
    min_labels: Positive = 300
    """Labelled rows of the canary at a step before a verdict other than `fail` is spoken."""
    tolerance: AtLeastZero = 0.01
    """How much worse (mean squared error of the score) a canary may look and still go on."""
    alpha: Chance = 0.01
    """Chance that a canary as good as stable is ever called worse, over the whole rollout: once by labels,
    and once by requests (errors, latency and agreement together)."""
    ready_timeout: Seconds = 60.0
    """Seconds a new version has to become ready."""


class RegistrySettings(Group):
    """MLflow."""

    tracking_uri: Registry = "http://127.0.0.1:5000"
    """The MLflow server; clients speak HTTP only."""


class ServingSettings(Group):
    """Where models serve. All but `target` and `replicas` concern the local host: a router and replicas."""

    target: str = "local"
    """`local`, or the name of an entry point `driftloop.targets` of an installed package."""
    host: Host = "127.0.0.1"
    port: Port = 8080
    """0 takes a free port and prints it."""
    replicas: Annotated[Positive, Field(le=1000)] = 1
    """Replica processes a version."""
    report_seconds: Seconds = 1.0
    """Seconds between two reports of a model's requests while versions share its traffic (ten times as many
    while one serves): a verdict is at most that late."""
    folder: Folder = Path(".driftloop/serving")
    """Where the traffic table is kept, so that a restart changes nothing."""

    @property
    def url(self) -> str:
        """Where the router and its admin interface are."""
        return f"http://{self.host}:{self.port}"

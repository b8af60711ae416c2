"""How versions get traffic, and where they are kept and served."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from schemas.quantities import AtLeastZero, Chance, Folder, Host, Port, Positive, Registry, Seconds, Steps
from schemas.settings.group import Group


class RolloutSettings(Group):
    """How a new version gets traffic."""

    steps: Steps = (1, 5, 10, 25, 50, 100)
    """The canary's shares of traffic, in percent, rising. It takes all of it once the last one is passed, so
    that `[10, 50]` asks nothing of the hours at 100 %."""
    min_labels: Positive = 300
    """Labelled rows of the canary at a step before a verdict other than `fail` is spoken."""
    tolerance: AtLeastZero = 0.01
    """How much worse (mean squared error of the score) a canary may look and still go on."""
    alpha: Chance = 0.01
    """Chance that a canary as good as stable is ever called worse, over the whole rollout."""
    ready_timeout: Seconds = 60.0
    """Seconds a new version has to become ready."""


class RegistrySettings(Group):
    """MLflow."""

    tracking_uri: Registry = "http://127.0.0.1:5000"
    """The MLflow server; clients speak HTTP only."""


class ServingSettings(Group):
    """The local serving host: a router and replica processes."""

    host: Host = "127.0.0.1"
    port: Port = 8080
    """0 takes a free port and prints it."""
    replicas: Annotated[Positive, Field(le=1000)] = 1
    """Replica processes a version."""
    folder: Folder = Path(".driftloop/serving")
    """Where the traffic table is kept, so that a restart changes nothing."""

    @property
    def url(self) -> str:
        """Where the router and its admin interface are."""
        return f"http://{self.host}:{self.port}"

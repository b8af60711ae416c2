"""What should be served: versions with their replicas, and weights. Kept in a file, swapped as a whole."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops_core.errors import Impossible
from schemas.records import Name

Replicas = Annotated[int, Field(ge=1, le=64)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelPlan(_Part):
    """One model's versions and their shares of the traffic."""

    versions: Mapping[Name, Replicas] = Field(default_factory=dict)
    weights: Mapping[Name, int] = Field(default_factory=dict)
    """Percent per version, 100 in all; empty while nobody serves."""


class Plan(_Part):
    """Everything the host serves. Each change is a new plan."""

    schema_version: int = 1
    models: Mapping[Name, ModelPlan] = Field(default_factory=dict)

    def model(self, model: str) -> ModelPlan:
        """The plan of one model; an empty one for a model that isn't served."""
        return self.models.get(model, ModelPlan())

    def with_version(self, model: str, version: str, replicas: int) -> "Plan":
        """The plan in which the version has that many replicas."""
        known = self.model(model)
        versions = {**known.versions, version: replicas}
        return self._with(model, ModelPlan(versions=versions, weights=known.weights))

    def without_version(self, model: str, version: str) -> "Plan":
        """The plan without the version."""
        known = self.model(model)
        versions = {name: replicas for name, replicas in known.versions.items() if name != version}
        weights = {name: weight for name, weight in known.weights.items() if name != version}
        return self._with(model, ModelPlan(versions=versions, weights=weights))

    def with_weights(self, model: str, weights: Mapping[str, int]) -> "Plan":
        """The plan with these shares; versions without a share are left out of them."""
        shares = {version: weight for version, weight in weights.items() if weight}
        return self._with(model, ModelPlan(versions=self.model(model).versions, weights=shares))

    def _with(self, model: str, changed: ModelPlan) -> "Plan":
        models = {**self.models, model: changed}
        return Plan(models={name: plan for name, plan in models.items() if plan.versions})


def load(path: Path) -> Plan:
    """The plan as it was saved last; an empty one if it never was.

    Raises:
        Impossible: the file is damaged. It is not guessed at, since that could drop a champion.
    """
    try:
        return Plan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Plan()
    except ValidationError as error:
        raise Impossible(f"{path} can't be read ({error}); repair it, or remove it to begin anew") from error


def save(path: Path, plan: Plan) -> None:
    """Write the plan so that a crash leaves either the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(plan.model_dump_json(indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)

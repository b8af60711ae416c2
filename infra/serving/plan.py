"""What should be served: versions with their replicas, weights, blends. Kept in a file, swapped whole."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from driftloop.mlops_core.errors import Conflict
from driftloop.schemas.records import Name

T = TypeVar("T")
Replicas = Annotated[int, Field(ge=1, le=64)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelPlan(_Part):
    """One model's versions and their shares of the traffic."""

    versions: Mapping[Name, Replicas] = Field(default_factory=dict)
    weights: Mapping[Name, int] = Field(default_factory=dict)
    """Percent per version, 100 in all; empty while nobody serves."""
    stable: Name | None = None
    """The version that had all traffic last; while a canary has a part of it, this one has the rest."""
    blend: Mapping[Name, float] = Field(default_factory=dict)
    """Weight per version, 1 in all: every score is the average of these versions' scores, whichever version
    serves. Empty: each version serves its own."""
    blends: Mapping[Name, Mapping[Name, float]] = Field(default_factory=dict)
    """Blends of single versions, by the version that serves; they take the place of `blend`."""

    def blend_of(self, version: str) -> Mapping[Name, float]:
        """Weights with which replicas of this version answer; empty: by themselves."""
        return self.blends.get(version, self.blend)


class Plan(_Part):
    """Everything the host serves. Each change is a new plan."""

    schema_version: int = 1
    models: Mapping[Name, ModelPlan] = Field(default_factory=dict)

    def model(self, model: str) -> ModelPlan:
        """The plan of one model; an empty one for a model that isn't served."""
        return self.models.get(model, ModelPlan())

    def with_version(self, model: str, version: str, replicas: int) -> "Plan":
        """The plan in which the version has that many replicas."""
        return self._with(model, versions={**self.model(model).versions, version: replicas})

    def without_version(self, model: str, version: str) -> "Plan":
        """The plan without the version; blends keep it, as they need its model and not its replicas."""
        known = self.model(model)
        return self._with(
            model,
            versions=_without(known.versions, version),
            weights=_without(known.weights, version),
            blends=_without(known.blends, version),
        )

    def with_weights(self, model: str, weights: Mapping[str, int]) -> "Plan":
        """The plan with these shares; versions without a share are left out of them."""
        shares = {version: weight for version, weight in weights.items() if weight}
        stable = next(iter(shares)) if len(shares) == 1 else self.model(model).stable
        return self._with(model, weights=shares, stable=stable)

    def with_blend(self, model: str, weights: Mapping[str, float], version: str | None = None) -> "Plan":
        """The plan with this blend, of all versions or of one; empty: without it."""
        if version is None:
            return self._with(model, blend=dict(weights))
        others = _without(self.model(model).blends, version)
        return self._with(model, blends=others | ({version: dict(weights)} if weights else {}))

    def _with(self, model: str, **changes: object) -> "Plan":
        changed = self.model(model).model_copy(update=changes)
        models = {**self.models, model: changed}
        return Plan(models={name: plan for name, plan in models.items() if plan.versions})


def _without(mapping: Mapping[str, T], version: str) -> dict[str, T]:
    return {name: value for name, value in mapping.items() if name != version}


def load(path: Path) -> Plan:
    """The plan as it was saved last; an empty one if it never was.

    Raises:
        Conflict: the file is damaged. It is not guessed at, since that could drop a champion.
    """
    try:
        return Plan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Plan()
    except ValidationError as error:
        raise Conflict(f"{path} can't be read ({error}); repair it, or remove it to begin anew") from error


def save(path: Path, plan: Plan) -> None:
    """Write the plan so that a crash leaves either the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(plan.model_dump_json(indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)

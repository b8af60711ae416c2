"""Reading models back from MLflow: `ports.ModelReader` over plain REST."""

import contextlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Generic, TypeVar

from driftloop.infra.adapters.mlflow.rest import Fields, MLflowRest, Refused
from driftloop.mlops_core.data.features import FeatureSpec
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.errors import NotFound
from driftloop.mlops_core.ports import Fitted, Registered, Task

FEATURES, PROFILE, GATE = "driftloop/features.json", "driftloop/profile.json", "driftloop/gate.json"
"""Our own artifacts of the run that a version comes from."""
PAYLOAD = "model/model.bin"
"""The payload of a format for which MLflow has no flavour, among the artifacts of the run."""
MODEL_FILE = "model.ubj"
"""The file in which MLflow's xgboost flavour keeps the payload."""
MODELS_KEPT = 8
"""Models in memory, about 1 MB each; a rollout needs two."""
PROFILES_KEPT = 200
"""Profiles in memory, about 20 kB each; late predictions may name an old version."""
MISS_SECONDS = 3.0
"""Seconds for which a missing version is not asked for again: a service that sends a wrong version sends it
with each prediction."""

_VERSION = re.compile("[1-9][0-9]{0,8}", re.ASCII)
"""MLflow's versions are 32-bit integers; it answers a larger one with 500, as if asking again could help."""
_INVALID = "INVALID_PARAMETER_VALUE"
"""MLflow's code for a name that no model can have."""

Item = TypeVar("Item")


class VersionCache(Generic[Item]):
    """The `bound` things used last, by model and version; a version never changes, so neither do they."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._items: OrderedDict[tuple[str, str], Item] = OrderedDict()
        self._misses: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()
        """Until when a version counts as unknown, and why."""
        self._lock = threading.Lock()

    def get(self, model: str, version: str, load: Callable[[str, str], Item]) -> Item:
        """The item, loaded if it isn't kept. Raises NotFound, for a few seconds without asking again."""
        key = model, version
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
            until, why = self._misses.get(key, (0.0, ""))
        if time.monotonic() < until:
            raise NotFound(why)
        try:
            item = load(model, version)
        except NotFound as error:
            with self._lock:
                _keep(self._misses, key, (time.monotonic() + MISS_SECONDS, str(error)), self._bound)
            raise
        with self._lock:
            _keep(self._items, key, item, self._bound)
        return item


class MLflowReader:
    """Versions as an MLflow server knows them. Every call may raise Unavailable."""

    def __init__(self, uri: str) -> None:
        self._rest = MLflowRest(uri)
        self._models: VersionCache[Fitted] = VersionCache(MODELS_KEPT)
        self._profiles: VersionCache[Profile] = VersionCache(PROFILES_KEPT)

    def fitted(self, model: str, version: str) -> Fitted:
        """The model itself. Raises NotFound, also for a version that driftloop didn't register."""
        return self._models.get(model, version, self._load_fitted)

    def profile(self, model: str, version: str) -> Profile:
        """What its training data looked like. Raises NotFound, as `fitted`."""
        return self._profiles.get(model, version, self._profile)

    def version(self, model: str, version: str) -> Registered:
        """One version. Raises NotFound."""
        return _to_registered(self._version_fields(model, version))

    def versions(self, model: str) -> Sequence[Registered]:
        """All versions, oldest first."""
        aliases: dict[str, list[str]] = {}
        for alias, version in self._aliases(model):
            aliases.setdefault(version, []).append(alias)
        quoted = f'"{model}"' if "'" in model else f"'{model}'"
        found: list[Fields] = []
        with _absent_is_no_error():
            found += self._rest.pages("model-versions/search", "model_versions", filter=f"name={quoted}")
        # A search leaves aliases out.
        known = [{**fields, "aliases": aliases.get(fields["version"], [])} for fields in found]
        return [_to_registered(fields) for fields in sorted(known, key=lambda fields: int(fields["version"]))]

    def champion(self, model: str) -> str | None:
        """The version that holds the alias `champion`."""
        return self.version_of_alias(model, "champion")

    def models(self) -> Collection[str]:
        """The names of all registered models."""
        return [one["name"] for one in self._rest.pages("registered-models/search", "registered_models")]

    def version_of_alias(self, model: str, alias: str) -> str | None:
        """The version that holds an alias."""
        return dict(self._aliases(model)).get(alias)

    def close(self) -> None:
        """Close its connections; what it keeps in memory stays readable."""
        self._rest.close()

    def _aliases(self, model: str) -> Iterator[tuple[str, str]]:
        answer: Fields = {"registered_model": {}}
        with _absent_is_no_error():
            answer = self._rest.get("registered-models/get", name=model)
        for alias in answer["registered_model"].get("aliases", ()):
            yield alias["alias"], alias["version"]

    def _version_fields(self, model: str, version: str) -> Fields:
        if _VERSION.fullmatch(version):
            with _absent_is_no_error():
                answer = self._rest.get("model-versions/get", name=model, version=version)
                found: Fields = answer["model_version"]
                return found
        known = ", ".join(one.version for one in self.versions(model)) or "none"
        raise NotFound(
            f"{model}:{version} is not in MLflow at {self._rest.uri}; versions of {model}: {known}"
        )

    def _load_fitted(self, model: str, version: str) -> Fitted:
        found = self._version_fields(model, version)
        tags = _tags(found)
        features = FeatureSpec.model_validate_json(self._artifact(found, FEATURES))
        return Fitted(Task(tags["task"]), tags["format"], self._payload(found), features)

    def _payload(self, version: Fields) -> bytes:
        """The model's bytes: a file of the logged model for xgboost, else of the run."""
        if not version["source"].startswith("models:/"):
            return self._artifact(version, PAYLOAD)
        logged = self._rest.get(f"logged-models/{version['source'].removeprefix('models:/')}")
        return self._rest.artifact(logged["model"]["info"]["artifact_uri"], MODEL_FILE)

    def _profile(self, model: str, version: str) -> Profile:
        return Profile.model_validate_json(self._artifact(self._version_fields(model, version), PROFILE))

    def _artifact(self, version: Fields, path: str) -> bytes:
        """A file of ours of the run that a version comes from."""
        foreign = f"{version['name']}:{version['version']} has no {path}; was it registered by driftloop?"
        if not version.get("run_id"):
            raise NotFound(f"{foreign} It comes from no run.")
        try:
            run = self._rest.get("runs/get", run_id=version["run_id"])
            return self._rest.artifact(run["run"]["info"]["artifact_uri"], path)
        except NotFound as error:
            raise NotFound(f"{foreign} {error}") from error


@contextlib.contextmanager
def _absent_is_no_error() -> Iterator[None]:
    """Leave the block early where MLflow has no such thing, or says that the name is invalid."""
    try:
        yield
    except NotFound:
        pass
    except Refused as error:
        if error.code != _INVALID:
            raise


def _keep(kept: OrderedDict[tuple[str, str], Item], key: tuple[str, str], item: Item, bound: int) -> None:
    kept[key] = item
    kept.move_to_end(key)
    while len(kept) > bound:
        kept.popitem(last=False)


def _to_registered(version: Fields) -> Registered:
    return Registered(
        model=version["name"],
        version=version["version"],
        run_id=version.get("run_id", ""),
        aliases=tuple(sorted(version.get("aliases", ()))),
        tags=_tags(version),
    )


def _tags(version: Fields) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in version.get("tags", ())}

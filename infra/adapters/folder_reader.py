"""Models in a folder, without a registry server: for a machine that only serves, and for tests.

    <folder>/<model>/<version>/model.bin      the payload, in the model's format
                              /features.json  the inputs, in order
                              /profile.json   what the training data looked like
                              /about.json     {"task": "binary", "format": "xgboost", "tags": {...}}
            /<model>/champion                 the version that holds the alias

Names are quoted as in addresses; one that is longer than file systems allow was never written.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from driftloop.mlops_core.data.features import FeatureSpec
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.errors import NotFound, Unavailable
from driftloop.mlops_core.ports import Fitted, Registered, Task

LONGEST_NAME = 255
"""Bytes of a file's or folder's name, on every file system that matters."""


class FolderReader:
    """`ports.ModelReader` over a folder; it sees what is written there at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profiles: dict[Path, tuple[int, Profile]] = {}
        """By file, with when it was written: asked for with each chunk, and read in a millisecond."""

    def fitted(self, model: str, version: str) -> Fitted:
        """The model itself. Raises NotFound."""
        folder = self._version(model, version)
        about = _about(folder)
        return Fitted(
            task=Task(str(about["task"])),
            format=str(about["format"]),
            payload=_bytes(folder / "model.bin"),
            features=FeatureSpec.model_validate_json(_bytes(folder / "features.json")),
        )

    def profile(self, model: str, version: str) -> Profile:
        """What its training data looked like. Raises NotFound."""
        path = self._version(model, version) / "profile.json"
        written = path.stat().st_mtime_ns if path.exists() else 0
        known, profile = self._profiles.get(path, (-1, None))
        if profile is None or known != written:
            profile = Profile.model_validate_json(_bytes(path))
            self._profiles[path] = (written, profile)
        return profile

    def version(self, model: str, version: str) -> Registered:
        """One version. Raises NotFound."""
        folder = self._version(model, version)
        aliases = ("champion",) if self.champion(model) == version else ()
        return Registered(model, version, run_id="", aliases=aliases, tags=_tags(_about(folder)))

    def versions(self, model: str) -> Sequence[Registered]:
        """All versions, oldest first."""
        return [self.version(model, version) for version in self._names(model)]

    def champion(self, model: str) -> str | None:
        """The version that holds the alias `champion`."""
        if not _possible(model):
            return None
        try:
            return (self._folder / _folder_name(model) / "champion").read_text().strip() or None
        except FileNotFoundError:
            return None

    def models(self) -> Collection[str]:
        """The names of all models that were saved."""
        self._look()
        found = {path.parent.parent for path in self._folder.glob("*/*/about.json")}
        return sorted(unquote(folder.name) for folder in found)

    def _look(self) -> None:
        if not self._folder.is_dir():
            raise Unavailable(f"no folder at {self._folder}; is it mounted?")

    def _version(self, model: str, version: str) -> Path:
        self._look()
        folder = self._folder / _folder_name(model) / _folder_name(version)
        if not _possible(model, version) or not (folder / "about.json").is_file():
            known = ", ".join(self._names(model)) or "none"
            raise NotFound(f"{model}:{version} is not in {self._folder}; versions of {model}: {known}")
        return folder

    def _names(self, model: str) -> list[str]:
        found = (self._folder / _folder_name(model)).glob("*/about.json") if _possible(model) else ()
        return sorted((unquote(path.parent.name) for path in found), key=lambda name: (len(name), name))


def save(
    folder: Path,
    model: str,
    version: str,
    fitted: Fitted,
    profile: Profile | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write a version for a `FolderReader`; `about.json` last, so that nobody sees half a version."""
    place = folder / _folder_name(model) / _folder_name(version)
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.bin").write_bytes(fitted.payload)
    (place / "features.json").write_text(fitted.features.model_dump_json())
    if profile is not None:
        (place / "profile.json").write_text(profile.model_dump_json())
    about = {"task": fitted.task, "format": fitted.format, "tags": dict(tags or {})}
    (place / "about.json").write_text(json.dumps(about))


def _folder_name(name: str) -> str:
    """A folder's name; `.` and `..` would be other folders than ours."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


def _possible(*names: str) -> bool:
    return all(len(_folder_name(name)) <= LONGEST_NAME for name in names)


def _about(folder: Path) -> dict[str, object]:
    about: dict[str, object] = json.loads(_bytes(folder / "about.json"))
    return about


def _tags(about: Mapping[str, object]) -> dict[str, str]:
    tags = about.get("tags")
    return {str(key): str(value) for key, value in tags.items()} if isinstance(tags, dict) else {}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{path.name} is missing in {path.parent}") from error

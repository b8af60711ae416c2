"""What a reader remembers of the registry: versions for good, misses for seconds."""

import pytest

from driftloop.infra.adapters.mlflow import reader
from driftloop.infra.adapters.mlflow.reader import VersionCache
from driftloop.mlops_core.errors import NotFound


class Shelf:
    """Versions, and who asked for them."""

    def __init__(self) -> None:
        self.versions: set[str] = set()
        self.asked: list[str] = []

    def load(self, model: str, version: str) -> str:
        self.asked.append(version)
        if version not in self.versions:
            raise NotFound(f"{model}:{version} is not on the shelf")
        return f"{model}:{version}"


def test_a_version_that_nobody_registered_is_asked_for_once_in_a_while() -> None:
    shelf, kept = Shelf(), VersionCache[str](bound=2)
    for _ in range(3):
        with pytest.raises(NotFound, match="m:7 is not on the shelf"):
            kept.get("m", "7", shelf.load)
    assert shelf.asked == ["7"]


def test_a_version_is_found_once_its_miss_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MISS_SECONDS", 0.0)
    shelf, kept = Shelf(), VersionCache[str](bound=2)
    with pytest.raises(NotFound):
        kept.get("m", "7", shelf.load)
    shelf.versions.add("7")
    assert kept.get("m", "7", shelf.load) == "m:7"


def test_misses_take_no_room_from_what_is_kept() -> None:
    shelf, kept = Shelf(), VersionCache[str](bound=2)
    shelf.versions.add("1")
    kept.get("m", "1", shelf.load)
    for version in "23456":
        with pytest.raises(NotFound):
            kept.get("m", version, shelf.load)
    assert kept.get("m", "1", shelf.load) == "m:1"
    assert shelf.asked.count("1") == 1

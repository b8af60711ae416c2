"""Models in a folder: what was saved is read, and what isn't there is said."""

from pathlib import Path

import numpy as np
import pytest

from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.infra.adapters.readers import reader_for
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.errors import Conflict, NotFound, Unavailable
from tests.support import serving_processes as rig

NAME = "flights/late & early"


@pytest.fixture
def reader(tmp_path: Path) -> FolderReader:
    profile = Profile.of({"miles": np.arange(100.0)}, np.linspace(0, 1, 100))
    for version in ("10", "9"):
        folder_reader.save(tmp_path, NAME, version, rig.fitted(), profile, {"stage": "new"})
    (tmp_path / "flights%2Flate%20%26%20early" / "champion").write_text("9\n")
    return FolderReader(tmp_path)


def test_what_was_saved_is_read(reader: FolderReader) -> None:
    assert reader.fitted(NAME, "9") == rig.fitted()
    assert reader.profile(NAME, "9").rows == 100


def test_versions_are_listed_oldest_first_with_alias_and_tags(reader: FolderReader) -> None:
    assert [(one.version, one.aliases) for one in reader.versions(NAME)] == [("9", ("champion",)), ("10", ())]
    assert reader.version(NAME, "10").tags == {"stage": "new"}
    assert reader.champion(NAME) == "9"
    assert list(reader.models()) == [NAME]


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="mounted"):
        FolderReader(tmp_path / "nowhere").fitted(NAME, "1")


def test_an_address_says_which_registry_it_means(tmp_path: Path) -> None:
    assert isinstance(reader_for(tmp_path.as_uri()), FolderReader)
    with pytest.raises(Conflict, match="file:///"):
        reader_for("sqlite:///mlflow.db")


@pytest.mark.parametrize("name", ["..", "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 100])
def test_a_name_that_can_be_no_folder_of_ours_is_unknown_like_any_other(
    reader: FolderReader, name: str
) -> None:
    with pytest.raises(NotFound, match="is not in"):
        reader.profile(name, "9")
    with pytest.raises(NotFound, match="is not in"):
        reader.profile(NAME, name)
    assert reader.champion(name) is None
    assert list(reader.versions(name)) == []

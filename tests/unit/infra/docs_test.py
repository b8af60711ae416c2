"""Generated documentation is what the code says."""

import pytest

from docs.generate import FOLDER, documents


@pytest.mark.parametrize("name", documents())
def test_a_generated_document_is_in_sync_with_the_code(name: str) -> None:
    assert (FOLDER / name).read_text() == documents()[name], "run `make docs`"

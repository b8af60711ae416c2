"""What docs/offline-store.md tells a data scientist to type works as it stands."""

import re
from pathlib import Path

import pytest

from driftloop.infra.adapters.parquet.store import ParquetStore
from tests.support.paths import ROOT
from tests.unit.infra.example_store_test import rows, texts
from tests.unit.infra.parquet_compaction_test import fill

PAGE = ROOT / "docs" / "offline-store.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["duckdb", "pyarrow"])
def test_the_examples_read_a_store_whose_features_changed(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store = ParquetStore(Path(".driftloop/store"))
    store.append("churn", "history", rows(500, 2, origin=texts("JFK", None)))
    fill(store, segments=3)
    list(store.compact("churn"))
    exec(compile(block, str(PAGE), "exec"), {})  # noqa: S102 - our own page
    said = capfd.readouterr().out
    assert "32" in said
    assert "newest" in said or "'origin'" in said

"""`make bench-loop`, short: the whole system on one stream."""

import json
from pathlib import Path

import pytest

from benchmarks.loop_quality.__main__ import main

SEED = 7


@pytest.mark.timeout(600)
def test_a_short_run_through_the_whole_system_writes_the_page_and_its_figures(tmp_path: Path) -> None:
    place = tmp_path / "loop-quality.md"
    folders = ["--folder", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")]
    asked = ["--data", "stable", "--rows", "3000", "--seed", str(SEED), *folders]
    assert main([str(place), *asked]) == 0
    stream = json.loads(place.with_suffix(".json").read_text())["streams"][0]
    assert stream["not_at_rest"] == stream["failed_rows"] == {"champion": 0}
    lines = {line["name"]: line for line in stream["lines"]}
    assert list(lines) == ["static", "cron 5k", "cron 20k", "gate", "loop, champion"]
    if lines["loop, champion"]["promotions"] == 0:
        assert lines["loop, champion"]["quality"] == lines["static"]["quality"]
    assert "| loop, champion |" in place.read_text()

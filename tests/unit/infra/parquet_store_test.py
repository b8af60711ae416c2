"""The offline store: whole segments or none, written once, read back as one table."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from driftloop.infra.adapters.parquet.store import ABANDONED_SECONDS, ParquetStore
from driftloop.infra.processes.child import Child
from driftloop.mlops_core.data.examples import backfill
from driftloop.mlops_core.errors import InvalidData, Unavailable
from driftloop.mlops_core.ports import ExampleStore
from tests.unit.infra.example_store_test import rows, texts

WRITER = """
import sys
from pathlib import Path
import numpy as np
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.mlops_core.data.examples import backfill

folder, name, rows, segments = sys.argv[1:]
store, rng, ids = ParquetStore(Path(folder)), np.random.default_rng(), [str(row) for row in range(int(rows))]
for segment in range(int(segments)):
    noise = {f"f{place}": rng.random(len(ids)) for place in range(10)}
    store.append("churn", str(segment), backfill(ids, range(len(ids)), [1.0] * len(ids), noise | {
        "writer": np.full(len(ids), name, dtype=object)}))
"""


@pytest.fixture
def store(tmp_path: Path) -> ExampleStore:
    return ParquetStore(tmp_path)


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def writing(writers: ExitStack, folder: Path, name: str, rows: int, segments: int) -> Child:
    command = [sys.executable, "-c", WRITER, str(folder), name, str(rows), str(segments)]
    child = Child.start(name, command, folder / f"{name}.log", env={"PYTHONPATH": os.pathsep.join(sys.path)})
    writers.callback(child.stop)
    return child


def test_no_examples_make_no_file(store: ExampleStore, tmp_path: Path) -> None:
    store.append("churn", "a", rows(0, 0))
    assert list(tmp_path.rglob("*")) == []


def test_only_the_segments_that_are_needed_are_read(store: ExampleStore, tmp_path: Path) -> None:
    for segment in range(30):
        store.append("churn", f"{segment}", rows(segment * 10, 10))
    for segment in range(27):
        spoil_rows(tmp_path / "churn" / f"{segment}.parquet")
    assert store.newest("churn", 30).ids.tolist() == [str(row) for row in range(270, 300)]
    assert len(store.newest("churn", 1000, since=2270)) == 30
    assert store.count("churn") == 300


def spoil_rows(path: Path) -> None:
    """Leave the footer as it is and everything before it unreadable."""
    data = path.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    path.write_bytes(data[:4] + b"\xff" * (len(data) - footer - 4) + data[-footer:])


def test_a_segment_that_cannot_be_read_is_named(store: ExampleStore, tmp_path: Path) -> None:
    store.append("churn", "a", rows(0, 3))
    (tmp_path / "churn" / "b.parquet").write_bytes(b"PAR1, or so it says")
    with pytest.raises(InvalidData, match=r"churn/b.parquet is not a Parquet file"):
        store.count("churn")


def test_a_folder_that_cannot_be_written_is_worth_another_try(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where a folder should be")
    with pytest.raises(Unavailable, match=r"a\.parquet: .*Not a directory"):
        ParquetStore(tmp_path / "store").append("churn", "a", rows(0, 1))


@pytest.mark.parametrize(
    "names", [("a/b", "a%2Fb"), ("..", "."), ("_x", "x"), (".x", "x"), ("ü" * 200, "ü" * 199)]
)
def test_any_name_is_a_file_of_its_own_inside_the_store(tmp_path: Path, names: tuple[str, str]) -> None:
    store = ParquetStore(tmp_path / "store")
    for place, name in enumerate(names):
        store.append(name, name, rows(place * 10, place + 1))
    assert [store.count(name) for name in names] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert ds.dataset(tmp_path / "store").count_rows() == 3


def test_duckdb_and_pyarrow_read_the_store_as_it_is(store: ExampleStore, tmp_path: Path) -> None:
    store.append("churn", "a", rows(0, 2, miles=np.array([1.0, np.nan]), origin=texts("JFK", None)))
    store.append("churn", "b", rows(2, 2))
    segments = duckdb.read_parquet(f"{tmp_path}/churn/*.parquet", union_by_name=True)
    columns = 'id, "at", labelled_at, label, score, version, miles, origin'
    assert segments.project(columns).order("labelled_at").fetchall() == [
        ("0", 1000, 2000, 0.0, 0.0, "3", 1.0, "JFK"),
        ("1", 1001, 2001, 1.0, 1e-6, "3", None, None),
        ("2", 1002, 2002, 0.0, 2e-6, "3", 2.0, None),
        ("3", 1003, 2003, 1.0, 3e-6, "3", 3.0, None),
    ]
    assert ds.dataset(tmp_path / "churn").count_rows() == 4


def test_a_segment_that_another_tool_wrote_counts_like_ours(store: ExampleStore, tmp_path: Path) -> None:
    store.append("churn", "a", rows(0, 2, gate=np.array([1.0, 2.0])))
    ours = duckdb.read_parquet(f"{tmp_path}/churn/a.parquet")
    theirs = "'x' || id AS id, gate::INTEGER AS gate, true AS rain, * EXCLUDE (id, gate)"
    ours.project(theirs).write_parquet(f"{tmp_path}/churn/b.parquet")
    read = store.newest("churn", 10)
    assert sorted(read.ids.tolist()) == ["0", "1", "x0", "x1"]
    assert sorted(read.features["gate"].tolist()) == [1.0, 1.0, 2.0, 2.0]
    assert np.nansum(read.features["rain"]) == 2.0


def test_a_writer_killed_in_mid_write_leaves_whole_segments_only(tmp_path: Path, writers: ExitStack) -> None:
    unfinished = tmp_path / "churn" / ".unfinished"
    for attempt in range(1, 20):
        child = writing(writers, tmp_path, "victim", rows=50_000, segments=10_000)
        child.wait_until(partial(half_written, tmp_path / "churn", attempt), seconds=60)
        child.kill()
        if any(unfinished.iterdir()):
            break
    assert any(unfinished.iterdir()), "never killed in mid-write"
    segments = list((tmp_path / "churn").glob("*.parquet"))
    assert [pq.read_table(path).num_rows for path in segments] == [50_000] * len(segments)
    assert ParquetStore(tmp_path).count("churn") == ds.dataset(tmp_path / "churn").count_rows()


def half_written(folder: Path, segments: int) -> bool:
    """Whether so many segments are there and the next one is on its way."""
    return any((folder / ".unfinished").glob("*")) and len(list(folder.glob("*.parquet"))) >= segments


def succeeded(child: Child) -> bool:
    return child.exit_code == 0


def test_what_a_crash_left_behind_is_cleaned_once_it_is_old(store: ExampleStore, tmp_path: Path) -> None:
    store.append("churn", "a", rows(0, 1))
    old, young = (tmp_path / "churn" / ".unfinished" / name for name in ("old", "young"))
    for draft in (old, young):
        draft.write_bytes(b"PAR1 half a segm")
    long_ago = time.time() - ABANDONED_SECONDS - 1
    os.utime(old, (long_ago, long_ago))
    store.append("churn", "b", rows(1, 1))
    assert (old.exists(), young.exists()) == (False, True)
    assert store.count("churn") == 2


def test_of_two_processes_that_write_the_same_segments_one_writes_each(
    tmp_path: Path, writers: ExitStack
) -> None:
    children = [writing(writers, tmp_path, name, rows=50, segments=100) for name in ("left", "right")]
    for child in children:
        child.wait_until(partial(succeeded, child), seconds=60)
    segments = list((tmp_path / "churn").glob("*.parquet"))
    assert len(segments) == 100
    assert all(len(set(pq.read_table(path)["writer"].to_pylist())) == 1 for path in segments)
    assert ParquetStore(tmp_path).count("churn") == 5000
    assert list((tmp_path / "churn" / ".unfinished").iterdir()) == []


def test_text_that_numpy_holds_at_a_fixed_width_stays_text(store: ParquetStore) -> None:
    store.append("churn", "a", backfill(["1", "2"], [5, 6], [1.0, 0.0], {"origin": np.array(["JFK", "LGA"])}))
    assert store.newest("churn", 2).features["origin"].tolist() == ["JFK", "LGA"]

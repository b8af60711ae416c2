"""Compaction and retention: each row once, whatever happens in between, for us and for any other reader."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow.dataset as ds
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from typer.testing import CliRunner

from driftloop.infra.adapters.parquet.segment_folder import WAITING, SegmentFolder
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.infra.cli.app import app
from driftloop.infra.processes.child import Child
from driftloop.mlops_core.data.examples import Examples, concatenate
from driftloop.schemas.settings import StoreSettings
from tests.unit.infra.example_store_test import rows
from tests.unit.infra.parquet_store_test import spoil_rows

DAY_MS = 24 * 3_600_000
SMALL = StoreSettings(file_rows=50, file_days=30)


def name(partition: int, first: int, rows: int) -> str:
    return f"{partition:03d}-{first:012d}-{first + rows - 1:012d}-0badcafe"


def fill(store: ParquetStore, segments: int, size: int = 10, partition: int = 0, start: int = 0) -> None:
    """Segments of `size` rows whose offsets are their numbers."""
    for first in range(start, start + segments * size, size):
        store.append("churn", name(partition, first, size), rows(partition * 1_000_000 + first, size))


def visible(folder: Path) -> list[str]:
    """Ids as anybody's `*.parquet` gives them; sorted, with repetitions."""
    if not list((folder / "churn").glob("*.parquet")):
        return []
    found = duckdb.read_parquet(f"{folder}/churn/*.parquet", union_by_name=True).project("id").fetchall()
    return sorted(id_ for (id_,) in found)


def numbered(count: int, start: int = 0) -> list[str]:
    return sorted(str(row) for row in range(start, start + count))


def compact(store: ParquetStore) -> list[str]:
    return list(store.compact("churn"))


def test_segments_become_files_of_the_size_that_was_set(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    fill(store, segments=12)
    compact(store)
    files = sorted((tmp_path / "churn").glob("*.parquet"))
    assert [ds.dataset(file).count_rows() for file in files] == [50, 50, 20]
    assert list((tmp_path / "churn" / ".recent").iterdir()) == []
    assert visible(tmp_path) == numbered(120)
    assert sorted(store.newest("churn", 1000).ids.tolist()) == numbered(120)


def test_what_waits_is_read_by_us_and_nobody_else(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    fill(store, segments=2)
    assert store.count("churn") == len(store.newest("churn", 100)) == 20
    assert list(tmp_path.glob("**/*.parquet")) == []
    assert ds.dataset(tmp_path / "churn").count_rows() == 0


def test_a_growing_file_keeps_its_name(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    fill(store, segments=1)
    compact(store)
    [file] = (tmp_path / "churn").glob("*.parquet")
    fill(store, segments=2, start=10)
    compact(store)
    assert list((tmp_path / "churn").glob("*.parquet")) == [file]
    assert visible(tmp_path) == numbered(30)


def test_a_segment_written_again_after_it_was_folded_changes_nothing(tmp_path: Path) -> None:
    for restarted in (False, True):
        store = ParquetStore(tmp_path, SMALL)
        fill(store, segments=12)
        compact(store)
        again = ParquetStore(tmp_path, SMALL) if restarted else store
        fill(again, segments=12)
        assert again.contents("churn").waiting == 0
        assert again.count("churn") == 120


def test_a_replay_that_is_cut_into_other_segments_is_not_visible_twice(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    fill(store, segments=10, size=10)
    compact(store)
    fill(store, segments=15, size=7)
    compact(store)
    assert visible(tmp_path) == numbered(105)


def test_a_topic_that_begins_again_from_offset_0_loses_no_row(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    fill(store, segments=7)
    compact(store)
    for first in range(0, 70, 10):
        other = name(0, first, 10).replace("0badcafe", "deadbeef")
        store.append("churn", other, rows(1000 + first, 10))
    compact(store)
    assert visible(tmp_path) == sorted(numbered(70) + numbered(70, start=1000))


def test_features_and_types_that_changed_between_segments_stay_what_they_were(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    store.append("churn", name(0, 0, 2), rows(0, 2, gate=np.array([7.0, np.nan]), miles=np.array([1.0, 2.0])))
    store.append("churn", name(0, 2, 1), rows(2, 1, gate=np.array(["B12"], dtype=object)))
    before = store.newest("churn", 10)
    compact(store)
    after = store.newest("churn", 10)
    assert after.features["gate"].tolist() == before.features["gate"].tolist() == ["7", None, "B12"]
    np.testing.assert_array_equal(after.features["miles"], [1.0, 2.0, np.nan])


def test_parts_joined_in_memory_spell_numbers_like_the_store(tmp_path: Path) -> None:
    number, text = rows(0, 2, gate=np.array([7.0, 7.5])), rows(2, 1, gate=np.array(["B12"], dtype=object))
    store = ParquetStore(tmp_path)
    store.append("churn", "a", number)
    store.append("churn", "b", text)
    assert concatenate([number, text]).features["gate"].tolist() == ["7", "7.5", "B12"]
    assert store.newest("churn", 3).features["gate"].tolist() == ["7", "7.5", "B12"]


def test_a_folder_of_the_old_layout_is_read_and_becomes_one_of_the_new(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    for first in range(0, 60, 10):
        store.append("churn", "import", rows(first, 10))
        (tmp_path / "churn" / "import.parquet").rename(tmp_path / "churn" / f"000-{first:012d}.parquet")
        strip_names(tmp_path / "churn" / f"000-{first:012d}.parquet")
    assert store.count("churn") == 60
    assert sorted(store.newest("churn", 100).ids.tolist()) == numbered(60)
    compact(store)
    assert visible(tmp_path) == numbered(60)
    assert len(list((tmp_path / "churn").glob("part-*.parquet"))) == 2
    assert len(list((tmp_path / "churn").glob("*.parquet"))) == 2


def strip_names(path: Path) -> None:
    """Make it what was written before files named their segments."""
    duckdb.execute(f"COPY (FROM '{path}') TO '{path}.old' (FORMAT parquet)")
    Path(f"{path}.old").rename(path)


def test_a_segment_makes_the_store_tidy_up_when_it_is_due(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, StoreSettings(file_rows=1_000_000))
    store.append("churn", name(0, 0, 20_000), rows(0, 20_000))
    store.tend("churn")
    waiting = []
    for first in range(20_000, 20_000 + 10 * WAITING, 10):
        store.append("churn", name(0, first, 10), rows(first, 10))
        store.tend("churn")
        waiting.append(store.contents("churn").waiting)
    assert waiting == [*range(1, WAITING), 0]
    assert len(visible(tmp_path)) == 20_000 + 10 * WAITING


def test_tending_leaves_a_folder_alone_that_somebody_else_tidies(tmp_path: Path) -> None:
    mine, theirs = ParquetStore(tmp_path, SMALL), ParquetStore(tmp_path, SMALL)
    fill(mine, segments=3)
    steps = mine.compact("churn")
    next(steps)
    theirs.tend("churn")
    assert len(list((tmp_path / "churn" / ".recent").iterdir())) == 3
    list(steps)
    assert visible(tmp_path) == numbered(30)


def test_tending_a_store_with_a_broken_file_raises_nothing(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    fill(store, segments=1)
    (tmp_path / "churn" / "broken.parquet").write_bytes(b"PAR1, or so it says")
    store.tend("churn")


def test_files_past_their_time_go_and_those_of_other_tools_stay(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, StoreSettings(file_rows=10, retention_days=30))
    for day in (0, 20, 40, 60):
        part = rows(day * 10, 10)
        aged = Examples(**{**vars(part), "labelled_at": part.labelled_at + day * DAY_MS})
        store.append("churn", name(0, day * 10, 10), aged)
    compact(ParquetStore(tmp_path, StoreSettings(file_rows=10)))
    oldest = min((tmp_path / "churn").glob("*.parquet"))
    theirs = duckdb.read_parquet(str(oldest)).project("'x' AS id, * EXCLUDE (id)").limit(1)
    theirs.write_parquet(f"{tmp_path}/churn/theirs.parquet")
    compact(store)
    assert visible(tmp_path) == [*numbered(10, start=400), *numbered(10, start=600), "x"]


def test_one_label_from_the_future_makes_nothing_old(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, StoreSettings(file_rows=10, retention_days=30))
    fill(store, segments=1)
    strange = rows(10, 10)
    labelled_at = np.where(np.arange(10) == 9, 1_700_000_000_000_000, strange.labelled_at)
    store.append("churn", name(0, 10, 10), Examples(**{**vars(strange), "labelled_at": labelled_at}))
    compact(store)
    assert visible(tmp_path) == numbered(20)


def test_a_large_store_is_listed_without_opening_its_files(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, StoreSettings(file_rows=10))
    fill(store, segments=200)
    compact(store)
    for path in sorted((tmp_path / "churn").glob("*.parquet"))[:-2]:
        times = path.stat()
        path.write_bytes(b"?" * times.st_size)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    fresh = ParquetStore(tmp_path, StoreSettings(file_rows=10))
    assert sorted(fresh.newest("churn", 15).ids.tolist()) == numbered(15, start=1985)
    assert fresh.count("churn") == 2000


def test_a_lost_or_broken_index_costs_time_only(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    fill(store, segments=10)
    compact(store)
    for broken in (b"", b"[]", b'{"part": 3}', b'{"part": [1]}'):
        (tmp_path / "churn" / ".index.json").write_bytes(broken)
        assert ParquetStore(tmp_path, SMALL).count("churn") == 100


def test_after_every_step_of_a_compaction_each_row_is_there_once(tmp_path: Path) -> None:
    """For our reader every row, for any other every row that was visible before, and none twice."""
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        store = ParquetStore(folder, SMALL)
        fill(store, segments=7)
        compact(store)
        fill(store, segments=6, start=70)
        done = list(islice(SegmentFolder(folder / "churn", SMALL).compact(0, everything=True), steps))
        seen = visible(folder)
        assert len(seen) == len(set(seen)) >= 70
        for reader in (store, ParquetStore(folder, SMALL)):
            assert reader.count("churn") == 130
            assert sorted(reader.newest("churn", 1000).ids.tolist()) == numbered(130)
        fill(store, segments=13)
        compact(store)
        assert visible(folder) == numbered(130)
        if len(done) < steps:
            break
        steps += 1
    assert steps > 10


class Folder(RuleBasedStateMachine):
    """Whatever is done to a store, in whatever order, each row is there once."""

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.settings = StoreSettings(file_rows=25, file_days=3, retention_days=20)
        self.store = ParquetStore(self.path, self.settings)
        self.written: list[tuple[str, Examples]] = []
        self.ends = {0: 0, 1: 0}
        self.day = 0.0

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(
        partition=st.sampled_from([0, 1]), size=st.integers(1, 15), days=st.floats(0, 2), text=st.booleans()
    )
    def append(self, partition: int, size: int, days: float, text: bool) -> None:
        first = self.ends[partition]
        self.ends[partition] += size
        self.day += days
        part = rows(partition * 1_000_000 + first, size)
        labelled_at = np.full(size, int(self.day * DAY_MS), dtype=np.int64)
        feature = np.array(["x"] * size, dtype=object) if text else np.arange(size, dtype=np.float64)
        aged = Examples(**{**vars(part), "labelled_at": labelled_at, "features": {"f": feature}})
        self.written.append((name(partition, first, size), aged))
        self.store.append("churn", *self.written[-1])

    @rule(back=st.integers(0, 5))
    def append_again(self, back: int) -> None:
        if self.written:
            self.store.append("churn", *self.written[max(0, len(self.written) - 1 - back)])

    @rule()
    def compact(self) -> None:
        list(self.store.compact("churn"))

    @rule()
    def tend(self) -> None:
        self.store.tend("churn")

    @rule(steps=st.integers(0, 12), everything=st.booleans())
    def crash(self, steps: int, everything: bool) -> None:
        segments, now = SegmentFolder(self.path / "churn", self.settings), int(time.time() * 1000)
        if self.written:
            list(islice(segments.compact(now, everything), steps))
        self.store = ParquetStore(self.path, self.settings)

    @invariant()
    def each_row_is_read_once(self) -> None:
        read = self.store.newest("churn", 100_000).ids.tolist()
        assert len(read) == len(set(read)) == self.store.count("churn")
        assert self.young() <= set(read) <= self.all()

    @invariant()
    def no_row_is_visible_twice(self) -> None:
        seen = visible(self.path)
        assert len(seen) == len(set(seen))
        assert set(seen) <= self.all()

    @rule()
    def after_a_compaction_all_rows_are_visible(self) -> None:
        self.compact()
        assert (
            self.young() <= set(visible(self.path)) == set(self.store.newest("churn", 100_000).ids.tolist())
        )

    def all(self) -> set[str]:
        return {id_ for _, part in self.written for id_ in part.ids}

    def young(self) -> set[str]:
        """Rows that retention must not touch."""
        cut = (self.day - 20) * DAY_MS
        return {id_ for _, part in self.written for id_ in part.ids[part.labelled_at >= cut]}


TestFolder = Folder.TestCase
TestFolder.settings = hypothesis_settings(max_examples=40, stateful_step_count=25)

COMPACTOR = """
import sys
from pathlib import Path
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.schemas.settings import StoreSettings
from tests.unit.infra.parquet_compaction_test import fill

folder, start, segments = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = ParquetStore(Path(folder), StoreSettings(file_rows=20_000))
for segment in range(segments):
    fill(store, segments=1, size=1000, start=start + segment * 1000)
    list(store.compact("churn"))
"""


@pytest.fixture
def children() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def compacting(children: ExitStack, folder: Path, start: int, segments: int) -> Child:
    command = [sys.executable, "-c", COMPACTOR, str(folder), str(start), str(segments)]
    child = Child.start(
        f"compactor-{start}", command, folder / "log", env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    children.callback(child.stop)
    return child


def test_other_readers_see_no_row_twice_and_none_vanish_while_it_compacts(
    tmp_path: Path, children: ExitStack
) -> None:
    child = compacting(children, tmp_path, 0, 60)
    ours, most, looks = ParquetStore(tmp_path), 0, 0
    while child.alive or looks < 1:
        seen = visible(tmp_path)
        assert len(seen) == len(set(seen)) >= most
        files = ds.dataset(tmp_path / "churn", format="parquet").to_table(["id"])["id"] if seen else []
        assert len(files) == len(set(map(str, files))) >= len(seen)
        read = ours.newest("churn", 1_000_000)
        assert len(read) >= len(files)
        most, looks = len(seen), looks + 1
    assert child.exit_code == 0
    assert visible(tmp_path) == numbered(60_000)
    assert looks > 5


def has_rows(store: ParquetStore, enough: int) -> bool:
    return store.count("churn") >= enough


def test_a_compaction_killed_at_any_moment_loses_and_doubles_nothing(
    tmp_path: Path, children: ExitStack
) -> None:
    store, start = ParquetStore(tmp_path, StoreSettings(file_rows=20_000)), 0
    for attempt in range(4):
        child = compacting(children, tmp_path, start, 1000)
        enough = start + 1000 + 517 * attempt
        child.wait_until(partial(has_rows, store, enough), seconds=60)
        child.kill()
        seen, read = visible(tmp_path), store.newest("churn", 1_000_000).ids.tolist()
        assert len(seen) == len(set(seen))
        start = store.count("churn")
        assert sorted(read) == numbered(start)
        compact(store)
        assert visible(tmp_path) == numbered(start)


def test_a_file_that_retention_takes_from_under_a_reader_makes_it_list_again(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, SMALL)
    fill(store, segments=10)
    compact(store)
    segments = SegmentFolder(tmp_path / "churn", SMALL)
    oldest, newest = segments.list_segments().files
    oldest.path.unlink()
    assert sorted(store.newest("churn", 1000).ids.tolist()) == numbered(50, start=50)
    spoil_rows(newest.path)


def test_the_store_is_shown_and_compacted_from_the_command_line(tmp_path: Path) -> None:
    fill(ParquetStore(tmp_path), segments=3)
    run = CliRunner(env={"DRIFTLOOP_STORE__FOLDER": str(tmp_path)}).invoke
    before = run(app, ["store", "show"]).output.splitlines()[1].split()
    assert " ".join(before) == "churn 30 0 30 rows in 3 1970-01-01 00:00 - 1970-01-01 00:00"
    assert "3 segments" in run(app, ["store", "compact", "churn"]).output
    assert run(app, ["store", "show", "churn"]).output.splitlines()[1].split()[1:4] == ["30", "1", "-"]
    assert "has no model 'chum'; it has churn" in run(app, ["store", "show", "chum"]).output

"""Labelled examples as Parquet: a folder a model, few large files, and segments that wait to be folded in.

    <store>/churn/part-000-000000000000-5f0c9a1b.parquet     segments of partition 0, from offset 0 on
    <store>/churn/january.parquet                            an import, written once under a name of its own
    <store>/churn/.recent/000-000000000017-000000000021-2b7e1516.segment     not folded yet
    <store>/churn/.unfinished/...                            being written; a crash's goes after an hour

Columns: id, at, labelled_at, label, score, version, one a feature.

Plain files: DuckDB, Spark or `pyarrow.dataset` read them as they are, and a file that another tool wrote
with the same columns counts like ours. Files may differ in their features and in a feature's type.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop.infra.adapters.parquet import files
from driftloop.infra.adapters.parquet.files import ABANDONED_SECONDS, FileMoved
from driftloop.infra.adapters.parquet.rows import concatenate_tables, examples_of, newest_of, table_of
from driftloop.infra.adapters.parquet.segment_folder import SegmentFolder
from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.errors import DriftloopError, Unavailable
from driftloop.schemas.settings import StoreSettings

__all__ = ["ABANDONED_SECONDS", "Contents", "ParquetStore"]

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

ATTEMPTS = 20
"""Listings that a reader tries: each fails only if a fold ended in the milliseconds it took."""


@dataclass(frozen=True)
class Contents:
    """What a model's folder holds; rows include those that wait."""

    model: str
    rows: int
    files: int
    waiting: int
    """Segments that plain readers don't see yet."""
    waiting_rows: int
    since: int
    until: int
    """`labelled_at` of the oldest and newest row (UTC, ms); 0 without rows."""


class ParquetStore:
    """The offline store in a folder, which may be shared by any number of processes.

    Every call raises Unavailable where the file system does, and InvalidData for a file that is no segment.
    """

    def __init__(self, folder: Path, settings: StoreSettings | None = None) -> None:
        self._folder = folder
        self._settings = settings or StoreSettings()
        self._segment_folders: dict[str, SegmentFolder] = {}

    def append(self, model: str, segment: str, examples: Examples) -> None:
        """Write them once: a segment that is there already changes nothing. Atomic and durable.

        The first writer of a name wins, whatever the others bring; no examples, no file. A name that tells
        offsets (`parquet_files.offsets_of`) may be folded into a file with others; any other stays a file.
        """
        if not len(examples):
            return
        segments, name = self._segments(model), files.file_name(segment)
        offsets = files.offsets_of(name)
        path = segments.folder / f"{name}.parquet" if offsets is None else segments.waiting_place(name)
        with files.translate_errors(path):
            present = path.exists()
        if not present and (
            offsets is None or not self._retry_listing(segments, lambda: segments.holds(name))
        ):
            try:
                with files.translate_errors(path):
                    files.write_once(table_of(examples), segments.folder, path)
            except FileMoved as moved:
                raise Unavailable(f"{path}: its folder was removed") from moved

    def newest(self, model: str, rows: int, since: int | None = None) -> Examples:
        """The `rows` newest examples by label time, not labelled before `since`; ordered by `at`.

        A feature that a segment lacks is missing there; one that is text anywhere is text everywhere. An
        id that was written twice (a replay cut into other segments) comes once, so fewer rows may come.
        """
        segments = self._segments(model)
        tables = self._retry_listing(segments, lambda: _candidates(segments, rows, since))
        return examples_of(newest_of(concatenate_tables(tables[::-1]), rows, since))

    def count(self, model: str) -> int:
        """How many there are, from the index and footers alone."""
        return self.contents(model).rows

    def contents(self, model: str) -> Contents:
        """What is there, from the index and footers alone."""
        segments = self._segments(model)
        listing = self._retry_listing(segments, segments.list_segments)
        every = [*listing.files, *listing.waiting]
        return Contents(
            model,
            rows=sum(one.rows for one in every),
            files=len(listing.files),
            waiting=len(listing.waiting),
            waiting_rows=sum(one.rows for one in listing.waiting),
            since=min((one.first for one in every if one.rows), default=0),
            until=max((one.last for one in every if one.rows), default=0),
        )

    def models(self) -> list[str]:
        """Models with a folder here; a name too long for one comes cut, as its folder's."""
        with files.translate_errors(self._folder):
            if not self._folder.exists():
                return []
            return sorted(unquote(one.name) for one in self._folder.iterdir() if one.is_dir())

    def tend(self, model: str) -> None:
        """Fold and let go of what is due, a second of work at most; called after each segment.

        Raises nothing: what was appended is safe, and the next call tries again.
        """
        segments = self._segments(model)
        try:
            with _lock(segments.folder, wait=False) as mine:
                for _ in segments.compact(_now(), everything=False) if mine else ():
                    pass
        except (DriftloopError, FileMoved) as error:
            log.warning("store not tidied", extra={"model": model, "error": str(error)})

    def compact(self, model: str) -> Iterator[str]:
        """Fold all that waits and let go of what is past its time; each step says what it did.

        Waits for whoever is doing it already.
        """
        segments = self._segments(model)
        if not segments.folder.exists():
            return
        with _lock(segments.folder, wait=True):
            try:
                yield from segments.compact(_now(), everything=True)
            except FileMoved as moved:
                raise Unavailable(f"{moved} was changed by somebody who doesn't lock the folder") from moved

    def _segments(self, model: str) -> SegmentFolder:
        if model not in self._segment_folders:
            self._segment_folders[model] = SegmentFolder(
                self._folder / files.file_name(model), self._settings
            )
        return self._segment_folders[model]

    def _retry_listing(self, segments: SegmentFolder, ask: Callable[[], Answer]) -> Answer:
        """The answer, asked again when files went meanwhile."""
        for _ in range(ATTEMPTS):
            try:
                return ask()
            except FileMoved as moved:
                last = moved
        raise Unavailable(f"{segments.folder}: files change faster than they can be listed, {last} last")


def _candidates(segments: SegmentFolder, rows: int, since: int | None) -> list[pa.Table]:
    """Files from the newest label back, until no unread one can have a row that belongs to `rows`."""
    tables: list[pa.Table] = []
    best: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    listing = segments.list_segments()
    for segment in sorted([*listing.files, *listing.waiting], key=lambda one: (-one.last, one.path)):
        full = len(best) >= rows and (rows < 1 or best.min() > segment.last)
        if full or (since is not None and segment.last < since):
            break
        tables.append(files.read(segment))
        best = np.concatenate([best, tables[-1]["labelled_at"].to_numpy()])
        if len(best) > rows:
            best = np.partition(best, len(best) - rows)[-rows:]
    return tables


@contextlib.contextmanager
def _lock(folder: Path, wait: bool) -> Iterator[bool]:
    """Whether nobody else tidies the folder until the end of the block; a lock dies with its process."""
    with files.translate_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _now() -> int:
    return int(time.time() * 1000)

"""Parquet files of labelled examples: written whole or not at all, and known by their footers."""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from driftloop.infra.adapters.parquet.rows import FIXED
from driftloop.mlops_core.errors import InvalidData, Unavailable

HOLDS = b"driftloop.segments"
"""Footer entry of files that we wrote: the names of the segments in it, as a JSON list."""
LONGEST_NAME = 120
"""Bytes of a file name taken from a model or segment; file systems end at 255, other tools earlier."""
ABANDONED_SECONDS = 3600.0
"""An unfinished file that nobody touched for so long was left by a crash: writing takes seconds."""
SPAN = re.compile(
    r"(?:part-)?(?P<partition>\d{3,})-(?P<first>\d{12,})(?:-(?P<last>\d{12,}))?(?:-[0-9a-f]{8})*"
)
"""`003-000000000017-000000000021-5f0c9a1b`; without the last part, as files were once called, or ours are."""

Stamp = tuple[int, int]
"""Size in bytes and time of change in ns: another stamp, another content."""


class FileMoved(Exception):
    """A file isn't what the listing said any more: somebody tidied up meanwhile, so list again."""


@dataclass(frozen=True)
class Offsets:
    """Where in the examples topic a segment comes from; both ends included."""

    partition: str
    first: int
    last: int

    def overlaps(self, other: "Offsets | None") -> bool:
        """Whether they have an offset in common."""
        same = other is not None and self.partition == other.partition
        return same and other is not None and self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Segment:
    """What a file's footer says."""

    path: Path
    stamp: Stamp
    rows: int
    first: int
    last: int
    """`labelled_at` of its oldest and newest row (UTC, ms)."""
    offsets: Offsets | None = None
    """From the names of what it holds; None for an import and for files of other tools."""
    ours: bool = False
    holds: frozenset[str] | None = None
    """Names of the segments in it; None: not looked at."""


def offsets_of(name: str) -> Offsets | None:
    """The offsets that a segment's name tells, if it does.

    >>> offsets_of("003-000000000017-000000000021-5f0c9a1b")
    Offsets(partition='003', first=17, last=21)
    >>> offsets_of("january") is None
    True
    """
    found = SPAN.fullmatch(name)
    if found is None:
        return None
    return Offsets(found["partition"], int(found["first"]), int(found["last"] or found["first"]))


def file_name(name: str) -> str:
    """A file name that no other name has; readers skip files whose name begins with a dot or underscore."""
    quoted = quote(name, safe="")
    if quoted[:1] in (".", "_"):
        quoted = f"%{ord(quoted[0]):X}{quoted[1:]}"
    if len(quoted) <= LONGEST_NAME:
        return quoted
    return f"{quoted[: LONGEST_NAME - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Errors of the file system and of Arrow as ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileMoved(str(path)) from error
    except pa.ArrowInvalid as error:
        raise InvalidData(f"{path} is not a Parquet file of labelled examples: {error}") from error
    except OSError as error:
        raise Unavailable(f"{path}: {error}") from error


def stamp_of(path: Path) -> Stamp:
    """What tells this content from any other that had this name."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def footer(path: Path) -> Segment:
    """What the footer says.

    Raises:
        InvalidData: it is no segment.
        Moved: it went, or became another one, while we looked.
    """
    with translate_errors(path):
        before = stamp_of(path)
        metadata = pq.read_metadata(path)
        if stamp_of(path) != before:
            raise FileMoved(str(path))
    first, last = _label_times(path, metadata)
    noted = (metadata.metadata or {}).get(HOLDS)
    holds = frozenset[str](orjson.loads(noted) if noted else [path.stem])
    return Segment(path, before, metadata.num_rows, first, last, _span(holds), noted is not None, holds)


def read(segment: Segment, columns: Sequence[str] | None = None) -> pa.Table:
    """Its rows (of these columns), all as the listing knew them.

    Raises:
        Moved: it went, or became another one.
    """
    with translate_errors(segment.path):
        file = pq.ParquetFile(segment.path)
        if stamp_of(segment.path) != segment.stamp:
            raise FileMoved(str(segment.path))
        return file.read(columns)


def write_unfinished(table: pa.Table, folder: Path, holds: Sequence[str]) -> Path:
    """The table as a file under `.unfinished` that survives a power cut, for somebody to give it a name."""
    unfinished = folder / ".unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    _sweep(unfinished)
    path = unfinished / uuid4().hex
    noted = table.replace_schema_metadata({HOLDS: orjson.dumps(sorted(holds))})
    with path.open("xb") as file:
        pq.write_table(noted, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    return path


def write_once(table: pa.Table, folder: Path, path: Path) -> None:
    """Give the table the name `path`, unless another process was first."""
    drafted = write_unfinished(table, folder, [path.stem])
    path.parent.mkdir(exist_ok=True)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(drafted, path)
    finally:
        drafted.unlink(missing_ok=True)
    for changed in dict.fromkeys([path.parent, folder, folder.parent]):
        fsync_folder(changed)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(unfinished: Path) -> None:
    for path in unfinished.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                path.unlink()


def _label_times(path: Path, metadata: Any) -> tuple[int, int]:
    """The oldest and newest `labelled_at`, from the footer's statistics."""
    missing = FIXED.keys() - set(metadata.schema.names)
    if missing:
        raise InvalidData(
            f"{path} has no column {', '.join(sorted(missing))}; it has {metadata.schema.names}"
        )
    place = metadata.schema.names.index("labelled_at")
    groups = [metadata.row_group(group).column(place) for group in range(metadata.num_row_groups)]
    if not all(group.is_stats_set and group.statistics.has_min_max for group in groups):
        raise InvalidData(f"{path} keeps no statistics of labelled_at, so that its age is unknown")
    first = min((group.statistics.min for group in groups), default=0)
    return first, max((group.statistics.max for group in groups), default=0)


def _span(names: frozenset[str]) -> Offsets | None:
    """From the first to the last offset of all of them."""
    spans = [span for name in names if (span := offsets_of(name)) is not None]
    if not spans:
        return None
    return Offsets(spans[0].partition, min(s.first for s in spans), max(s.last for s in spans))

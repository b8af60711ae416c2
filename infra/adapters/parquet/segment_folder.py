"""A model's folder in the offline store: what is in it, and keeping it in order.

A row has one visible name for life. Segments wait unseen in `.recent`; a fold writes the newest visible
file of their partition anew with their rows in it and gives it the old one's name. That one rename is when
the rows move, for every reader: before it nobody counts the new file, after it nobody counts the segments.

    draft ──rename──▶ part-003-000000000017-5f0c9a1b.parquet ──▶ segments removed ──▶ index

Whatever step a crash comes after, the next run goes on from what it finds: the footer of a file names the
segments in it, so that those still lying about are recognised. The index only saves reading footers; a file
that it knows has no segments lying about, since it is written last.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pyarrow as pa

from driftloop.infra.adapters.parquet import files
from driftloop.infra.adapters.parquet.files import Offsets, Segment
from driftloop.infra.adapters.parquet.rows import concatenate_tables, first_of_each
from driftloop.schemas.settings import StoreSettings

DAY_MS = 24 * 3_600_000
WAITING = 16
"""Segments of a partition that wait for a fold at most: a reader opens each."""
SHARE = 4
"""A fold is also due when the waiting rows are a quarter of the file that has to be written anew: so a row
is written about five times in all, however large the file."""
CHEAP_ROWS = 10_000
"""So few rows are written within 20 ms, and folded at once."""
HIDDEN = ".segment"
"""Ending of waiting segments: not `.parquet`, for `**/*.parquet` shall not find them either."""


@dataclass(frozen=True)
class Listing:
    """A folder at one moment; every row of ours is in `files` or `waiting`, and in one of them."""

    files: Sequence[Segment]
    """Visible files."""
    waiting: Sequence[Segment]
    """Segments to be folded, by name."""
    leftovers: Sequence[Path]
    """Segments whose rows are in a file already."""

    def partitions(self) -> list[str]:
        """Those that something waits for."""
        return sorted({one.offsets.partition for one in self.waiting if one.offsets is not None})

    def of(self, partition: str) -> list[Segment]:
        """What waits for this partition, oldest first."""
        mine = [one for one in self.waiting if one.offsets is not None and one.offsets.partition == partition]
        return sorted(mine, key=lambda one: (one.offsets.last if one.offsets else 0, one.path.stem))


class SegmentFolder:
    """A model's folder. Methods raise what `parquet_files` raises, Moved included."""

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self.folder = folder
        self._settings = settings
        self._known: dict[Path, Segment] = {}

    def list_segments(self) -> Listing:
        """List it. The order (index, segments, files) is what makes it right while others fold."""
        index = self._read_index()
        with files.translate_errors(self.folder):
            hidden = sorted((self.folder / ".recent").glob(f"*{HIDDEN}"))
            paths = sorted(self.folder.glob("*.parquet"))
        seen = [self._segment(path, index) for path in paths]
        held = frozenset(chain.from_iterable(one.holds or () for one in seen if _is_part(one)))
        visible = [one for one in seen if _is_part(one) or one.path.stem not in held]
        flat = [one for one in visible if _is_flat(one)]
        waiting = [self._segment(path, {}) for path in hidden if path.stem not in held]
        return Listing(
            [one for one in visible if not _is_flat(one)],
            [*waiting, *flat],
            [path for path in [*hidden, *paths] if path.stem in held],
        )

    def holds(self, name: str, listing: Listing | None = None) -> bool:
        """Whether the rows of a segment of that name are here, in whatever file."""
        if (self.folder / f"{name}.parquet").exists() or self.waiting_place(name).exists():
            return True
        offsets = files.offsets_of(name)
        return offsets is not None and any(
            name in self._names(one)
            for one in (listing or self.list_segments()).files
            if offsets.overlaps(one.offsets)
        )

    def waiting_place(self, name: str) -> Path:
        """Where a segment waits to be folded."""
        return self.folder / ".recent" / f"{name}{HIDDEN}"

    def compact(self, now: int, everything: bool) -> Iterator[str]:
        """Put the folder in order, one step at a time; each says what it did. Crash-safe between any two.

        Only one may do this at a time.

        Args:
            now: this moment (UTC, ms): labels from the future tell nothing about the age of others.
            everything: fold all that waits, and look for expired files; else one partition that is due.
        """
        listing = self.list_segments()
        yield from self._remove(listing.leftovers, "is in a file already")
        changed = bool(listing.leftovers)
        for partition in listing.partitions():
            while listing.of(partition) and (everything or self._due(listing, partition)):
                yield from self._merge_partition(listing, partition)
                listing, changed = self.list_segments(), True
                if not everything:
                    break
            if changed and not everything:
                break
        if changed or everything:
            yield from self._remove(self._expired_files(listing, now), "is past its time")
            yield self._write_index(self.list_segments().files)

    def _due(self, listing: Listing, partition: str) -> bool:
        waiting, file = listing.of(partition), self._unfilled_file(listing, partition)
        written_anew = file.rows if file else 0
        rows = sum(one.rows for one in waiting)
        return len(waiting) >= WAITING or rows * SHARE >= written_anew or written_anew <= CHEAP_ROWS

    def _unfilled_file(self, listing: Listing, partition: str) -> Segment | None:
        """The partition's file with room for more, if there is one."""
        mine = [one for one in listing.files if _is_part(one) and one.offsets is not None]
        room = [
            one for one in mine if one.offsets and one.offsets.partition == partition and self._has_room(one)
        ]
        return room[-1] if room else None

    def _has_room(self, file: Segment) -> bool:
        return (
            file.rows < self._settings.file_rows
            and file.last - file.first < self._settings.file_days * DAY_MS
        )

    def _merge_partition(self, listing: Listing, partition: str) -> Iterator[str]:
        """Write the growing file anew with what waits, until it is full."""
        file = self._unfilled_file(listing, partition)
        overlapping = [one for one in listing.files if self._overlaps_any(one, listing.of(partition), file)]
        held = frozenset(chain.from_iterable(self._names(one) for one in overlapping))
        again = [one for one in listing.of(partition) if one.path.stem in held]
        taken = self._segments_for(file, [one for one in listing.of(partition) if one.path.stem not in held])
        known = set(chain.from_iterable(files.read(one, ["id"])["id"].to_pylist() for one in overlapping))
        parts = [file, *taken] if file else taken
        table = first_of_each(concatenate_tables([files.read(one) for one in parts]), known)
        if taken and len(table):
            target = file.path if file else self._free_place(taken[0].path.stem)
            yield from self._write_file(table, target, self._segment_names(file, taken))
        yield from self._remove([one.path for one in [*again, *taken]], "was folded")

    def _write_file(self, table: pa.Table, target: Path, names: Sequence[str]) -> Iterator[str]:
        with files.translate_errors(target):
            drafted = files.write_unfinished(table, self.folder, names)
        yield f"{drafted.name}: written, {len(table):,} rows"
        with files.translate_errors(target):
            os.replace(drafted, target)
            files.fsync_folder(self.folder)
        yield f"{target.name}: {len(table):,} rows of {len(names)} segments"

    def _remove(self, paths: Sequence[Path], why: str) -> Iterator[str]:
        for path in paths:
            with files.translate_errors(path):
                path.unlink(missing_ok=True)
            yield f"{path.name}: removed, {why}"

    def _expired_files(self, listing: Listing, now: int) -> list[Path]:
        """Files of ours whose newest label is older than is kept, by the time of the data."""
        days = self._settings.retention_days
        ends = [last for one in listing.files for last in (one.last, one.first) if last <= now]
        if days is None or not ends:
            return []
        return [one.path for one in listing.files if one.ours and one.last < max(ends) - days * DAY_MS]

    def _segments_for(self, file: Segment | None, waiting: Sequence[Segment]) -> list[Segment]:
        """As many of the oldest as make the file full."""
        rows, taken = file.rows if file else 0, list[Segment]()
        for segment in waiting:
            if taken and rows >= self._settings.file_rows:
                break
            taken.append(segment)
            rows += segment.rows
        return taken

    def _overlaps_any(self, one: Segment, waiting: Sequence[Segment], file: Segment | None) -> bool:
        return one != file and any(
            segment.offsets is not None and segment.offsets.overlaps(one.offsets) for segment in waiting
        )

    def _segment_names(self, file: Segment | None, taken: Sequence[Segment]) -> list[str]:
        return sorted({*(self._names(file) if file else ()), *(one.path.stem for one in taken)})

    def _free_place(self, first: str) -> Path:
        """A name for a new file: the partition and offset it begins with, and what tells it from others."""
        offsets = files.offsets_of(first)
        assert offsets is not None
        return self.folder / f"part-{offsets.partition}-{offsets.first:012d}-{uuid4().hex[:8]}.parquet"

    def _names(self, file: Segment) -> frozenset[str]:
        """The segments in a file."""
        if file.holds is None:
            file = self._known[file.path] = files.footer(file.path)
        return file.holds or frozenset()

    def _segment(self, path: Path, index: Mapping[str, Segment]) -> Segment:
        """What its footer says, from memory or the index if it is still the same file."""
        with files.translate_errors(path):
            stamp = files.stamp_of(path)
        for known in (self._known.get(path), index.get(path.name)):
            if known is not None and known.stamp == stamp:
                return known
        self._known[path] = files.footer(path)
        return self._known[path]

    def _read_index(self) -> dict[str, Segment]:
        """What the last tidying knew of the files; without it, or where it is wrong, footers are read."""
        try:
            entries = orjson.loads((self.folder / ".index.json").read_bytes())
            return {name: self._entry(name, *fields) for name, fields in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _entry(self, name: str, stamp: list[int], numbers: list[int], ours: bool, span: Any) -> Segment:
        size, changed = stamp
        rows, first, last = numbers
        offsets = None if span is None else Offsets(*span)
        return Segment(self.folder / name, (size, changed), rows, first, last, offsets, ours)

    def _write_index(self, segments: Sequence[Segment]) -> str:
        """Write the index, once the removals are sure to survive a power cut."""
        entries = {
            one.path.name: (one.stamp, (one.rows, one.first, one.last), one.ours, _fields(one.offsets))
            for one in segments
        }
        fresh = self.folder / ".unfinished" / "index"
        with files.translate_errors(fresh):
            for folder in (fresh.parent, self.folder / ".recent"):
                folder.mkdir(exist_ok=True)
                files.fsync_folder(folder)
            fresh.write_bytes(orjson.dumps(entries))
            os.replace(fresh, self.folder / ".index.json")
        return f".index.json: {len(entries)} files"


def _fields(offsets: Offsets | None) -> tuple[str, int, int] | None:
    return None if offsets is None else (offsets.partition, offsets.first, offsets.last)


def _is_part(one: Segment) -> bool:
    return one.ours and one.path.name.startswith("part-")


def _is_flat(one: Segment) -> bool:
    """A segment from before there were parts: visible, and folded like one that isn't."""
    return not one.ours and one.offsets is not None

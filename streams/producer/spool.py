"""A queue of messages on the disk that survives the process.

    SEGMENT   = FRAME* zeros?             00000007.spool, appended to, deleted once all of it is acknowledged
    FRAME     = length crc32 BODY         of the body; little endian, 4 bytes each
    BODY      = partition lengths topic key headers value
    `front`   = segment offset crc32      everything before it is acknowledged

`append` returns when the operating system has the bytes: they are copied into memory that is mapped to the
file, without a system call, in a microsecond. A kill -9 loses nothing; `sync` writes to the disk itself,
against a power cut. A frame that was half written at a crash was never accepted and is cut off; a corrupt
frame is skipped, and those after it are read. `front` is written after the acknowledgement, so a crash in
between sends a few messages again: at least once, and readers recognise a row by its id.

    SpoolTaken   another process uses the folder
    SpoolFull    the limit is reached, or the disk is full
"""

import fcntl
import logging
import mmap
import os
import struct
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import orjson

from driftloop.streams.records import ProducerRecord

SEGMENT_BYTES = 16_000_000
READ_BYTES = 1_000_000
_FRAME = struct.Struct("<II")
_BODY = struct.Struct("<iHHH")
_FRONT = struct.Struct("<QQI")

log = logging.getLogger(__name__)
Position = tuple[int, int]
"""Segment number and the offset of a frame's end; sorts in the order of writing."""


class SpoolTaken(RuntimeError):
    """Another process uses the folder; the message names folder and process."""


class SpoolFull(RuntimeError):
    """The spool is full; the message names the folder and the limit."""


@dataclass
class _Segment:
    number: int
    path: Path
    size: int


class _Active:
    """The newest segment, mapped to memory: a write is a copy and never waits for the disk."""

    def __init__(self, segment: _Segment, room: int) -> None:
        self.segment = segment
        self.file = os.open(segment.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _reserve(self.file, room)
            self._memory = mmap.mmap(self.file, room)
        except OSError:
            os.close(self.file)
            segment.path.unlink()
            raise

    def has_room(self, size: int) -> bool:
        return self.segment.size + size <= len(self._memory)

    def write(self, frames: bytes) -> None:
        end = self.segment.size + len(frames)
        self._memory[self.segment.size : end] = frames
        self.segment.size = end

    def finish(self) -> int:
        """Cut off the unused rest; returns the file, which is not synced or closed yet."""
        self._memory.close()
        os.ftruncate(self.file, self.segment.size)
        return self.file


class Spool:
    """Append at the end, read on, acknowledge the front. Safe between threads of one process."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Open the folder, and cut off a half-written frame.

        Raises:
            SpoolTaken: another process uses it.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = _lock(folder)
        self._limit = limit
        self._segment_bytes = max(1, min(SEGMENT_BYTES, limit // 8))
        self._thread_lock = threading.Lock()
        self._front_file = os.open(folder / "front", os.O_RDWR | os.O_CREAT, 0o600)
        self._front = _read_front(self._front_file)
        self._segments: list[_Segment] = []
        self.waiting = 0
        """Messages that are not acknowledged."""
        self.size = 0
        """Bytes on the disk, without reserved space."""
        self._recover()
        self._read_position = self._front
        self._active: _Active | None = None
        self._unsynced: list[int] = []
        self._unsynced_writes = False

    @classmethod
    def first_free(cls, folder: Path, limit: int) -> "Spool":
        """The folder, or the first of `folder/process-1`, `process-2`, ... that no other process uses.

        What ended processes left in the others is taken over.
        """
        own = cls._open_free(folder, limit)
        for other in [folder, *sorted(folder.glob("process-*"))]:
            if other != own.folder:
                own._take_over(other)
        return own

    @classmethod
    def _open_free(cls, folder: Path, limit: int) -> "Spool":
        for number in count():
            try:
                return cls(folder / f"process-{number}" if number else folder, limit)
            except SpoolTaken:
                continue
        raise AssertionError("count() has no end")

    def _take_over(self, folder: Path) -> None:
        """Copy the messages of an ended process, as far as there is room; it is sent again after a crash."""
        try:
            other = Spool(folder, self._limit)
        except SpoolTaken:
            return
        try:
            while entries := other.read():
                self.append([message for _, message in entries])
                other.acknowledge(entries[-1][0], len(entries))
        except SpoolFull as error:
            log.warning("messages of an ended process wait in their folder", extra={"reason": str(error)})
        other.close()

    def abandon(self) -> None:
        """In a forked child: close the files, which the parent goes on using."""
        for file in (self._front_file, self._lock_file, *([self._active.file] if self._active else [])):
            os.close(file)

    def append(self, messages: Sequence[ProducerRecord]) -> None:
        """Write all of them or none; returns when the operating system has them.

        Raises:
            SpoolFull: the limit is reached, or the disk is full.
        """
        frames = b"".join([_encode_frame(message) for message in messages])
        with self._thread_lock:
            if self.size + len(frames) > self._limit:
                raise SpoolFull(
                    f"the spool {self.folder} is full: {self.size:,} of {self._limit:,} bytes "
                    "(publisher.spool_bytes)"
                )
            if self._active is None or not self._active.has_room(len(frames)):
                self._active = self._new_segment(max(self._segment_bytes, len(frames)))
            self._active.write(frames)
            self.size += len(frames)
            self.waiting += len(messages)
            self._unsynced_writes = True

    def read(self) -> list[tuple[Position, ProducerRecord]]:
        """The next messages, about a megabyte; none at the end."""
        with self._thread_lock:
            segment = next(
                (
                    segment
                    for segment in self._segments
                    if segment.size and (segment.number, segment.size) > self._read_position
                ),
                None,
            )
            if segment is None:
                return []
            size = segment.size
        begin = self._read_position[1] if segment.number == self._read_position[0] else 0
        with segment.path.open("rb") as file:
            file.seek(begin)
            content = file.read(min(READ_BYTES, size - begin))
            frames = list(_decode_frames(content, complete=begin + len(content) >= size))
            if not frames and begin + len(content) < size:  # one frame that is larger than what was read
                content += file.read(size - begin - len(content))
                frames = list(_decode_frames(content, complete=True))
        self._read_position = (segment.number, begin + frames[-1][0] if frames else size)
        return [((segment.number, begin + end), message) for end, message in frames] or self.read()

    def rewind(self) -> None:
        """Read on from the front."""
        self._read_position = self._front

    def acknowledge(self, upto: Position, messages: int) -> None:
        """Kafka has everything up to `upto`, so many messages more than before; delete it."""
        with self._thread_lock:
            self._front = upto
            self.waiting -= messages
            os.pwrite(self._front_file, _encode_front(upto), 0)
            while len(self._segments) > 1 and (self._segments[0].number, self._segments[0].size) <= upto:
                first = self._segments.pop(0)
                first.path.unlink()
                self.size -= first.size

    def sync(self) -> None:
        """Flush everything appended to the disk itself."""
        with self._thread_lock:
            if not self._unsynced_writes or self._active is None:
                return
            self._unsynced_writes = False
            files, self._unsynced = [*self._unsynced, os.dup(self._active.file)], []
        for file in files:
            os.fsync(file)
            os.close(file)

    def close(self) -> None:
        """Sync and unlock; without unacknowledged messages all segments are deleted."""
        self.sync()
        with self._thread_lock:
            if self._active is not None:
                os.close(self._active.finish())
            if self.waiting == 0:
                for segment in self._segments:
                    segment.path.unlink()
            os.close(self._front_file)
            os.close(self._lock_file)

    def _new_segment(self, room: int) -> _Active:
        number = max([self._front[0], *(segment.number for segment in self._segments)]) + 1
        try:
            active = _Active(_Segment(number, self.folder / f"{number:08d}.spool", 0), room)
        except OSError as error:
            raise SpoolFull(f"{self.folder} can't be written to: {error.strerror}") from error
        if self._active is not None:
            self._unsynced.append(self._active.finish())
        self._segments.append(active.segment)
        return active

    def _recover(self) -> None:
        for path in sorted(self.folder.glob("*.spool")):
            number = int(path.stem)
            begin = self._front[1] if number == self._front[0] else 0
            whole, count = _cut_torn_end(path, begin)
            if number < self._front[0] or count == 0:
                path.unlink()
                continue
            self._segments.append(_Segment(number, path, whole))
            self.waiting += count
            self.size += whole


def _cut_torn_end(path: Path, begin: int) -> tuple[int, int]:
    """Cut off the end that is no whole frame; returns the bytes left, and the frames after `begin`."""
    content = path.read_bytes()
    whole, count = begin, 0
    for end, _ in _decode_frames(content[begin:].rstrip(b"\0"), complete=True):
        whole, count = begin + end, count + 1
    torn = content[whole:].rstrip(b"\0")  # zeros were reserved and never written
    if torn:
        log.warning(
            "half-written message at the end of a spool file cut off",
            extra={"file": str(path), "bytes": len(torn)},
        )
    if whole < len(content):
        os.truncate(path, whole)
    return whole, count


def _reserve(file: int, room: int) -> None:
    """Allocate the room on the disk: a write to mapped memory without room would kill the process."""
    if sys.platform == "darwin":
        os.pwrite(file, bytes(room), 0)
    else:
        os.posix_fallocate(file, 0, room)


def _lock(folder: Path) -> int:
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(file, 20).decode(errors="replace")
        os.close(file)
        raise SpoolTaken(f"the spool {folder} is used by process {owner}") from None
    os.ftruncate(file, 0)
    os.write(file, b"%d" % os.getpid())
    return file


def _read_front(file: int) -> Position:
    content = os.pread(file, _FRONT.size, 0)
    if len(content) < _FRONT.size or zlib.crc32(content[:16]) != _FRONT.unpack(content)[2]:
        return (0, 0)
    segment, offset, _ = _FRONT.unpack(content)
    return (segment, offset)


def _encode_front(front: Position) -> bytes:
    return _FRONT.pack(*front, zlib.crc32(_FRONT.pack(*front, 0)[:16]))


def _encode_frame(message: ProducerRecord) -> bytes:
    topic, key = message.topic.encode(), message.key.encode()
    headers = orjson.dumps(dict(message.headers)) if message.headers else b""
    partition = -1 if message.partition is None else message.partition
    sizes = _BODY.pack(partition, len(topic), len(key), len(headers))
    body = b"".join((sizes, topic, key, headers, message.value))
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _decode_frames(content: bytes, complete: bool) -> Iterator[tuple[int, ProducerRecord]]:
    """(end of the frame, message) of each frame that is whole; a corrupt one is skipped.

    `complete`: nothing follows `content`. Otherwise its last frame may go on beyond it.
    """
    begin = 0
    while begin + _FRAME.size <= len(content):
        end = _end_of_frame(content, begin)
        if end is None:
            length, _ = _FRAME.unpack_from(content, begin)
            if not complete and begin + _FRAME.size + length > len(content):
                return
            after = (at for at in range(begin + 1, len(content)) if _end_of_frame(content, at) is not None)
            found = next(after, None)
            if found is None:
                return
            log.error("corrupt message in a spool file skipped", extra={"bytes": found - begin})
            begin = found
            continue
        yield end, _decode_body(content[begin + _FRAME.size : end])
        begin = end


def _end_of_frame(content: bytes, begin: int) -> int | None:
    """Where the frame that begins here ends; None if there is no whole one."""
    if begin + _FRAME.size + _BODY.size > len(content):
        return None
    length, crc = _FRAME.unpack_from(content, begin)
    _, topic, key, headers = _BODY.unpack_from(content, begin + _FRAME.size)
    end: int = begin + _FRAME.size + length
    if not topic or end > len(content) or _BODY.size + topic + key + headers > length:
        return None
    return end if zlib.crc32(content[begin + _FRAME.size : end]) == crc else None


def _decode_body(body: bytes) -> ProducerRecord:
    partition, topic, key, headers = _BODY.unpack_from(body)
    begins = _BODY.size, _BODY.size + topic, _BODY.size + topic + key, _BODY.size + topic + key + headers
    return ProducerRecord(
        topic=body[begins[0] : begins[1]].decode(),
        key=body[begins[1] : begins[2]].decode(),
        headers=orjson.loads(body[begins[2] : begins[3]]) if headers else {},
        value=body[begins[3] :],
        partition=None if partition < 0 else partition,
    )

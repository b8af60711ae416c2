"""A queue of messages on the disk that outlives the process that fills it.

    SEGMENT   = FRAME* zeros?             00000007.spool, appended to, deleted once all of it is acknowledged
    FRAME     = length crc32 BODY         of the body; little endian, 4 bytes each
    BODY      = partition lengths topic key headers value
    `front`   = segment offset crc32      everything before it is acknowledged

`append` returns when the operating system has the bytes (they are copied into memory that is mapped to the
file: no system call, a microsecond): a kill -9 loses nothing. Against a power cut `sync`
is called once in a while. A frame that was being written at the crash (a torn tail) was never accepted and is
cut off. `front` is written after the acknowledgement, so a crash in between sends a few messages again: at
least once, and readers recognise a row by its id.

    SpoolTaken   another process has the folder
    SpoolFull    no room: the limit, or the disk itself
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
"""Segment and offset of a frame's end: in the order of writing."""


class SpoolTaken(RuntimeError):
    """Another process has the folder; says which folder and process."""


class SpoolFull(RuntimeError):
    """No room; says where and how much there was."""


@dataclass
class _Segment:
    number: int
    path: Path
    size: int


class _Active:
    """The segment that is written to: mapped memory, so that a write is a copy and never waits for a disk."""

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
        """Cut off what was reserved in vain; the file, still to be synced and closed."""
        self._memory.close()
        os.ftruncate(self.file, self.segment.size)
        return self.file


class Spool:
    """Append at the end, read onwards, acknowledge the front. Safe between threads of one process."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Open the folder and cut off what a crash left half written.

        Raises:
            SpoolTaken: another process uses it.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = _lock(folder)
        self._limit = limit
        self._segment_bytes = max(1, min(SEGMENT_BYTES, limit // 8))
        self._guard = threading.Lock()
        self._front_file = os.open(folder / "front", os.O_RDWR | os.O_CREAT, 0o600)
        self._front = _read_front(self._front_file)
        self._segments: list[_Segment] = []
        self.waiting = 0
        """Messages that are not acknowledged."""
        self.size = 0
        """Bytes on the disk, without what is reserved."""
        self._take_over()
        self._next = self._front
        self._active: _Active | None = None
        self._unsynced: list[int] = []
        self._dirty = False

    def append(self, messages: Sequence[ProducerRecord]) -> None:
        """Write all of them or none; returns when the operating system has them.

        Raises:
            SpoolFull: the limit is reached, or the disk is full.
        """
        frames = b"".join([_frame(message) for message in messages])
        with self._guard:
            if self.size + len(frames) > self._limit:
                raise SpoolFull(f"{self.folder} has {self.size:,} of {self._limit:,} bytes")
            if self._active is None or not self._active.has_room(len(frames)):
                self._active = self._begin(max(self._segment_bytes, len(frames)))
            self._active.write(frames)
            self.size += len(frames)
            self.waiting += len(messages)
            self._dirty = True

    def read(self) -> list[tuple[Position, ProducerRecord]]:
        """The next messages, about a megabyte of them; none when all is read."""
        with self._guard:
            segment = next(
                (one for one in self._segments if one.size and (one.number, one.size) > self._next), None
            )
            if segment is None:
                return []
            size = segment.size
        begin = self._next[1] if segment.number == self._next[0] else 0
        with segment.path.open("rb") as file:
            file.seek(begin)
            content = file.read(min(READ_BYTES, size - begin))
            found = list(_frames(content))
            if not found:  # one frame that is larger than what was read
                content += file.read(_FRAME.unpack_from(content)[0] + _FRAME.size - len(content))
                found = list(_frames(content))
        if found:
            self._next = (segment.number, begin + found[-1][0])
        return [((segment.number, begin + end), message) for end, message in found]

    def rewind(self) -> None:
        """Read again from the front."""
        self._next = self._front

    def acknowledge(self, upto: Position, messages: int) -> None:
        """Everything up to `upto`, so many messages more than before, is in Kafka: forget it."""
        with self._guard:
            self._front = upto
            self.waiting -= messages
            os.pwrite(self._front_file, _packed_front(upto), 0)
            while len(self._segments) > 1 and (self._segments[0].number, self._segments[0].size) <= upto:
                first = self._segments.pop(0)
                first.path.unlink()
                self.size -= first.size

    def sync(self) -> None:
        """Have the disk itself keep what was appended until now."""
        with self._guard:
            if not self._dirty or self._active is None:
                return
            self._dirty = False
            files, self._unsynced = [*self._unsynced, os.dup(self._active.file)], []
        for file in files:
            os.fsync(file)
            os.close(file)

    def close(self) -> None:
        """Let another process have it; an empty one leaves no segment behind."""
        self.sync()
        with self._guard:
            if self._active is not None:
                os.close(self._active.finish())
            if self.waiting == 0:
                for segment in self._segments:
                    segment.path.unlink()
            os.close(self._front_file)
            os.close(self._lock_file)

    def _begin(self, room: int) -> _Active:
        number = max([self._front[0], *(one.number for one in self._segments)]) + 1
        try:
            active = _Active(_Segment(number, self.folder / f"{number:08d}.spool", 0), room)
        except OSError as error:
            raise SpoolFull(f"{self.folder} can't be written to: {error.strerror}") from error
        if self._active is not None:
            self._unsynced.append(self._active.finish())
        self._segments.append(active.segment)
        return active

    def _take_over(self) -> None:
        for path in sorted(self.folder.glob("*.spool")):
            number = int(path.stem)
            begin = self._front[1] if number == self._front[0] else 0
            whole, count = _checked(path, begin)
            if number < self._front[0] or count == 0:
                path.unlink()
                continue
            self._segments.append(_Segment(number, path, whole))
            self.waiting += count
            self.size += whole


def _checked(path: Path, begin: int) -> tuple[int, int]:
    """The file's bytes that are whole frames, and how many of them lie after `begin`; the rest is cut off."""
    content = path.read_bytes()
    whole, count = begin, 0
    for end, _ in _frames(content[begin:]):
        whole, count = begin + end, count + 1
    torn = content[whole:].rstrip(b"\0")  # zeros: reserved, never written
    if torn:
        log.warning("a torn end was cut off", extra={"file": str(path), "bytes": len(torn)})
    if whole < len(content):
        os.truncate(path, whole)
    return whole, count


def _reserve(file: int, room: int) -> None:
    """Have the disk promise the room: a write to mapped memory that finds none would end the process."""
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
        raise SpoolTaken(f"{folder} is used by process {owner}: give each publisher its own folder") from None
    os.ftruncate(file, 0)
    os.write(file, b"%d" % os.getpid())
    return file


def _read_front(file: int) -> Position:
    content = os.pread(file, _FRONT.size, 0)
    if len(content) < _FRONT.size or zlib.crc32(content[:16]) != _FRONT.unpack(content)[2]:
        return (0, 0)
    segment, offset, _ = _FRONT.unpack(content)
    return (segment, offset)


def _packed_front(front: Position) -> bytes:
    return _FRONT.pack(*front, zlib.crc32(_FRONT.pack(*front, 0)[:16]))


def _frame(message: ProducerRecord) -> bytes:
    topic, key = message.topic.encode(), message.key.encode()
    headers = orjson.dumps(dict(message.headers)) if message.headers else b""
    partition = -1 if message.partition is None else message.partition
    sizes = _BODY.pack(partition, len(topic), len(key), len(headers))
    body = b"".join((sizes, topic, key, headers, message.value))
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _frames(content: bytes) -> Iterator[tuple[int, ProducerRecord]]:
    """(end of the frame, message) until the first that is not whole."""
    begin = 0
    while begin + _FRAME.size <= len(content):
        length, crc = _FRAME.unpack_from(content, begin)
        end = begin + _FRAME.size + length
        body = content[begin + _FRAME.size : end]
        if length < _BODY.size or end > len(content) or zlib.crc32(body) != crc:
            return
        yield end, _message(body)
        begin = end


def _message(body: bytes) -> ProducerRecord:
    partition, topic, key, headers = _BODY.unpack_from(body)
    begins = _BODY.size, _BODY.size + topic, _BODY.size + topic + key, _BODY.size + topic + key + headers
    return ProducerRecord(
        topic=body[begins[0] : begins[1]].decode(),
        key=body[begins[1] : begins[2]].decode(),
        headers=orjson.loads(body[begins[2] : begins[3]]) if headers else {},
        value=body[begins[3] :],
        partition=None if partition < 0 else partition,
    )

"""The spool: what was accepted is there again after a crash, in order, within its limits."""

import os
import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.streams.producer import spool as spools
from driftloop.streams.producer.spool import Spool, SpoolFull, SpoolTaken
from driftloop.streams.records import ProducerRecord

LIMIT = 10_000_000


def message(n: int, size: int = 10) -> ProducerRecord:
    return ProducerRecord(
        "labels", f"id-{n}", b"%d" % n + b"." * size, {"seq": str(n)}, n % 4 if n % 5 else None
    )


def everything(spool: Spool) -> list[ProducerRecord]:
    found: list[ProducerRecord] = []
    while read := spool.read():
        found += [one for _, one in read]
    return found


def crash(spool: Spool) -> None:
    """What the kernel does for a killed process: close its files."""
    active = spool._active
    assert active is not None
    for file in (active.file, spool._front_file, spool._lock_file):
        os.close(file)


def test_messages_come_back_whole_and_in_the_order_of_writing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    written = [message(n) for n in range(1000)]
    for first in range(0, 1000, 10):
        spool.append(written[first : first + 10])
    assert everything(spool) == written


def test_what_a_crash_left_is_there_for_the_next_process(tmp_path: Path) -> None:
    first = Spool(tmp_path, LIMIT)
    first.append([message(n) for n in range(10)])
    crash(first)
    second = Spool(tmp_path, LIMIT)
    assert second.waiting == 10
    second.append([message(10)])
    assert everything(second) == [message(n) for n in range(11)]


def test_what_was_acknowledged_does_not_come_back(tmp_path: Path) -> None:
    first = Spool(tmp_path, LIMIT)
    first.append([message(n) for n in range(10)])
    position, _ = first.read()[3]
    first.acknowledge(position, 4)
    crash(first)
    second = Spool(tmp_path, LIMIT)
    assert second.waiting == 6
    assert everything(second) == [message(n) for n in range(4, 10)]


def test_rewinding_reads_again_from_the_first_that_is_not_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append([message(n) for n in range(10)])
    spool.acknowledge(spool.read()[1][0], 2)
    spool.rewind()
    assert everything(spool) == [message(n) for n in range(2, 10)]


@given(cut=st.integers(1, 60))
def test_a_torn_end_is_cut_off_and_what_comes_after_is_readable(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    first = Spool(folder, LIMIT)
    first.append([message(n) for n in range(5)])
    crash(first)
    [segment] = folder.glob("*.spool")
    content = segment.read_bytes().rstrip(b"\0")
    segment.write_bytes(content[:-cut])
    second = Spool(folder, LIMIT)
    whole = second.waiting
    assert 3 <= whole <= 4
    second.append([message(99)])
    assert everything(second) == [*(message(n) for n in range(whole)), message(99)]
    crash(second)


def test_a_frame_that_was_damaged_is_not_taken_for_a_message(tmp_path: Path) -> None:
    first = Spool(tmp_path, LIMIT)
    first.append([message(1), message(2)])
    crash(first)
    [segment] = tmp_path.glob("*.spool")
    segment.write_bytes(segment.read_bytes().replace(b"2....", b"3...."))
    second = Spool(tmp_path, LIMIT)
    assert everything(second) == [message(1)]


def test_a_full_spool_says_so_and_has_taken_nothing_of_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000)
    spool.append([message(n) for n in range(10)])
    with pytest.raises(SpoolFull, match="of 10,000 bytes"):
        spool.append([message(n, 1000) for n in range(10)])
    assert everything(spool) == [message(n) for n in range(10)]


def test_acknowledged_segments_leave_the_disk_and_make_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100_000)
    for n in range(2000):
        spool.append([message(n, 1000)])
        [(position, read)] = spool.read()
        assert read == message(n, 1000)
        spool.acknowledge(position, 1)
    assert len(list(tmp_path.glob("*.spool"))) <= 2
    spool.close()
    assert not list(tmp_path.glob("*.spool"))


def test_a_message_larger_than_what_is_read_at_once_comes_back_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    written = [message(0), message(1, 3 * spools.READ_BYTES), message(2)]
    for one in written:
        spool.append([one])
    assert everything(spool) == written


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_corrupt_byte_costs_no_message_but_its_own(place: float, flip: int) -> None:
    with TemporaryDirectory() as folder:
        first = Spool(Path(folder), LIMIT)
        ends = [0]
        for n in range(6):
            first.append([message(n)])
            ends.append(first.size)
        first.close()
        [segment] = Path(folder).glob("*.spool")
        content = bytearray(segment.read_bytes())
        corrupt = int(place * len(content))
        content[corrupt] ^= flip
        segment.write_bytes(content)
        hit = sum(end <= corrupt for end in ends) - 1
        again = Spool(Path(folder), LIMIT)
        assert everything(again) == [message(n) for n in range(6) if n != hit]
        again.close()


def test_processes_share_a_folder_and_the_next_one_sends_what_an_ended_one_left(tmp_path: Path) -> None:
    first, second = (Spool.first_free(tmp_path, LIMIT) for _ in range(2))
    assert first.folder != second.folder
    for n, spool in enumerate((first, second)):
        spool.append([message(n)])
        spool.close()
    again = Spool.first_free(tmp_path, LIMIT)
    assert everything(again) == [message(0), message(1)]
    assert again.waiting == 2


def test_two_do_not_share_a_folder(tmp_path: Path) -> None:
    first = Spool(tmp_path, LIMIT)
    with pytest.raises(SpoolTaken, match=f"used by process {os.getpid()}"):
        Spool(tmp_path, LIMIT)
    first.close()
    Spool(tmp_path, LIMIT).close()


def test_a_full_disk_is_a_full_spool_and_what_was_accepted_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append([message(1)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SpoolFull, match="can't be written to: File too large"):
            spool.append([message(2, 2_000_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    spool.append([message(3)])
    assert everything(spool) == [message(1), message(3)]

"""Memories in Kafka: what was written is found again, however large, whoever else wrote in between."""

from collections.abc import Iterator

import pytest

from driftloop.schemas.settings import KafkaSettings
from driftloop.streams.processing.changelog import PART_BYTES, Changelog
from driftloop.streams.processing.checkpoints import Checkpoint, LogEntry
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.records import ProducerRecord


@pytest.fixture
def publisher(kafka_settings: KafkaSettings) -> Iterator[Publisher]:
    with Publisher(kafka_settings) as publisher:
        yield publisher


@pytest.fixture
def changelog(kafka_settings: KafkaSettings, publisher: Publisher) -> Changelog:
    changelog = Changelog("tested", kafka_settings, publisher, partitions=2)
    changelog.create()
    return changelog


def base(number: int, turn: int, state: bytes = b"state", epoch: int = 1) -> Checkpoint:
    return Checkpoint(
        "born", state, {"labels": number}, outbox=[], epoch=epoch, number=number, checkpoints=turn
    )


def step(number: int, epoch: int = 1) -> LogEntry:
    word = ProducerRecord("alerts", "m", b"%d" % number, {"seq": str(number)})
    return LogEntry(epoch, number, "labels", number, number, number, [word])


def test_a_partition_that_nobody_wrote_has_no_memory(changelog: Changelog) -> None:
    assert changelog.read(1) is None


def test_the_newest_base_and_its_steps_are_found_again(changelog: Changelog) -> None:
    assert changelog.read(0) is None
    for entry in (base(1, 1), step(2), step(3), base(4, 2), step(5), step(6)):
        changelog.write(0, entry)
    found = changelog.read(0)
    assert found is not None
    assert (found.checkpoint, found.entries) == (base(4, 2), [step(5), step(6)])


def test_a_state_of_many_messages_comes_back_whole(changelog: Changelog) -> None:
    state = bytes(range(256)) * (PART_BYTES // 100)
    changelog.write(0, base(1, 1, state))
    changelog.write(0, step(2))
    found = changelog.read(0)
    assert found is not None
    assert found.checkpoint.state == state


def test_a_base_that_was_not_finished_does_not_count(
    changelog: Changelog, kafka_settings: KafkaSettings, publisher: Publisher
) -> None:
    class Dying(Publisher):
        def deliver(self, messages: object) -> None:
            super().deliver(list(messages)[:2])  # type: ignore[call-overload]

    changelog.write(0, base(1, 1))
    with Dying(kafka_settings) as dying:
        other = Changelog("tested", kafka_settings, dying, partitions=2)
        other.write(0, base(2, 2, b"x" * 3 * PART_BYTES, epoch=2))
    found = changelog.read(0)
    assert found is not None
    assert found.checkpoint == base(1, 1)


def test_a_reader_goes_on_where_another_worker_ended(
    changelog: Changelog, kafka_settings: KafkaSettings, publisher: Publisher
) -> None:
    for number in range(1, 40):
        changelog.write(0, base(number, number) if number % 10 == 1 else step(number))
    other = Changelog("tested", kafka_settings, publisher, partitions=2)
    assert other.read(0) is not None
    other.write(0, step(40, epoch=2))
    found = changelog.read(0)
    assert found is not None
    assert [one.number for one in found.entries] == [*range(32, 41)]

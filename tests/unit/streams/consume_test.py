"""The consuming loop: whatever crashes or breaks, each record is applied once and its words are not lost."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from driftloop.mlops_core.errors import Conflict, Unavailable
from driftloop.schemas import topics
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import AlertRaised
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams.processing import resolver
from driftloop.streams.processing.agent import Resolved, WithoutEffects
from driftloop.streams.processing.checkpoints import (
    MAX_CHECKPOINT_BYTES,
    MAX_LOG_ENTRIES,
    MIN_CHECKPOINT_BYTES,
    Checkpoint,
    LogEntry,
    RecoveryPoint,
    decode_entry,
)
from driftloop.streams.processing.runner import AgentRunner
from driftloop.streams.producer.publisher import NotDelivered
from driftloop.streams.records import Chunk, ConsumerRecord, ProducerRecord

KAFKA = KafkaSettings()


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Cluster:
    """What outlives a worker: the topic it reads, its changelog, and the topic it publishes to."""

    arrived: list[ConsumerRecord] = field(default_factory=list)
    changelog: dict[int, list[bytes]] = field(default_factory=dict)
    published: list[ProducerRecord] = field(default_factory=list)
    crash_before: set[int] = field(default_factory=set)
    """Numbers of the durable steps (writes and deliveries) that a crash comes before."""
    refuse: int = 0
    """Deliveries that fail and can be tried again."""
    steps: int = 0
    rewound: list[int] = field(default_factory=list)

    def read_changelog(self, partition: int) -> RecoveryPoint | None:
        return RecoveryPoint.from_entries(
            decode_entry(packed) for packed in self.changelog.get(partition, [])
        )

    def append_to_changelog(self, partition: int, entry: Checkpoint | LogEntry) -> None:
        self._step()
        self.changelog.setdefault(partition, []).append(entry.encode())

    def read_records(self, topic: str, partition: int, first: int, last: int) -> list[ConsumerRecord]:
        return [one for one in self.arrived if first <= one.offset <= last]

    def first_offset_from(self, topic: str, partition: int, offset: int) -> int | None:
        return next((one.offset for one in self.arrived if one.offset >= offset), None)

    async def rewind(self, topic: str, partition: int, offset: int) -> None:
        self.rewound.append(offset)

    def owns(self, partition: int) -> bool:
        return True

    def generation(self) -> int:
        return 1

    def deliver(self, messages: Iterable[ProducerRecord]) -> None:
        self._step()
        if self.refuse:
            self.refuse -= 1
            raise NotDelivered("the broker is away")
        self.published.extend(messages)

    def _step(self) -> None:
        self.steps += 1
        if self.steps in self.crash_before:
            raise Crash

    def said(self) -> list[str]:
        """What a reader that knows repetitions by `source` and `seq` makes of the topic."""
        heard: dict[str, int] = {}
        words = []
        for message in self.published:
            seq = int(message.headers["seq"])
            if seq > heard.get(message.headers["source"], 0):
                heard[message.headers["source"]] = seq
                words.append(message)
        return [str(orjson.loads(one.value).get("sentence", one.topic)) for one in words]


class Totals(WithoutEffects):
    """Adds numbers up, and says each new total."""

    name = "totals"
    checkpoint_interval = 3
    topics = (topics.LABELS,)

    def initial_state(self) -> list[int]:
        return []

    def dump(self, state: list[int]) -> bytes:
        return orjson.dumps(state)

    def load(self, data: bytes) -> list[int]:
        return list(orjson.loads(data))

    def handle(self, state: list[int], chunk: Chunk) -> list[Output]:
        said: list[Output] = []
        for record in chunk.records:
            state.append(int(record.value or b""))
            sentence = str(sum(state))
            said.append(AlertRaised(id=sentence, at=0, model="m", severity="info", sentence=sentence))
        return said


class Looking(Totals):
    """Looks up the sum of a chunk's numbers before it handles them; says what it found, if it did."""

    def questions(self, state: list[int], chunk: Chunk) -> tuple[int, list[int]]:
        return sum(state), [int(one.value or b"") for one in chunk.records]

    def resolve(self, questions: tuple[int, list[int]], /) -> Resolved:
        before, numbers = questions
        return Resolved([str(before + total) for total in accumulate(numbers)])

    def handle(self, state: list[int], chunk: Chunk) -> list[Output]:
        said = super().handle(state, chunk)
        assert chunk.resolved in (None, [one.sentence for one in said if isinstance(one, AlertRaised)])
        return said if chunk.resolved else []


def records(values: Iterable[bytes], first: int = 0) -> list[ConsumerRecord]:
    return [ConsumerRecord(first + n, 0, None, value, {}) for n, value in enumerate(values)]


def worker(cluster: Cluster, agent: Totals | None = None) -> AgentRunner[list[int]]:
    return AgentRunner(agent or Totals(), KAFKA, cluster, cluster)  # type: ignore[arg-type]  # a publisher that keeps what it is given


def run(cluster: Cluster, chunks: Iterable[Chunk], agent: Totals | None = None) -> None:
    async def main() -> None:
        loop = worker(cluster, agent)
        for chunk in chunks:
            known = {one.offset for one in cluster.arrived}
            cluster.arrived += [one for one in chunk.records if one.offset not in known]
            await loop.process(chunk)

    asyncio.run(main())


def remembered(cluster: Cluster) -> list[int]:
    """The state that a new worker finds."""

    class Watching(Totals):
        def pending_effects(self, state: object) -> Mapping[str, object]:
            found.append(list(state))  # type: ignore[call-overload]
            return {}

    found: list[list[int]] = []
    asyncio.run(_resume(worker(cluster, Watching())))
    return found[-1]


async def _resume(loop: AgentRunner[list[int]]) -> None:
    await loop.resume(0)


@given(
    values=st.lists(st.integers(0, 100), min_size=1, max_size=30),
    sizes=st.lists(st.integers(1, 7), min_size=30, max_size=30),
    crashes=st.sets(st.integers(1, 40), max_size=6),
)
@pytest.mark.parametrize("agent", [Totals, Looking])
def test_a_crash_at_any_point_loses_nothing_and_says_nothing_twice(
    agent: type[Totals], values: list[int], sizes: list[int], crashes: set[int]
) -> None:
    arrived = records(b"%d" % value for value in values)
    cluster = Cluster(crash_before=crashes)
    for _ in range(len(crashes) + 1):  # each life ends in a crash or at the end; offsets were never committed
        cuts = iter(sizes)
        rest, chunks = arrived, []
        while rest:
            size = next(cuts)
            chunks.append(Chunk("labels", 0, rest[:size]))
            rest = rest[size:]
        try:
            run(cluster, chunks, agent())
        except Crash:
            sizes = sizes[1:] + sizes[:1]  # the next worker fetches other chunks
            continue
        break
    assert cluster.said() == [str(sum(values[: n + 1])) for n in range(len(values))]


def test_a_delivery_that_fails_is_tried_again_before_the_next_chunk() -> None:
    cluster = Cluster(refuse=2)
    run(cluster, [Chunk("labels", 0, records([b"1"])), Chunk("labels", 0, records([b"2"], first=1))])
    assert cluster.said() == ["1", "3"]


def test_a_record_that_breaks_the_handler_is_parked_and_stops_nobody_else() -> None:
    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"1", b"two", b"3"]))])
    assert cluster.said() == ["1", "dead-letters", "4"]
    letter = DeadLetter.model_validate_json(cluster.published[1].value)
    assert (letter.reason, letter.offset, letter.original()) == ("handler failed", 1, b"two")
    assert "invalid literal for int()" in letter.detail


def test_what_a_handler_changed_before_it_broke_is_not_kept() -> None:
    class Hasty(Totals):
        def handle(self, state: list[int], chunk: Chunk) -> list[Output]:
            state.append(1000)
            said = super().handle(state, chunk)
            state.remove(1000)
            return said

    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"1", b"two", b"3"]))], Hasty())
    assert remembered(cluster) == [1, 3]


def test_a_memory_that_cant_be_loaded_yet_loses_no_record() -> None:
    class Slow(Totals):
        troubles = 2

        def load(self, data: bytes) -> list[int]:
            if self.troubles:
                self.troubles -= 1
                raise RuntimeError("not yet")
            return super().load(data)

    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"1"]))])
    run(cluster, [Chunk("labels", 0, records([b"2"], first=1))], Slow())
    assert cluster.said() == ["1", "3"]


def test_a_temporary_trouble_is_waited_out_without_a_dead_letter() -> None:
    class Moody(Totals):
        troubles = 2

        def handle(self, state: list[int], chunk: Chunk) -> list[Output]:
            said = super().handle(state, chunk)
            if self.troubles:
                self.troubles -= 1
                raise Unavailable("the registry is away")  # after the state was changed, as it may
            return said

    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"1", b"2"]))], Moody())
    assert cluster.said() == ["1", "3"]


def test_what_could_not_be_resolved_is_resolved_again_and_its_chunk_applied_once() -> None:
    class Away(Looking):
        times = 2

        def resolve(self, questions: tuple[int, list[int]], /) -> Resolved:
            self.times -= 1
            if self.times >= 0:
                raise Unavailable("the registry does not answer")
            return super().resolve(questions)

    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"1", b"2"]))], Away())
    assert cluster.said() == ["1", "3"]
    assert remembered(cluster) == [1, 2]


def test_a_record_that_breaks_the_resolving_is_parked_and_stops_nobody_else() -> None:
    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"1", b"two", b"3"]))], Looking())
    assert cluster.said() == ["1", "dead-letters", "4"]


class Scaled(Totals):
    """Looks up a factor before the first number; the registry may give another one the next time."""

    checkpoint_interval = MAX_LOG_ENTRIES

    def __init__(self, *answers: int) -> None:
        self.answers = iter(answers)
        self.found: list[list[int]] = []
        """States after which effects were asked for."""

    def questions(self, state: list[int], chunk: Chunk) -> bool | None:
        return None if state else True

    def resolve(self, _: bool, /) -> Resolved:
        return Resolved(next(self.answers), enters_state=True)

    def handle(self, state: list[int], chunk: Chunk) -> list[Output]:
        if isinstance(chunk.resolved, int):
            state.append(chunk.resolved)
        state += [state[0] * int(record.value or b"") for record in chunk.records]
        return []

    def pending_effects(self, state: object) -> Mapping[str, object]:
        self.found.append(list(state))  # type: ignore[call-overload]
        return {}


def test_a_replay_decides_the_same_and_asks_nobody_though_the_registry_would_answer_otherwise() -> None:
    cluster, again = Cluster(), Scaled()
    run(
        cluster,
        [Chunk("labels", 0, records([b"1"])), Chunk("labels", 0, records([b"2"], first=1))],
        Scaled(3),
    )
    assert len(cluster.changelog[0]) == 2, "a checkpoint and a log entry, which is replayed"
    asyncio.run(_resume(worker(cluster, again)))
    assert again.found == [[3, 3, 6]]


class Deaf(Looking):
    """Gets no answer for some numbers, or for none while the service is away."""

    def __init__(self, *unanswered: int, away: int = 0) -> None:
        self.unanswered, self.away = unanswered, away

    def resolve(self, questions: tuple[int, list[int]], /) -> Resolved:
        self.away -= 1
        if self.away >= 0 or set(self.unanswered) & set(questions[1]):
            raise Unavailable("the registry answers 500")
        return super().resolve(questions)


def test_a_record_that_never_gets_an_answer_is_parked_when_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "PARK_SECONDS", 0.3)
    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"1", b"2", b"3"]))], Deaf(2))
    assert cluster.said() == ["1", "dead-letters", "4"]
    letter = DeadLetter.model_validate_json(cluster.published[1].value)
    assert (letter.reason, letter.offset) == ("lookup failed", 1)
    assert "the registry answers 500" in letter.detail


def test_records_wait_for_a_service_that_is_away_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "PARK_SECONDS", 0.0)
    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"1", b"2", b"3"]))], Deaf(away=12))
    assert cluster.said() == ["1", "3", "6"]


def test_a_repeated_message_of_an_agent_is_recognised_by_source_and_seq() -> None:
    signed = {"source": "joining/0/abc", "seq": "1"}
    once = [ConsumerRecord(0, 0, None, b"5", signed), ConsumerRecord(1, 0, None, b"5", signed)]
    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, once[:1]), Chunk("labels", 0, once[1:])])
    assert cluster.said() == ["5"]


def test_a_message_and_its_repetition_in_one_chunk_are_applied_once() -> None:
    def said(offset: int, seq: int) -> ConsumerRecord:
        return ConsumerRecord(offset, 0, None, b"%d" % seq, {"source": "joining/0/abc", "seq": f"{seq}"})

    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, [said(0, 5), said(1, 6), said(2, 5), said(3, 6), said(4, 7)])])
    assert cluster.said() == ["5", "11", "18"]


class Effects(Totals):
    """Asks for one effect per number until its outcome comes back."""

    def __init__(self) -> None:
        self.performed: list[object] = []

    def pending_effects(self, state: object) -> Mapping[str, object]:
        return {str(number): number for number in state if number < 100}  # type: ignore[attr-defined]

    async def perform(self, effect: object) -> list[Output]:
        self.performed.append(effect)
        return []


async def test_after_a_restart_what_the_state_asks_for_is_performed_again_without_a_new_record() -> None:
    cluster, first, second = Cluster(), Effects(), Effects()
    await worker(cluster, first).process(Chunk("labels", 0, records([b"7"])))
    await asyncio.sleep(0)
    assert first.performed == [7]
    await worker(cluster, second).resume(0)
    await asyncio.sleep(0)
    assert second.performed == [7]


async def test_an_effect_that_runs_is_not_started_twice() -> None:
    class Endless(Effects):
        async def perform(self, effect: object) -> list[Output]:
            self.performed.append(effect)
            await asyncio.Event().wait()
            return []

    agent = Endless()
    loop = worker(Cluster(), agent)
    await loop.process(Chunk("labels", 0, records([b"7"])))
    await loop.process(Chunk("labels", 0, records([b"8"], first=1)))
    await asyncio.sleep(0)
    loop.release_all()
    assert agent.performed == [7, 8]


async def test_an_effect_counts_as_being_performed_until_it_has_ended_or_is_cancelled() -> None:
    done = asyncio.Event()

    class Waiting(Effects):
        name = "waiting"

        async def perform(self, effect: object) -> list[Output]:
            await done.wait()
            return []

    def performing() -> float | None:
        return REGISTRY.get_sample_value("driftloop_effects_performing", {"agent": "waiting"})

    loop, other = worker(Cluster(), Waiting()), worker(Cluster(), Waiting())
    await loop.process(Chunk("labels", 0, records([b"7"])))
    await other.process(Chunk("labels", 0, records([b"8"])))
    assert performing() == 2
    other.release_all()
    await asyncio.sleep(0.01)
    assert performing() == 1
    done.set()
    await asyncio.sleep(0.01)
    assert performing() == 0


@given(st.lists(st.integers(0, 100), max_size=12))
def test_a_memory_is_found_again_from_its_base_and_the_steps_after_it(values: list[int]) -> None:
    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"%d" % value], first=n)) for n, value in enumerate(values)])
    assert remembered(cluster) == values


def test_only_each_nth_entry_holds_the_whole_state() -> None:
    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"1"], first=n)) for n in range(8)])
    assert kinds(cluster) == [
        "Checkpoint",
        "LogEntry",
        "LogEntry",
        "Checkpoint",
        "LogEntry",
        "LogEntry",
        "Checkpoint",
        "LogEntry",
    ]


class Seldom(Totals):
    """Writes its state, of so many bytes, as seldom as bytes allow."""

    checkpoint_interval = MAX_LOG_ENTRIES

    def __init__(self, size: int) -> None:
        self.size = size

    def dump(self, state: list[int]) -> bytes:
        return super().dump(state).ljust(self.size)


def sized(value: int, size: int, offset: int) -> Chunk:
    return Chunk("labels", 0, records([str(value).encode().ljust(size)], first=offset))


def kinds(cluster: Cluster) -> list[str]:
    return [type(decode_entry(packed)).__name__ for packed in cluster.changelog[0]]


def test_a_state_is_written_again_after_about_as_many_bytes_as_it_has() -> None:
    cluster = Cluster()
    run(
        cluster,
        [sized(1, MIN_CHECKPOINT_BYTES * 2 // 5, n) for n in range(12)],
        Seldom(2 * MIN_CHECKPOINT_BYTES),
    )
    assert kinds(cluster) == [
        "Checkpoint",
        *["LogEntry"] * 4,
        "Checkpoint",
        *["LogEntry"] * 4,
        "Checkpoint",
        "LogEntry",
    ]


def test_a_small_state_is_not_written_with_each_small_chunk_nor_a_huge_one_never() -> None:
    small, huge = Cluster(), Cluster()
    run(small, [sized(1, 1000, n) for n in range(500)], Seldom(10))
    run(huge, [sized(1, MAX_CHECKPOINT_BYTES // 4, n) for n in range(6)], Seldom(2 * MAX_CHECKPOINT_BYTES))
    assert kinds(small) == ["Checkpoint", *["LogEntry"] * 499]
    assert kinds(huge) == ["Checkpoint", "LogEntry", "LogEntry", "LogEntry", "Checkpoint", "LogEntry"]


def test_what_passed_before_a_crash_counts_after_it() -> None:
    """Else a worker that dies again and again would have ever more to handle again."""
    cluster = Cluster()
    for n in range(7):
        run(cluster, [sized(1, MIN_CHECKPOINT_BYTES * 2 // 5, n)], Seldom(10))
    assert kinds(cluster) == [
        "Checkpoint",
        "LogEntry",
        "LogEntry",
        "Checkpoint",
        "LogEntry",
        "LogEntry",
        "Checkpoint",
    ]
    assert remembered(cluster) == [1] * 7


def test_records_that_never_came_are_fetched_before_what_follows_them() -> None:
    cluster = Cluster(arrived=records([b"1", b"2", b"3"]))
    run(cluster, [Chunk("labels", 0, cluster.arrived[:1]), Chunk("labels", 0, cluster.arrived[2:])])
    assert (cluster.rewound, cluster.said()) == ([1], ["1"])


def test_records_that_retention_took_are_not_waited_for() -> None:
    cluster = Cluster()
    run(cluster, [Chunk("labels", 0, records([b"5"], first=1000))])
    assert (cluster.rewound, cluster.said()) == ([], ["5"])


def step(number: int, epoch: int, word: str = "") -> LogEntry:
    return LogEntry(epoch, number, "labels", number, number, number, [ProducerRecord("alerts", word, b"")])


def base(number: int, epoch: int) -> Checkpoint:
    return Checkpoint("b", b"", number=number, epoch=epoch)


def words(memory: RecoveryPoint | None) -> list[str]:
    assert memory is not None
    return [one.outbox[0].key for one in memory.entries]


def test_a_late_write_of_a_former_owner_does_not_count() -> None:
    late: list[Checkpoint | LogEntry] = [
        base(0, 1),
        step(1, 1, "a"),
        step(2, 2, "b"),
        step(2, 1, "late"),
        step(3, 2, "c"),
    ]
    assert words(RecoveryPoint.from_entries(late)) == ["a", "b", "c"]


def test_what_a_new_owner_writes_replaces_what_the_former_one_wrote_after_it_had_lost_the_partition() -> None:
    late: list[Checkpoint | LogEntry] = [
        base(0, 1),
        step(1, 1, "a"),
        step(2, 1, "late"),
        step(2, 2, "b"),
        step(3, 2, "c"),
    ]
    assert words(RecoveryPoint.from_entries(late)) == ["a", "b", "c"]


def test_an_entry_that_was_written_twice_counts_once() -> None:
    assert words(RecoveryPoint.from_entries([base(0, 1), step(1, 1, "a"), step(1, 1, "a")])) == ["a"]
    assert words(RecoveryPoint.from_entries([base(0, 1), step(1, 1, "a"), base(0, 1), step(2, 1, "b")])) == [
        "a",
        "b",
    ]


def test_a_former_owners_base_is_not_taken_for_the_newest_by_who_reads_only_the_end() -> None:
    assert RecoveryPoint.from_entries([step(7, 2), step(8, 2), base(5, 1)]) is None


@pytest.mark.parametrize("count", [1, 1000])
def test_an_entry_comes_back_as_it_was(count: int) -> None:
    outbox = [ProducerRecord("alerts", f"{n}", b"%d" % n, {"seq": f"{n}"}, partition=n) for n in range(count)]
    snapshot = Checkpoint("b", b"\x00state", {"labels": 5}, {"a>labels": 3}, count, outbox, 2, 3, 1)
    assert decode_entry(snapshot.encode()) == snapshot
    assert decode_entry(step(7, 3, "a").encode()) == step(7, 3, "a")


def test_an_entry_of_another_state_version_is_refused() -> None:
    entry = base(0, 1).encode().replace(b'"version":1', b'"version":2')
    with pytest.raises(
        Conflict, match="state version 2, this driftloop reads 1: delete the agent's changelog"
    ):
        decode_entry(entry)

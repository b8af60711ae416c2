"""A Faust transport that delivers a chunk of consecutive records as one stream event.

A Faust event per record costs 90 us; a chunk costs that once. An offset is committed only when every chunk up
to it was acknowledged.

This is the only file that uses private parts of Faust and aiokafka. It overrides methods of Faust's consumer
and consumer thread, keeps Faust's books of acknowledged offsets, and sets aiokafka's fetch settings.
`faust_private_names_test.py` lists each private name; pyproject.toml pins both versions for them.
"""

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Any

import faust
from aiokafka import structs
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.transports import SchedulingStrategyT

from driftloop.streams.records import NO_HEADERS, Chunk, ConsumerRecord

CHUNK_BYTES = 1_000_000
"""A chunk ends with the record that passes this. The messages that follow from a chunk are held in memory,
and written to the changelog too."""

AHEAD = 2
"""Chunks of a partition that are delivered and not done, at most: one in work, one that waits. Records that
arrive meanwhile form one larger chunk, so an agent that lags has less work a record; memory is bounded."""
POLL_SECONDS = 0.02
"""Between two looks at partitions that have `AHEAD` chunks."""


class ChunkRecord:
    """Has the attributes that Faust reads of a record of aiokafka; its value is the chunk."""

    checksum = None
    headers = ()
    key = None
    serialized_key_size = 0
    serialized_value_size = 0
    timestamp_type = 0

    def __init__(self, topic: str, records: Sequence["structs.ConsumerRecord[bytes, bytes]"]) -> None:
        newest = records[-1]
        self.topic = newest.topic
        self.partition = newest.partition
        self.offset = newest.offset
        self.timestamp = newest.timestamp
        self.value = Chunk(topic, newest.partition, _consumer_records(records))


class ChunkSchema(faust.Schema):  # type: ignore[misc]  # faust has no types
    """Returns the chunk undecoded: the agent decodes it, and errors become dead letters."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """Chunks have no key of their own."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The chunk."""
        return message.value


class ChunkScheduler(SchedulingStrategyT):  # type: ignore[misc]  # faust has no types
    """Cuts fetched records into chunks, round robin over partitions."""

    names: Mapping[str, str] = {}
    """Topics: name in Kafka -> our name."""
    size = 1000
    """Records of a chunk, at most."""
    positions: Callable[[], Awaitable[Mapping[TP, int]]]
    """Returns the next offset of every partition that was read before; called after a rebalance."""

    @classmethod
    def map_from_records(cls, records: Any) -> Any:
        """The records by partition, as they are already."""
        return records

    def iterate(self, records: Mapping[TP, Sequence[Any]]) -> Iterator[tuple[TP, Any]]:
        """Yield the chunks."""
        turns = {tp: self._cut(self.names[tp.topic], fetched) for tp, fetched in records.items()}
        while turns:
            for tp in list(turns):
                record = next(turns[tp], None)
                if record is None:
                    del turns[tp]
                else:
                    yield tp, record

    def _cut(self, name: str, records: Sequence[Any]) -> Iterator[ChunkRecord]:
        if len(records) <= self.size and sum(map(_size, records)) < CHUNK_BYTES:
            yield ChunkRecord(name, records)
            return
        first, weight = 0, 0
        for at, record in enumerate(records):
            if at > first and (at - first >= self.size or weight >= CHUNK_BYTES):
                yield ChunkRecord(name, records[first:at])
                first, weight = at, 0
            weight += len(record.value or b"")
        yield ChunkRecord(name, records[first:])


FETCH_WAIT_MS = 100
"""How long the broker may hold a fetch that finds less than `FETCH_BYTES`; Faust has 1,500 ms. One fetch at a
time asks for all partitions without records, so a partition that misses it waits as long, in each agent.
Ten empty fetches a second cost an idle agent 0.4 % of a core."""
FETCH_BYTES = 64_000
"""A fetch that finds as much returns at once; Faust has 1. With 1, a worker that keeps up handles records one
by one, and each chunk has fixed costs (a log entry, a publication, two acknowledgements): 400 single
requests a second then cost agents and broker five times as much."""


class FetchingThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust has no types
    """Faust's thread around aiokafka's consumer, with `FETCH_WAIT_MS` and `FETCH_BYTES`."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # aiokafka hands both to its fetcher at the start
        consumer._fetch_min_bytes = FETCH_BYTES
        return consumer


class ChunkConsumer(driver.Consumer):  # type: ignore[misc]  # faust has no types
    """Commits the offsets of whole chunks, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._delivered: defaultdict[TP, deque[int]] = defaultdict(deque)
        """Newest offset of each chunk that is delivered and not committed."""

    def _new_consumer_thread(self) -> FetchingThread:
        return FetchingThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> Any:
        self._delivered[tp].append(record.offset)
        return super()._to_message(tp, record)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Fetch from the partitions that have fewer than `AHEAD` chunks."""
        active = active_partitions or set()
        ready = {tp for tp in active if self._unacknowledged_chunks(tp) < AHEAD}
        if not ready:
            await self.sleep(POLL_SECONDS)
            return {}
        return await super()._getmany(ready, timeout if len(ready) == len(active) else POLL_SECONDS)

    def _unacknowledged_chunks(self, tp: TP) -> int:
        """Chunks that are delivered and not acknowledged."""
        done = self._acked_index[tp]
        return sum(offset not in done for offset in self._delivered[tp])

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: Faust would take the offsets inside a chunk for a gap."""

    def _new_offset(self, tp: TP) -> int | None:
        done, new = self._acked_index[tp], None
        waiting = self._delivered[tp]
        while waiting and waiting[0] in done:
            new = waiting.popleft()
            done.discard(new)
        if new is None:
            return None
        self._acked[tp][:] = [offset for offset in self._acked[tp] if offset > new]
        return new + 1

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget the chunks of these partitions."""
        for tp in revoked:
            self._delivered.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Seek to the offsets of the agent's state instead of those committed to Kafka."""
        self._delivered.clear()
        await super().perform_seek()
        positions = await self.scheduler.positions()
        unread = []
        for tp in self.assignment():
            if tp in positions:
                await self.rewind(tp, positions[tp])
            else:
                unread.append(tp)
        if unread:
            await self._thread.seek_to_beginning(*map(driver.ensure_aiokafka_TP, unread))
            for tp in unread:
                self._forget_progress(tp)
                self._read_offset[tp] = None

    async def rewind(self, tp: TP, offset: int) -> None:
        """Deliver the records from `offset` on again."""
        self._forget_progress(tp)
        await self.seek_wait({tp: offset})
        self._read_offset[tp] = None  # Faust leaves out offsets up to this

    def _forget_progress(self, tp: TP) -> None:
        """Accept acknowledgements of offsets that were committed before.

        Faust ignores those: a chunk that is delivered again would never be acknowledged, nothing after it
        committed, and after `AHEAD` such chunks the partition would not be read any more.
        """
        self._delivered.pop(tp, None)
        self._committed_offset[tp] = None
        self._acked[tp].clear()
        self._acked_index[tp].clear()


class ChunkTransport(driver.Transport):  # type: ignore[misc]  # faust has no types
    """Faust's aiokafka transport with chunks."""

    Consumer = ChunkConsumer


def install(
    app: faust.App,
    names: Mapping[str, str],
    size: int,
    positions: Callable[[], Awaitable[Mapping[TP, int]]],
) -> None:
    """Have `app` receive the topics in `names` (name in Kafka -> our name) in chunks of up to `size` records.

    Reading begins at the offsets that `positions` returns (by name in Kafka), else at the oldest record.
    """
    fields = {"names": names, "size": size, "positions": staticmethod(positions)}
    app.conf.ConsumerScheduler = type("Scheduler", (ChunkScheduler,), fields)
    app.transport = ChunkTransport(app.conf.broker_consumer, app)


def end_offset(app: faust.App, tp: TP) -> int | None:
    """The partition's end as of the last fetch; None before the first fetch and during a rebalance."""
    try:
        end: int | None = app.consumer.highwater(tp)
    except (AssertionError, AttributeError):  # raised by aiokafka while the partition is not assigned
        return None
    return end


_size = attrgetter("serialized_value_size")
_without_headers = [attrgetter(name) for name in ConsumerRecord._fields if name != "headers"]
_new_record = partial(tuple.__new__, ConsumerRecord)


def _consumer_records(records: Sequence["structs.ConsumerRecord[bytes, bytes]"]) -> list[ConsumerRecord]:
    """Our records of aiokafka's; without headers (a client's single events) in C alone, a third quicker."""
    if any(map(attrgetter("headers"), records)):
        return [_consumer_record(record) for record in records]
    return list(
        map(
            _new_record,
            zip(*(map(field, records) for field in _without_headers), repeat(NO_HEADERS), strict=False),
        )
    )


def _consumer_record(record: "structs.ConsumerRecord[bytes, bytes]") -> ConsumerRecord:
    headers = NO_HEADERS
    if record.headers:
        headers = {
            name: value.decode(errors="replace") for name, value in record.headers if value is not None
        }
    return ConsumerRecord(record.offset, record.timestamp, record.key, record.value, headers)

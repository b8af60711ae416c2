"""The door to Faust: a transport that hands an agent a run of consecutive records as one stream event.

A Faust event per record costs 90 us; a chunk of records costs that once. An offset is committed only when
every chunk up to it was acknowledged. Uses Faust's public seams: a transport driver, the consumer's
scheduler and a schema.
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
"""A chunk ends with the record that passes this; what follows from a chunk lies in memory, and in Kafka once
more until it was published."""

AHEAD = 2
"""Chunks of a partition that are with the agent, at most: one in work, one that waits. Its further records
gather meanwhile, and come as one chunk: who is late has less to do, not more, and memory doesn't grow."""
SOON = 0.02
"""Seconds until partitions that had enough are looked at again."""


class ChunkRecord:
    """Looks to Faust like one record of aiokafka's; its value is the chunk."""

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
        self.value = Chunk(topic, newest.partition, _all_arrived(records))


class ChunkSchema(faust.Schema):  # type: ignore[misc]  # faust has no types
    """Hands the chunk through; decoding happens in our loop, where errors become dead letters."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """Chunks have no key of their own."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The chunk."""
        return message.value


class ChunkScheduler(SchedulingStrategyT):  # type: ignore[misc]  # faust has no types
    """Cuts what was fetched into chunks, round robin over partitions."""

    names: Mapping[str, str] = {}
    """Chunked topics: name in Kafka -> our name."""
    size = 1000
    positions: Callable[[], Awaitable[Mapping[TP, int]]]
    """The next offset of every partition that has a memory; called when partitions were handed out."""

    @classmethod
    def map_from_records(cls, records: Any) -> Any:
        """Faust asks for a mapping of partition to records; that's what it is already."""
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
"""How long the broker may hold a fetch that finds less than `FETCH_BYTES`. One fetch at a time asks for all
partitions whose records are used up, so one whose turn was missed is late by as much, in each stage. Ten
fetches of nothing a second cost an idle agent 0.4 % of a core more than Faust's 1,500 ms."""
FETCH_BYTES = 64_000
"""A fetch that finds as much returns at once. With Faust's 1, a worker that keeps up handles them one by one,
and each chunk has a price whatever is in it (a write of the memory, a publication, two acknowledgements):
400 single requests a second cost agents and broker five times as much."""


class FetchingThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust has no types
    """Faust's thread around aiokafka's consumer, with that wait."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # what it gives its fetcher when it starts,
        consumer._fetch_min_bytes = FETCH_BYTES  # and this, too
        return consumer


class ChunkConsumer(driver.Consumer):  # type: ignore[misc]  # faust has no types
    """Commits whole chunks, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._delivered: defaultdict[TP, deque[int]] = defaultdict(deque)

    def _new_consumer_thread(self) -> FetchingThread:
        return FetchingThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> Any:
        self._delivered[tp].append(record.offset)
        return super()._to_message(tp, record)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Of the partitions whose agent keeps up; what the others get meanwhile comes as larger chunks."""
        active = active_partitions or set()
        ready = {tp for tp in active if self._unfinished(tp) < AHEAD}
        if not ready:
            await self.sleep(SOON)
            return {}
        return await super()._getmany(ready, timeout if len(ready) == len(active) else SOON)

    def _unfinished(self, tp: TP) -> int:
        """Chunks that were delivered and not done."""
        done = self._acked_index[tp]
        return sum(offset not in done for offset in self._delivered[tp])

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Faust would count the records inside a chunk as missing."""

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
        """What was delivered of them is somebody else's now."""
        for tp in revoked:
            self._delivered.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Go where the memories end, wherever Kafka's committed offsets are."""
        self._delivered.clear()
        await super().perform_seek()
        positions = await self.scheduler.positions()
        fresh = []
        for tp in self.assignment():
            if tp in positions:
                await self.rewind(tp, positions[tp])
            else:
                fresh.append(tp)
        if fresh:
            await self._thread.seek_to_beginning(*map(driver.ensure_aiokafka_TP, fresh))
            for tp in fresh:
                self._forget_progress(tp)
                self._read_offset[tp] = None

    async def rewind(self, tp: TP, offset: int) -> None:
        """Deliver what comes from `offset` on again."""
        self._forget_progress(tp)
        await self.seek_wait({tp: offset})
        self._read_offset[tp] = None  # Faust would leave out what it has delivered before

    def _forget_progress(self, tp: TP) -> None:
        """Take acknowledgements of chunks that were committed before, too.

        Faust ignores them: such a chunk would never be done, nothing after it would be committed, and after
        `AHEAD` of them the partition would not be read any more.
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
    """Make `app` receive the topics in `names` (name in Kafka -> our name) in chunks of up to `size`.

    Reading begins where `positions` says (by name in Kafka), else with the oldest record that is kept.
    """
    fields = {"names": names, "size": size, "positions": staticmethod(positions)}
    app.conf.ConsumerScheduler = type("Scheduler", (ChunkScheduler,), fields)
    app.transport = ChunkTransport(app.conf.broker_consumer, app)


_size = attrgetter("serialized_value_size")
_bare = [attrgetter(name) for name in ConsumerRecord._fields if name != "headers"]
_new = partial(tuple.__new__, ConsumerRecord)


def _all_arrived(records: Sequence["structs.ConsumerRecord[bytes, bytes]"]) -> list[ConsumerRecord]:
    """What came; without headers (single events of a client) in C alone, a third quicker."""
    if any(map(attrgetter("headers"), records)):
        return [_arrived(record) for record in records]
    return list(map(_new, zip(*(map(field, records) for field in _bare), repeat(NO_HEADERS), strict=False)))


def _arrived(record: "structs.ConsumerRecord[bytes, bytes]") -> ConsumerRecord:
    headers = NO_HEADERS
    if record.headers:
        headers = {
            name: value.decode(errors="replace") for name, value in record.headers if value is not None
        }
    return ConsumerRecord(record.offset, record.timestamp, record.key, record.value, headers)

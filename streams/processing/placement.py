"""Rows in the partition of their ids: what another client's partitioner misplaced is sent there again.

A prediction meets its label in the partition of their common id, as `batches.partition_of` computes it. A
client with another partitioner (murmur2), or without a key, puts them elsewhere, where they would wait for
each other until the horizon. A record is decoded here only where its key does not fit its partition.
"""

import logging
import zlib
from collections.abc import Sequence

from driftloop.schemas import topics
from driftloop.schemas.records import Batch
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import metrics
from driftloop.streams.processing.agent import Agent, State
from driftloop.streams.producer import serializer
from driftloop.streams.records import Chunk, ConsumerRecord, ProducerRecord
from driftloop.streams.wire import codec
from driftloop.streams.wire.batches import partition_of

log = logging.getLogger(__name__)
PLACED = (topics.PREDICTIONS, topics.FEATURES, topics.LABELS)
"""Topics of clients, whose rows have to be in the partition of their ids."""


class Placement:
    """Leaves misplaced records out of a chunk; the agent that reads all topics of clients sends them on."""

    def __init__(self, agent: Agent[State], kafka: KafkaSettings) -> None:
        self._agent = agent.name
        self._kafka = kafka
        self._partitions = kafka.data_partitions
        self._topics = {topic.name: topic for topic in agent.topics if topic in PLACED}
        self._sends = set(PLACED) <= set(agent.topics)
        self._warned: set[str] = set()

    def place(self, chunk: Chunk) -> tuple[Sequence[ConsumerRecord], list[ProducerRecord]]:
        """The records that are where they belong, and messages that bring the others there.

        A function of the records alone, so that a replay leaves the same ones out.
        """
        if chunk.topic not in self._topics or self._partitions == 1:
            return chunk.records, []
        doubtful = [record for record in chunk.records if not self._key_fits(chunk.partition, record)]
        moved = {record.offset: sent for record in doubtful if (sent := self._moved(chunk, record))}
        if not moved:
            return chunk.records, []
        self._report(chunk.topic, len(moved))
        kept = [record for record in chunk.records if record.offset not in moved]
        return kept, [one for sent in moved.values() for one in sent] if self._sends else []

    def _key_fits(self, partition: int, record: ConsumerRecord) -> bool:
        return record.key is not None and zlib.crc32(record.key) % self._partitions == partition

    def _moved(self, chunk: Chunk, record: ConsumerRecord) -> list[ProducerRecord]:
        """The record's rows, each in the partition of its id; empty where they are there already."""
        try:
            read = codec.decode_record(record.value)
        except codec.Unreadable:
            return []  # the agent writes the dead letter
        ids = read.ids if isinstance(read, Batch) else [read.id]
        if read.kafka_topic is not self._topics[chunk.topic]:
            return []  # of another topic: the agent writes the dead letter
        if all(partition_of(id_, self._partitions) == chunk.partition for id_ in ids):
            return []
        topic = topics.name_of(self._topics[chunk.topic], self._kafka)
        if isinstance(read, Batch):
            return list(serializer.producer_records(read, topic, self._partitions))
        partition = partition_of(read.id, self._partitions)
        return [ProducerRecord(topic, read.id, record.value or b"", partition=partition)]

    def _report(self, topic: str, records: int) -> None:
        if not self._sends:
            return
        metrics.count_misplaced(topic, records)
        if topic not in self._warned:
            self._warned.add(topic)
            log.warning(
                "records are not in the partition of their ids, and are sent there; configure the client's "
                "partitioner as `consistent` (CRC-32 of the id), and the id as the key",
                extra={"topic": topic, "records": records},
            )

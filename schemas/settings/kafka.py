"""Kafka, and how records get there."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from driftloop.schemas.settings.types import (
    AtLeastZero,
    Folder,
    Group,
    Positive,
    Prefix,
    Real,
    Seconds,
    Servers,
    Whole,
)


class KafkaSettings(Group):
    """The Kafka cluster, and how agents and clients use it."""

    bootstrap: Servers = "127.0.0.1:9092"
    """Servers, comma-separated `host:port`. Also read from `KAFKA_BOOTSTRAP_SERVERS`."""
    prefix: Prefix = ""
    """Put before every topic and group name, so that several systems share a cluster."""
    data_partitions: Annotated[Positive, Field(le=10_000)] = 4
    """Partitions of predictions, features and labels: as many workers can share the load."""
    control_partitions: Annotated[Positive, Field(le=10_000)] = 2
    """Partitions of everything keyed by model; low volume, so few."""
    replication: Annotated[Positive, Field(le=100)] = 1
    """Copies of each partition. 1 fits a laptop; 3 where losing a disk must lose nothing."""
    session_timeout: Annotated[Real, Field(ge=1, le=90)] = 6.0
    """Seconds after which a worker without a heartbeat loses its partitions. 6 is the least that Apache Kafka
    allows by default; on the embedded broker a first join takes half of it. At most 90, Faust's own limit."""
    chunk_records: Annotated[Positive, Field(le=1_000_000)] = 3000
    """Most records of a chunk: with 3,000, single events cost both stages of drift a seventh less CPU than
    with 1,000. A chunk also ends at 1 MB, which is about 3,000 events of 300 bytes."""
    max_lag_seconds: Seconds = 300.0
    """Age in seconds of an agent's oldest waiting record above which an alert is raised; it ends at half."""


class PublisherSettings(Group):
    """The SDK: how records are batched, and what happens while Kafka does not answer."""

    batch_rows: Annotated[Positive, Field(le=1_000_000)] = 500
    """Most records of one model in one columnar message. 1: each record is a JSON event of its own, which
    costs every consumer several times the CPU."""
    linger_ms: Annotated[AtLeastZero, Field(le=900_000)] = 5.0
    """Longest time in ms that a record waits for its batch to fill; 5 ms fills batches under load."""
    buffer_messages: Positive = 100_000
    """Most rows and messages that wait for the broker, and as many kB; 100,000 single JSON events of 300
    bytes are about 30 MB."""
    when_full: Literal["block", "raise", "spool"] = "block"
    """`block`: wait for room, at most `block_seconds`; `raise`: BufferFull at once; `spool`: everything goes
    through a file in `spool_folder`, from which a later process sends what a killed one had accepted."""
    block_seconds: Seconds = 30.0
    """Seconds that `block` waits before it raises BufferFull."""
    delivery_timeout: Seconds = 120.0
    """Seconds of retries before a message is reported as not delivered; a spool retries without limit."""
    exit_seconds: AtLeastZero = 5.0
    """Seconds that a process which ends without `close` waits for acknowledgements: Kubernetes and Docker
    leave at least 10 s."""
    spool_folder: Folder | None = None
    """Folder in which `spool` keeps what Kafka has not acknowledged. Processes that run at the same time use
    folders of their own in it; the next process sends what an ended one left."""
    spool_bytes: Annotated[Whole, Field(ge=1_000_000, lt=1 << 53)] = 1_000_000_000
    """Bytes on the disk before BufferFull: an hour of 900 single records of 300 bytes a second."""
    spool_sync_ms: Annotated[Real, Field(ge=1, le=900_000)] = 1000.0
    """Milliseconds between two syncs to the disk, whose records a power cut may lose; kill -9 loses none."""

    @model_validator(mode="after")
    def _spool_has_a_folder(self) -> Self:
        if self.when_full == "spool" and self.spool_folder is None:
            raise ValueError("when_full 'spool' needs a spool_folder")
        return self

    @model_validator(mode="after")
    def _lingers_less_than_it_tries(self) -> Self:
        if self.linger_ms >= int(self.delivery_timeout * 1000):
            least, most = self.linger_ms, self.delivery_timeout
            raise ValueError(f"linger_ms {least:g} must be less than delivery_timeout {most:g} s")
        return self

    def without_spool(self) -> Self:
        """These settings without a spool, for a caller that waits for each acknowledgement."""
        return self.model_copy(update={"when_full": "block"}) if self.when_full == "spool" else self

"""What all clients of librdkafka share: the settings of a consumer without a group, and a quiet log."""

import logging

from driftloop.schemas import topics
from driftloop.schemas.settings import KafkaSettings

QUIET_SECONDS = 10.0
"""Between two lines of one kind about one connection; an absent broker causes several a second."""


class RateLimit(logging.Filter):
    """Passes a line of one kind about one connection once in `QUIET_SECONDS`, with the number it held back.

    A log record of librdkafka has three arguments: its kind (`FAIL`), the client, and a text that begins with
    the connection (`[thrd:127.0.0.1:9092/1]: ...`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged_at: dict[tuple[str, ...], float] = {}
        self._held_back: dict[tuple[str, ...], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if not isinstance(record.args, tuple) or len(record.args) != 3:
            return True
        kind, _, text = map(str, record.args)
        key = (kind, text.partition(" ")[0])
        if record.created - self._logged_at.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return False
        self._logged_at[key] = record.created
        held_back = self._held_back.pop(key, 0)
        if held_back:
            record.msg, record.args = f"{record.getMessage()} (and {held_back} more like it)", ()
        return True


log = logging.getLogger("driftloop.streams.librdkafka")
"""The logger of every client of librdkafka."""
log.addFilter(RateLimit())


def consumer_config(kafka: KafkaSettings) -> dict[str, str | int | bool]:
    """Of a consumer that reads assigned partitions to their end, without a group."""
    return {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": "driftloop-reader",  # required by librdkafka; no offset is committed
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": topics.MAX_MESSAGE_BYTES,
        "fetch.wait.max.ms": 50,
    }

"""What librdkafka logs of its connections, without saying the same twenty times a second.

While a broker is away, each connection says so at each attempt, several times a second and for each of its
threads. Said once in ten seconds, with how often it was meant, it is the same news.
"""

import logging

QUIET_SECONDS = 10.0
"""Between two lines of one kind about one broker."""


class RateLimit(logging.Filter):
    """Lets lines of one kind about one connection pass once in ten seconds.

    A line of librdkafka's has three arguments: its kind (`FAIL`), the client, and what it says, which begins
    with the connection (`[thrd:127.0.0.1:9092/1]: ...`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, ...], float] = {}
        self._kept: dict[tuple[str, ...], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to say it; with how many like it were not said before."""
        if not isinstance(record.args, tuple) or len(record.args) != 3:
            return True
        kind, _, said = map(str, record.args)
        key = (kind, said.partition(" ")[0])
        if record.created - self._said.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
            self._kept[key] = self._kept.get(key, 0) + 1
            return False
        self._said[key] = record.created
        kept = self._kept.pop(key, 0)
        if kept:
            record.msg, record.args = f"{record.getMessage()} (and {kept} more like it)", ()
        return True


log = logging.getLogger("driftloop.streams.librdkafka")
"""What every client of librdkafka's is given."""
log.addFilter(RateLimit())

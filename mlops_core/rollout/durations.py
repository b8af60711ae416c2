"""How long a step still takes, in words."""

from datetime import UTC, datetime

from driftloop.schemas.records import Millis


def eta(requests: int, seconds: float | None) -> str:
    """How many requests are missing, and how long they take.

    >>> eta(90, 250)
    "about 90 more requests, 4 minutes at today's traffic"
    >>> eta(90, None)
    'about 90 more requests'
    """
    missing = f"about {requests:,} more requests"
    return missing if seconds is None else f"{missing}, {duration(seconds)} at today's traffic"


def duration(seconds: float) -> str:
    """A length of time in its largest unit of which it has two.

    >>> duration(0), duration(7), duration(250), duration(86_400), duration(10 * 86_400)
    ('1 second', '7 seconds', '4 minutes', '24 hours', '10 days')
    """
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 1):.0f} second{'s' if seconds >= 1.5 else ''}"


def clock(at: Millis) -> str:
    """A time (UTC, ms) to the second.

    >>> clock(1767225600000)
    '2026-01-01 00:00:00 UTC'
    """
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"

"""What a setting may be: numbers that are finite, in a range that the parts bear; names that lead somewhere.

What is refused says what was expected. Text of a number is one too, since variables are text; `true` is none,
though Python counts it as 1.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

Item = TypeVar("Item", bound=Hashable)


def _no_truth(given: object) -> object:
    if isinstance(given, bool):
        raise ValueError("a number was expected, not true or false")
    return given


def _no_giant(given: object) -> object:
    """Pydantic can't say how large a whole number may be that it doesn't read."""
    giant = isinstance(given, int | float) and abs(given) > 1 << 53
    if giant or (isinstance(given, str) and len(given) > 20):
        raise ValueError("a whole number of at most 16 digits was expected")
    return given


Whole = Annotated[int, BeforeValidator(_no_giant), BeforeValidator(_no_truth)]
Real = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]
AtLeastZero = Annotated[Real, Field(ge=0)]
Positive = Annotated[Whole, Field(gt=0, lt=1 << 31)]
"""A count of rows or so; librdkafka, xgboost and numpy hold it in 31 bits."""
Share = Annotated[Real, Field(gt=0, lt=1)]
Chance = Annotated[Real, Field(ge=1e-12, lt=1)]
"""Of being wrong by luck; below the least, a promise in rows is longer than any stream."""
Seconds = Annotated[Real, Field(ge=0.001, le=2_000_000)]
"""From a ms, which Kafka's clients count in and take 0 for `ever`, to as many as they hold in 31 bits."""
Minutes = Annotated[Real, Field(ge=0.001, le=600_000_000)]
"""As hours."""
Hours = Annotated[Real, Field(ge=0.001, le=10_000_000)]
"""From some seconds to a thousand years."""
Days = Annotated[Real, Field(ge=0.001, le=400_000)]
Season = Literal["day", "week"] | Annotated[Real, Field(ge=1, le=366 * 24)] | None
"""A period after which the data repeats itself: a name or hours, up to a year of them."""
Port = Annotated[Whole, Field(ge=0, le=65535)]


def _host(given: str) -> str:
    if not re.fullmatch(r"[\w.:%-]+", given):
        raise ValueError("a host was expected, as `127.0.0.1` or `localhost`")
    return given


def _servers(given: str) -> str:
    """Without blanks, which no client would take.

    >>> _servers("kafka-1:9092, kafka-2:9092")
    'kafka-1:9092,kafka-2:9092'
    """
    servers = [one.strip() for one in given.split(",")]
    if not all(re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.%]+\]):\d{1,5}", one, re.ASCII) for one in servers):
        raise ValueError("servers were expected, as `kafka-1:9092,kafka-2:9092`")
    return ",".join(servers)


def _prefix(given: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,200}", given):
        raise ValueError("letters, digits, dot, underscore and hyphen were expected, as in a topic's name")
    return given


def _registry(given: str) -> str:
    try:
        address = urlsplit(given)
        found = address.netloc if address.scheme in {"http", "https"} else address.scheme == "file"
    except ValueError:  # a bracket that isn't closed
        found = False
    if not found or not given.isprintable():
        raise ValueError("a registry was expected, as `http://mlflow:5000` or `file:///models`")
    return given


def _folder(given: object) -> object:
    if not isinstance(given, str | Path) or not str(given).strip() or "\0" in str(given):
        raise ValueError("a folder was expected; `.` is this one")
    return given


def _trainer(given: str) -> str:
    module, colon, name = given.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ValueError("`module:class` was expected, as `acme.models:LinearTrainer`")
    return given


def _different(given: tuple[Item, ...]) -> tuple[Item, ...]:
    """The same.

    >>> _different(("country", "device"))
    ('country', 'device')
    """
    if len(set(given)) < len(given):
        raise ValueError("each of them once was expected")
    return given


def _rising(given: tuple[int, ...]) -> tuple[int, ...]:
    if not given or list(given) != sorted(set(given)) or given[0] == 100:
        raise ValueError(
            "rising percents were expected, the first below 100, which would leave nothing to compare with: "
            "as `[10, 50]` or `[1, 5, 10, 25, 50, 100]`"
        )
    return given


Host = Annotated[str, AfterValidator(_host)]
Servers = Annotated[str, AfterValidator(_servers)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Registry = Annotated[str, AfterValidator(_registry)]
Folder = Annotated[Path, BeforeValidator(_folder)]
TrainerName = Annotated[str, AfterValidator(_trainer)]
Columns = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], AfterValidator(_different)
]
Steps = Annotated[tuple[Annotated[Whole, Field(ge=1, le=100)], ...], AfterValidator(_rising)]

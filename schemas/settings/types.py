"""Types of settings: numbers that are finite and in range, names that can exist.

A value that is refused names what was expected. Numbers may be written as text, as in variables; `true` is
not a number, though Python counts it as 1.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Item = TypeVar("Item", bound=Hashable)


class Group(BaseModel):
    """A component's settings; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number was expected, not true or false")
    return value


def _refuse_large(value: object) -> object:
    """Pydantic can't say how large a whole number may be that it doesn't read."""
    giant = isinstance(value, int | float) and abs(value) > 1 << 53
    if giant or (isinstance(value, str) and len(value) > 20):
        raise ValueError("a whole number of at most 16 digits was expected")
    return value


Whole = Annotated[int, BeforeValidator(_refuse_large), BeforeValidator(_refuse_bool)]
Real = Annotated[float, BeforeValidator(_refuse_bool), Field(allow_inf_nan=False)]
AtLeastZero = Annotated[Real, Field(ge=0)]
Positive = Annotated[Whole, Field(gt=0, lt=1 << 31)]
"""A count of rows or so; librdkafka, xgboost and numpy hold it in 31 bits."""
Share = Annotated[Real, Field(gt=0, lt=1)]
Chance = Annotated[Real, Field(ge=1e-12, lt=1)]
"""Probability of a false alarm; below 1e-12 the promise in rows is longer than any stream."""
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


def _host(value: str) -> str:
    if not re.fullmatch(r"[\w.:%-]+", value):
        raise ValueError("a host was expected, as `127.0.0.1` or `localhost`")
    return value


def _servers(value: str) -> str:
    """Without blanks, which no client would take.

    >>> _servers("kafka-1:9092, kafka-2:9092")
    'kafka-1:9092,kafka-2:9092'
    """
    servers = [server.strip() for server in value.split(",")]
    if not all(
        re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.%]+\]):\d{1,5}", server, re.ASCII) for server in servers
    ):
        raise ValueError("servers were expected, as `kafka-1:9092,kafka-2:9092`")
    return ",".join(servers)


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,200}", value):
        raise ValueError("letters, digits, dot, underscore and hyphen were expected, as in a topic's name")
    return value


def _registry(value: str) -> str:
    try:
        address = urlsplit(value)
        found = address.netloc if address.scheme in {"http", "https"} else address.scheme == "file"
    except ValueError:  # a bracket that isn't closed
        found = False
    if not found or not value.isprintable():
        raise ValueError("a registry was expected, as `http://mlflow:5000` or `file:///models`")
    return value


def _folder(value: object) -> object:
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise ValueError("a folder was expected; `.` is this one")
    return value


def _trainer(value: str) -> str:
    module, colon, name = value.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ValueError("`module:class` was expected, as `acme.models:LinearTrainer`")
    return value


def _distinct(value: tuple[Item, ...]) -> tuple[Item, ...]:
    """The same.

    >>> _distinct(("country", "device"))
    ('country', 'device')
    """
    if len(set(value)) < len(value):
        raise ValueError("distinct values were expected; one is repeated")
    return value


def _rising(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or list(value) != sorted(set(value)) or value[0] == 100:
        raise ValueError(
            "rising percents were expected, the first below 100, which would leave nothing to compare with: "
            "as `[10, 50]` or `[1, 5, 10, 25, 50, 100]`"
        )
    return value


Host = Annotated[str, AfterValidator(_host)]
Servers = Annotated[str, AfterValidator(_servers)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Registry = Annotated[str, AfterValidator(_registry)]
Folder = Annotated[Path, BeforeValidator(_folder)]
TrainerName = Annotated[str, AfterValidator(_trainer)]
Columns = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], AfterValidator(_distinct)
]
Steps = Annotated[tuple[Annotated[Whole, Field(ge=1, le=100)], ...], AfterValidator(_rising)]

"""Encodes and decodes records and events: JSON by orjson, and batches as `blocks`.

A message that can't be decoded raises `Unreadable` with a reason. A newer `schema_version` is rejected.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any, TypeVar

import numpy as np
import orjson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from driftloop.schemas import messages
from driftloop.schemas.events import Event
from driftloop.schemas.records import SCHEMA_VERSION, AnyRecord
from driftloop.streams.wire import blocks

T = TypeVar("T")
Kind = TypeVar("Kind", bound=messages.Message)


def _by_type(base: type[Kind]) -> TypeAdapter[Kind]:
    """What validates any kind of `base`, chosen by its `type`."""
    union: Any = reduce(or_, messages.kinds(base))
    return TypeAdapter(Annotated[union, Field(discriminator="type")])


_EVENT = _by_type(Event)
_RECORD: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="type")])


Fault = tuple[tuple[int | str, ...], str]
"""The path of an invalid field in a message, and what is wrong with it."""


class Unreadable(ValueError):
    """A message that can't be decoded: a countable `reason`, and the detail."""

    def __init__(self, reason: str, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.faults = faults
        """All invalid fields."""


def encode(message: BaseModel) -> bytes:
    """The message as JSON. Numbers that are not finite become null (JSON has no such numbers).

    The fields are encoded without pydantic, which takes ten times as long.
    """
    return orjson.dumps(vars(message), default=to_json_value, option=orjson.OPT_SERIALIZE_NUMPY)


def to_json_value(values: object) -> object:
    """A nested model, a collection, or an array that orjson rejects, as something that orjson encodes."""
    if isinstance(values, BaseModel):
        return vars(values)
    if isinstance(values, np.ndarray):
        return values.tolist()
    if isinstance(values, Mapping):
        return dict(values)
    if isinstance(values, Sequence):
        return list(values)
    raise TypeError(f"a {type(values).__name__} can't be part of a message")


def decode_event(value: bytes | None) -> Event:
    """An event of the control plane. Raises Unreadable."""
    return _validate(_EVENT, _check_version(parse(value)))


def decode_record(value: bytes | None) -> AnyRecord:
    """A record of the data plane. Raises Unreadable."""
    return validate_record(blocks.with_lists(parse(value)))


def validate_record(fields: dict[str, Any]) -> AnyRecord:
    """A record of the data plane from parsed JSON. Raises Unreadable."""
    return _validate(_RECORD, _check_version(fields))


def is_current_version(fields: Mapping[str, Any]) -> bool:
    """Whether a message has the current schema version for certain."""
    version = fields.get("schema_version", SCHEMA_VERSION)
    return type(version) is int and version == SCHEMA_VERSION


def parse(value: bytes | None) -> dict[str, Any]:
    """The JSON object in a message; of a block, with arrays as columns. Raises Unreadable."""
    if not value:
        raise Unreadable("empty", "the message has no value")
    if value.startswith(blocks.MAGIC):
        return _parse_block(value)
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Unreadable("malformed", f"not JSON: {error}") from error
    if type(fields) is dict:
        return fields
    raise Unreadable("malformed", f"a JSON object was expected, not {type(fields).__name__}")


def _parse_block(value: bytes) -> dict[str, Any]:
    try:
        return blocks.decode(value)
    except blocks.Malformed as error:
        raise Unreadable("malformed", str(error)) from error


def _check_version(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, if their schema version can be read."""
    version = fields.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version < 1:
        raise Unreadable("invalid", f"schema_version: a whole number from 1 was expected, not {version!r}")
    if version > SCHEMA_VERSION:
        raise Unreadable(
            "future schema",
            f"schema_version {version} is newer than {SCHEMA_VERSION}, which this driftloop reads",
        )
    return fields


def _validate(adapter: TypeAdapter[T], fields: dict[str, Any]) -> T:
    try:
        return adapter.validate_python(fields)
    except ValidationError as error:
        faults = [
            (found["loc"], found["msg"]) for found in error.errors(include_url=False, include_context=False)
        ]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise Unreadable("invalid", f"{format_fault(faults[0])}{more}", faults) from error


def format_fault(fault: Fault) -> str:
    """The fault as text: path and problem."""
    where, what = fault
    return f"{'.'.join(map(str, where)) or 'message'}: {what}"

"""From the bytes of a chunk to records or events; what can't be read becomes a dead letter."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from schemas.events import AnyEvent
from schemas.stages import DriftSummary, LabelledExamples, Outcomes
from streams import codec, rows
from streams.chunks import Arrived, Chunk
from streams.consume import parked
from streams.routes import Emitted
from streams.rows import Refused, Run

Decoded = TypeVar("Decoded", bound=BaseModel)
Stage = TypeVar("Stage", DriftSummary, Outcomes, LabelledExamples)


def decoded(
    chunk: Chunk, decode: Callable[[bytes | None], Decoded], letters: list[Emitted]
) -> Iterator[tuple[Arrived, Decoded]]:
    """Each readable record of the chunk; a dead letter is added to `letters` for each other one."""
    for record in chunk.records:
        try:
            message = decode(record.value)
        except codec.Unreadable as error:
            letters.append(parked(chunk, record, error.reason, error.detail))
        else:
            yield record, message


def runs(chunk: Chunk, letters: list[Emitted]) -> list[Run]:
    """The chunk's rows of the data plane; a dead letter is added to `letters` for each that can't be read."""
    found = rows.decode(chunk.records)
    letters.extend(_refused(chunk, one) for one in found.refused)
    return found.runs


def _refused(chunk: Chunk, refused: Refused) -> Emitted:
    letter = parked(chunk, chunk.records[refused.place], refused.reason, refused.detail, refused.row)
    return letter if refused.value is None else letter.about(refused.value)


def events(chunk: Chunk, letters: list[Emitted]) -> Iterator[AnyEvent]:
    """The chunk's events of the control plane."""
    return (event for _, event in decoded(chunk, codec.decode_event, letters))


def staged(kind: type[Stage]) -> Callable[[bytes | None], Stage]:
    """A decoder for what a first stage handed over."""

    def decode(value: bytes | None) -> Stage:
        try:
            return kind.model_validate_json(value or b"")
        except ValidationError as error:
            raise codec.Unreadable("invalid", str(error.errors(include_url=False)[0]["msg"])) from error

    return decode

"""From the bytes of a chunk to records or events; what can't be read becomes a dead letter."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

from pydantic import BaseModel, ValidationError

from driftloop.mlops_core.drift.microbatches import UnpackedSummary
from driftloop.schemas.events import Event
from driftloop.schemas.messages import Output
from driftloop.schemas.summaries import CanaryScores, DriftSummary, LabelledExamples, Outcomes, PairedLosses
from driftloop.streams.records import Chunk, ConsumerRecord, dead_letter
from driftloop.streams.wire import codec, rows
from driftloop.streams.wire.rows import InvalidRecord, RowRun

Decoded = TypeVar("Decoded", bound=BaseModel)
Found = TypeVar("Found")
Stage = TypeVar("Stage", CanaryScores, DriftSummary, Outcomes, LabelledExamples, PairedLosses)


def decode_each(
    chunk: Chunk, decode: Callable[[bytes | None], Decoded], letters: list[Output]
) -> Iterator[tuple[ConsumerRecord, Decoded]]:
    """Each readable record of the chunk; a dead letter is added to `letters` for each other one."""
    for record in chunk.records:
        try:
            message = decode(record.value)
        except codec.Unreadable as error:
            letters.append(dead_letter(chunk, record, error.reason, error.detail))
        else:
            yield record, message


def decode_stage(
    chunk: Chunk, kind: type[Stage], letters: list[Output]
) -> Sequence[tuple[ConsumerRecord, Stage]]:
    """The chunk's messages of one first stage, decoded once however often this is called."""
    return _once(
        chunk, kind.__name__, letters, lambda own: list(decode_each(chunk, stage_decoder(kind), own))
    )


def decode_summaries(
    chunk: Chunk, letters: list[Output], *, segments: bool = True
) -> Sequence[tuple[ConsumerRecord, UnpackedSummary]]:
    """The chunk's summaries, perhaps without those of segments; what can't be unpacked is a dead letter.

    They are decoded once, however often this is called.
    """
    return _once(
        chunk, f"summaries {segments}", letters, lambda own: list(_summaries(chunk, own, segments=segments))
    )


def _summaries(
    chunk: Chunk, letters: list[Output], *, segments: bool
) -> Iterator[tuple[ConsumerRecord, UnpackedSummary]]:
    for record, summary in decode_each(chunk, stage_decoder(DriftSummary), letters):
        if summary.segment and not segments:
            continue
        try:
            unpacked = UnpackedSummary.of(summary)
        except ValueError as error:
            letters.append(dead_letter(chunk, record, "malformed", str(error)))
        else:
            yield record, unpacked


def decode_runs(chunk: Chunk, letters: list[Output]) -> Sequence[RowRun]:
    """The chunk's rows of the data plane; a dead letter is added to `letters` for each that can't be read.

    They are decoded once, however often this is called.
    """

    def decode(own: list[Output]) -> Sequence[RowRun]:
        found = rows.decode_records(chunk.records)
        own.extend(_dead_letter(chunk, one) for one in found.invalid)
        return found.runs

    return _once(chunk, "rows", letters, decode)


def _once(
    chunk: Chunk, name: str, letters: list[Output], decode: Callable[[list[Output]], Sequence[Found]]
) -> Sequence[Found]:
    """What `decode` makes of the chunk, which it does once; its dead letters are added to `letters`."""
    if name not in chunk.decoded:
        own: list[Output] = []
        chunk.decoded[name] = decode(own), own
    found, own = cast("tuple[Sequence[Found], list[Output]]", chunk.decoded[name])
    letters.extend(own)
    return found


def _dead_letter(chunk: Chunk, refused: InvalidRecord) -> Output:
    letter = dead_letter(chunk, chunk.records[refused.place], refused.reason, refused.detail, refused.row)
    return letter if refused.value is None else letter.about(refused.value)


def decode_events(chunk: Chunk, letters: list[Output]) -> Iterator[Event]:
    """The chunk's events of the control plane."""
    return (event for _, event in decode_each(chunk, codec.decode_event, letters))


def stage_decoder(kind: type[Stage]) -> Callable[[bytes | None], Stage]:
    """A decoder for what a first stage handed over."""

    def decode(value: bytes | None) -> Stage:
        try:
            return kind.model_validate_json(value or b"")
        except ValidationError as error:
            raise codec.Unreadable("invalid", str(error.errors(include_url=False)[0]["msg"])) from error

    return decode

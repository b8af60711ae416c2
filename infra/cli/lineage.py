"""Prints what led to an event."""

from collections.abc import Iterator
from datetime import UTC, datetime

from driftloop.mlops_core.lineage import Lineage
from driftloop.schemas.events import (
    DriftDetected,
    DriftMeasured,
    Event,
    GateEvidence,
    PerformanceMeasured,
    RolloutPromoted,
    RolloutRolledBack,
    VerdictEvidence,
)
from driftloop.schemas.settings import KafkaSettings
from driftloop.streams import topic_reader


def lines(kafka: KafkaSettings, start: str | None) -> Iterator[str]:
    """The chain behind the event `start`, or behind the newest promotion and rollback."""
    known = Lineage(topic_reader.read_all(kafka))
    chosen = [known.find(start)] if start is not None else _newest(known)
    if not chosen:
        yield "Nothing was promoted or rolled back yet."
    for event in chosen:
        yield from tree(known, event)
        yield ""


def tree(known: Lineage, event: Event) -> Iterator[str]:
    """One line an event, the end first, each indented under what it led to."""
    for depth, cause in enumerate(known.back(event)):
        yield f"{'  ' * depth}{'└─ ' if depth else ''}{describe(cause)}"


def describe(event: Event) -> str:
    """An event in one line: when, what, its sentence, and the beginning of its id."""
    when = datetime.fromtimestamp(event.at / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return f"{when}  {type(event).__name__}  {event.model}  {_sentence(event)}  [{event.id[:8]}]"


def _newest(known: Lineage) -> list[Event]:
    ends = (known.of_kind(RolloutPromoted), known.of_kind(RolloutRolledBack))
    caused_by_drift = [
        [e for e in end if any(isinstance(c, DriftDetected) for c in known.back(e))] for end in ends
    ]
    return [(chosen or list(end))[-1] for chosen, end in zip(caused_by_drift, ends, strict=True) if end]


def _sentence(event: Event) -> str:
    if isinstance(event, DriftMeasured | PerformanceMeasured):
        spans = ", ".join(f"{s.topic}/{s.partition} {s.first}..{s.last}" for s in event.spans)
        return f"{event.rows} rows: {spans}"
    said = getattr(event, "sentence", None) or getattr(event, "reason", None) or getattr(event, "error", None)
    evidence = getattr(event, "verdict", None) or getattr(event, "gate", None)
    if isinstance(evidence, (VerdictEvidence, GateEvidence)) and not said:
        said = evidence.sentence
    version = getattr(event, "version", None)
    return " ".join(part for part in (f"version {version}:" if version else "", str(said or "")) if part)

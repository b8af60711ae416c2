"""Streams that are no longer monitored: each open episode ends with a `DriftResolved` and its reason."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from driftloop.mlops_core.drift.verdicts import Opened, PairOpened
from driftloop.schemas import ids
from driftloop.schemas.events import DriftKind, DriftResolved, Part


class OpenDetection(Part):
    """The published detection of an open episode."""

    id: str
    """Id of the `DriftDetected`."""
    kind: DriftKind
    columns: Sequence[str]

    @classmethod
    def of(cls, detection: str, opened: Opened | PairOpened) -> Self:
        """The detection with this id, of an opened episode."""
        return cls(id=detection, kind=opened.kind, columns=opened.columns)


class RetiredStream(Part):
    """A stream that is no longer monitored and whose open episodes have yet to be resolved."""

    model: str
    version: str
    segment: str
    detections: Mapping[str, OpenDetection]
    """Column, or pair `a ~ b` -> its open detection."""
    why: str
    """The reason as a verb phrase after `version 7`, e.g. `is no longer registered`."""

    def resolve(self, at: int) -> Iterator[DriftResolved]:
        """A `DriftResolved` for each detection; `at`: time of the row that ended the stream (UTC, ms)."""
        for detection in dict.fromkeys(found.id for found in self.detections.values()):
            parts = [found for found in self.detections.values() if found.id == detection]
            yield DriftResolved(
                id=ids.derive(detection, "DriftResolved"),
                at=at,
                model=self.model,
                caused_by=detection,
                version=self.version,
                kind=parts[0].kind,
                columns=list(dict.fromkeys(name for part in parts for name in part.columns)),
                sentence=f"version {self.version} {self.why}",
                segment=self.segment,
            )


def load_detections(detections: Mapping[str, Any]) -> dict[str, OpenDetection]:
    """Detections by column or pair, read from JSON."""
    return {name: OpenDetection.model_validate(fields) for name, fields in detections.items()}


def resolve_retired(left: list[RetiredStream], model: str, at: int) -> list[DriftResolved]:
    """Resolve the model's streams in `left` and remove them from it; returns the events."""
    events = [event for stream in left if stream.model == model for event in stream.resolve(at)]
    left[:] = [stream for stream in left if stream.model != model]
    return events

"""Streams that are watched no more: of each episode that was open it is told that it is over, and why."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from driftloop.mlops_core.drift.verdicts import PAIR, Opened, PairOpened
from driftloop.schemas import ids
from driftloop.schemas.events import DriftKind, DriftResolved, Part


class OpenDetection(Part):
    """What was said of an open episode."""

    id: str
    """Of the detection."""
    kind: DriftKind
    columns: Sequence[str]

    @classmethod
    def of(cls, detection: str, opened: Opened | PairOpened) -> Self:
        """That it opened."""
        return cls(id=detection, kind=opened.kind, columns=opened.columns)


class RetiredStream(Part):
    """A stream that is watched no more, until the end of its episodes was told."""

    model: str
    version: str
    segment: str
    detections: Mapping[str, OpenDetection]
    """As in `version_tracker.VersionTracker`."""
    why: str
    """For a person, in words that follow its version."""

    def resolve(self, at: int) -> Iterator[DriftResolved]:
        """The end of each detection, at the time of what came instead."""
        for detection in dict.fromkeys(told.id for told in self.detections.values()):
            told = [one for one in self.detections.values() if one.id == detection]
            yield DriftResolved(
                id=ids.derive(detection, "DriftResolved"),
                at=at,
                model=self.model,
                caused_by=detection,
                version=self.version,
                kind=told[0].kind,
                columns=list(dict.fromkeys(name for one in told for name in one.columns)),
                sentence=f"version {self.version} {self.why}",
                segment=self.segment,
            )


def load_detections(detections: Mapping[str, Any]) -> dict[str, OpenDetection]:
    """Back from JSON, also from before kind and columns were kept.

    >>> load_detections({"a ~ b": "d1"})["a ~ b"].columns
    ['a', 'b']
    """
    return {
        name: OpenDetection(id=one, kind=DriftKind.FEATURE, columns=name.split(PAIR))
        if isinstance(one, str)
        else OpenDetection.model_validate(one)
        for name, one in detections.items()
    }


def resolve_retired(left: list[RetiredStream], model: str, at: int) -> list[DriftResolved]:
    """What there is to say of the model's streams in `left`, which are then taken out of it."""
    said = [event for one in left if one.model == model for event in one.resolve(at)]
    left[:] = [one for one in left if one.model != model]
    return said

"""From a detector's verdicts to events: what the second stage of drift says, and what caused it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from driftloop.mlops_core.drift import schema_changes, sentences
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.episodes import Mask
from driftloop.mlops_core.drift.microbatches import ROWS, UnpackedSummary
from driftloop.mlops_core.drift.retired import OpenDetection, RetiredStream
from driftloop.mlops_core.drift.schema_changes import ColumnWatch, Deviation
from driftloop.mlops_core.drift.suppression import ReportedColumns, Tellings, remember
from driftloop.mlops_core.drift.verdicts import Closed, Measured, Opened, PairClosed, PairOpened, Verdict
from driftloop.schemas import ids
from driftloop.schemas.events import (
    ColumnDrift,
    ColumnsChanged,
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    PairDrift,
    Span,
)
from driftloop.schemas.messages import Output
from driftloop.schemas.summaries import DriftSummary


@dataclass
class VersionTracker:
    """One version's detector, and what its next events need to know."""

    detector: DistributionDrift
    spans: list[Span] = field(default_factory=list)
    """Where the rows since the last window lie."""
    detections: dict[str, OpenDetection] = field(default_factory=dict)
    """Column (or pair) with an open episode -> what was said of it."""
    columns: ColumnWatch = field(default_factory=ColumnWatch)
    segment: str = ""
    """As `country=FR`; empty for all rows."""
    share: float = 1.0
    """Of the training rows."""
    segments: dict[str, "VersionTracker"] = field(default_factory=dict)
    tellings: Tellings = field(default_factory=dict)
    """Which columns it told of lately, for its segments."""
    origin: str = ""
    """The micro-batch that the detector began with, of which all its events follow; empty in older states."""
    changes: int = 0
    """How often other columns came."""

    def retire(self, model: str, version: str, why: str) -> list[RetiredStream]:
        """It and its segments, as streams that are watched no more."""
        streams = [self, *self.segments.values()]
        return [
            RetiredStream(
                model=model, version=version, segment=one.segment, detections=dict(one.detections), why=why
            )
            for one in streams
            if one.detections
        ]


def on_summary(watched: VersionTracker, one: UnpackedSummary, silenced: Mask | None = None) -> list[Output]:
    """What one summary leads to, in the order in which it happened.

    Of columns that are `silenced`, shape (micro-batches, columns), no drift is told.
    """
    before, index = watched.detector.open, watched.detector.index
    if not index:
        watched.origin = one.first_batch_id
    verdicts = watched.detector.update(one.counts, one.times, one.groups, silenced)
    remember(watched.tellings, ReportedColumns.of(one.summary.span, before, index, verdicts))
    watched.spans = _merge_spans([*watched.spans, one.summary.span])
    follows: list[Output] = []
    for _, found in groupby(verdicts, attrgetter("index")):
        follows += _opened_and_closed(watched, one.summary, list(found))
    return follows + _columns_changed(watched, one)


def _opened_and_closed(
    watched: VersionTracker, summary: DriftSummary, verdicts: Sequence[Verdict]
) -> Iterator[Output]:
    """What is found at one micro-batch: what opens together is told together, and first."""
    opened = [one for one in verdicts if isinstance(one, Opened)]
    for kind in DriftKind:
        drifted = sorted((one for one in opened if one.kind is kind), key=_rank)
        if drifted:
            yield from _drift_detected(watched, summary, drifted, _list_columns(drifted))
    parted = sorted((one for one in verdicts if isinstance(one, PairOpened)), key=_rank)
    if parted:
        told = sentences.explain_pairs([one.drift for one in parted])
        yield from _drift_detected(watched, summary, parted, told)
    for verdict in verdicts:
        match verdict:
            case Measured():
                yield _drift_measured(watched, summary, verdict)
            case Closed() | PairClosed():
                yield _drift_resolved(watched, summary, verdict)
            case Opened() | PairOpened():
                pass


def _rank(opened: Opened | PairOpened) -> tuple[float, float]:
    """What makes up most of the drift first; where the model was never asked what matters, the worst."""
    contribution = opened.drift.contribution if isinstance(opened.drift, ColumnDrift) else 0.0
    return -contribution, -opened.severity


def _list_columns(opened: Sequence[Opened]) -> str:
    more = f", and {len(opened) - 3} more columns" if len(opened) > 3 else ""
    return f"{'; '.join(one.sentence for one in opened[:3])}{more}"


def _drift_detected(
    watched: VersionTracker, summary: DriftSummary, opened: Sequence[Opened | PairOpened], said: str
) -> list[Output]:
    """The evidence as a partial window, and the detection that it causes; what matters most first."""
    worst = max(opened, key=attrgetter("severity"))
    since = min(one.changed_at for one in opened)
    what = "parted" if isinstance(worst, PairOpened) else worst.kind
    evidence = DriftMeasured(
        id=_id(watched, summary, worst.index, "alarm", what),
        at=worst.at,
        model=summary.model,
        version=summary.version,
        rows=max(one.rows for one in opened),
        since=since,
        until=worst.at,
        spans=watched.spans,
        columns={one.name: one.drift for one in opened if isinstance(one.drift, ColumnDrift)},
        pairs={one.name: one.drift for one in opened if isinstance(one.drift, PairDrift)},
        segment=watched.segment,
        partial=True,
    )
    within = f"for {watched.segment}: " if watched.segment else ""
    detection = DriftDetected.following(
        evidence,
        version=summary.version,
        kind=worst.kind,
        columns=list(dict.fromkeys(name for one in opened for name in one.columns)),
        severity=worst.severity,
        changed_at=worst.changed_at,
        sentence=f"{within}{said}, {sentences.since(since)}",
        segment=watched.segment,
        share=watched.share,
    )
    watched.detections.update((one.name, OpenDetection.of(detection.id, one)) for one in opened)
    return [evidence, detection]


def _drift_measured(watched: VersionTracker, summary: DriftSummary, window: Measured) -> DriftMeasured:
    spans = watched.spans
    # The next window's first rows came with this summary, too, unless it ends here.
    watched.spans = [summary.span] if watched.detector.index > window.index else []
    return DriftMeasured(
        id=_id(watched, summary, window.index, "window"),
        at=window.until,
        model=summary.model,
        version=summary.version,
        rows=window.rows,
        since=window.since,
        until=window.until,
        spans=spans,
        columns=window.columns,
        pairs=window.pairs,
    )


def _drift_resolved(watched: VersionTracker, summary: DriftSummary, closed: Closed | PairClosed) -> Output:
    told = watched.detections.pop(closed.name, None)
    return DriftResolved(
        id=_id(watched, summary, closed.index, "closed", closed.name),
        at=closed.at,
        model=summary.model,
        caused_by=None if told is None else told.id,
        version=summary.version,
        kind=closed.kind,
        columns=closed.columns,
        segment=watched.segment,
    )


def _columns_changed(watched: VersionTracker, one: UnpackedSummary) -> list[Output]:
    summary = one.summary
    found = {name: Deviation(what) for name, what in summary.deviations.items()}
    told = watched.columns.update(found, summary.batches * ROWS)
    if told is None:
        return []
    watched.changes += 1
    named: Mapping[str, Sequence[str]] = {
        kind.value: [name for name, what in told.items() if what is kind] for kind in Deviation
    }
    return [
        ColumnsChanged(
            id=_id(watched, summary, watched.changes, "columns"),
            at=one.until,
            model=summary.model,
            version=summary.version,
            severity="warning" if {*named["missing"], *named["retyped"]} else "info",
            sentence=schema_changes.sentence(told),
            **named,
        )
    ]


def _id(watched: VersionTracker, summary: DriftSummary, place: int, *what: str) -> str:
    """What the detector began with, and a place counted from there, name the moment: each comes once."""
    return ids.derive(summary.model, summary.version, watched.origin, watched.segment, place, *what)


def _merge_spans(spans: Sequence[Span]) -> list[Span]:
    """Spans that follow each other in a partition as one."""
    latest: dict[tuple[str, int], Span] = {}
    for span in spans:
        place = (span.topic, span.partition)
        known = latest.get(place, span)
        latest[place] = span.model_copy(
            update={"first": min(known.first, span.first), "last": max(known.last, span.last)}
        )
    return list(latest.values())

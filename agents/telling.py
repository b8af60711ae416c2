"""From a detector's verdicts to events: what the second stage of drift says, and what caused it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agents.reading import Binned
from mlops_core.drift import columns, dependence, sentences
from mlops_core.drift.columns import ColumnWatch, Deviation
from mlops_core.drift.dependence import PAIR, PairClosed, PairOpened
from mlops_core.drift.distribution import Closed, DistributionDrift, Measured, Opened, Verdict
from mlops_core.drift.microbatches import ROWS
from schemas import ids
from schemas.events import ColumnsChanged, DriftDetected, DriftKind, DriftMeasured, DriftResolved, Span
from schemas.stages import DriftSummary
from streams.routes import Emitted


@dataclass
class Watched:
    """One version's detector, and what its next events need to know."""

    detector: DistributionDrift
    spans: list[Span] = field(default_factory=list)
    """Where the rows since the last window lie."""
    detections: dict[str, str] = field(default_factory=dict)
    """Column (or pair) with an open episode -> id of the event that said so."""
    columns: ColumnWatch = field(default_factory=ColumnWatch)
    segment: str = ""
    """As `country=FR`; empty for all rows."""
    share: float = 1.0
    """Of the training rows."""
    segments: dict[str, "Watched"] = field(default_factory=dict)
    lately: list[str] = field(default_factory=list)
    """Columns whose episode was open at any time during the newest summary: no news for segments."""


def told(watched: Watched, one: Binned, silenced: Sequence[str] = ()) -> list[Emitted]:
    """What one summary leads to, in the detector's order; of columns that are `silenced` nothing new."""
    before, summary = watched.detector.open, one.summary
    verdicts = watched.detector.update(one.counts, one.times, one.groups, silenced)
    watched.lately = [*before, *(one.column for one in verdicts if isinstance(one, Opened))]
    watched.spans = _merged([*watched.spans, summary.span])
    follows: list[Emitted] = []
    for turn, own in enumerate(_turns(verdicts)):
        follows += _opened(watched, summary, own, turn)
        follows += _followed(watched, summary, own, turn)
    return follows + _columns_changed(watched, summary)


def _turns(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """Cut before what drifts again after it was back: what opens in a turn is told together, and first."""
    turns: list[list[Verdict]] = [[]]
    over: set[str | tuple[str, str]] = set()
    for one in verdicts:
        match one:
            case Opened(column=name) | PairOpened(columns=name) if name in over:
                turns.append([])
                over.clear()
            case Closed(column=name) | PairClosed(columns=name):
                over.add(name)
        turns[-1].append(one)
    return turns


def _opened(
    watched: Watched, summary: DriftSummary, verdicts: Sequence[Verdict], turn: int
) -> Iterator[Emitted]:
    opened = [one for one in verdicts if isinstance(one, Opened)]
    for kind in DriftKind:
        found = sorted((one for one in opened if one.kind is kind), key=_rank)
        if found:
            yield from _detected(watched, summary, found, turn)
    parted = [one for one in verdicts if isinstance(one, PairOpened)]
    if parted:
        yield from _parted(watched, summary, sorted(parted, key=lambda one: -one.severity), turn)


def _followed(
    watched: Watched, summary: DriftSummary, verdicts: Sequence[Verdict], turn: int
) -> Iterator[Emitted]:
    for place, verdict in enumerate(verdicts):
        match verdict:
            case Measured():
                yield _measured(watched, summary, verdict, turn, place)
            case Closed():
                yield _resolved(watched, summary, verdict, turn)
            case PairClosed():
                yield _rejoined(watched, summary, verdict, turn)
            case Opened() | PairOpened():
                pass


def _columns_changed(watched: Watched, summary: DriftSummary) -> list[Emitted]:
    rows, until = summary.batches * ROWS, max(last for _, last in summary.times)
    found = {name: Deviation(what) for name, what in summary.deviations.items()}
    told = watched.columns.update(found, rows)
    if told is None:
        return []
    named = {kind.value: [name for name, what in told.items() if what is kind] for kind in Deviation}
    return [
        ColumnsChanged(
            id=_id(watched, summary, 0, "columns"),
            at=until,
            model=summary.model,
            version=summary.version,
            severity="warning" if {*named["missing"], *named["retyped"]} else "info",
            sentence=columns.sentence(told),
            **named,
        )
    ]


def _rank(opened: Opened) -> tuple[float, float]:
    """What makes up most of the drift first; where the model was never asked what matters, the worst."""
    return -opened.drift.contribution, -opened.severity


def _measured(
    watched: Watched, summary: DriftSummary, window: Measured, turn: int, place: int
) -> DriftMeasured:
    spans, watched.spans = watched.spans, []
    return DriftMeasured(
        id=_id(watched, summary, turn, "window", str(window.until), str(place)),
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


def _detected(watched: Watched, summary: DriftSummary, opened: Sequence[Opened], turn: int) -> list[Emitted]:
    """The evidence as a partial window, and the detection that it causes; what matters most first."""
    worst = max(opened, key=lambda one: one.severity)
    since = min(one.changed_at for one in opened)
    names = [one.column for one in opened]
    evidence = DriftMeasured(
        id=_id(watched, summary, turn, "alarm", worst.kind, *names),
        at=worst.at,
        model=summary.model,
        version=summary.version,
        rows=summary.batches * ROWS,
        since=since,
        until=worst.at,
        spans=watched.spans,
        columns={one.column: one.drift for one in opened},
        segment=watched.segment,
        partial=True,
    )
    said = [one.sentence for one in opened[:3]]
    more = f", and {len(opened) - 3} more columns" if len(opened) > 3 else ""
    within = f"for {watched.segment}: " if watched.segment else ""
    detection = DriftDetected.following(
        evidence,
        version=summary.version,
        kind=worst.kind,
        columns=names,
        severity=worst.severity,
        changed_at=worst.changed_at,
        sentence=f"{within}{'; '.join(said)}{more}, {sentences.since(since)}",
        segment=watched.segment,
        share=watched.share,
    )
    watched.detections.update(dict.fromkeys(names, detection.id))
    return [evidence, detection]


def _parted(
    watched: Watched, summary: DriftSummary, opened: Sequence[PairOpened], turn: int
) -> list[Emitted]:
    """The same for pairs of features, worst first."""
    worst = opened[0]
    since = min(one.changed_at for one in opened)
    pairs = {PAIR.join(one.columns): one.drift for one in opened}
    evidence = DriftMeasured(
        id=_id(watched, summary, turn, "parted", *pairs),
        at=worst.at,
        model=summary.model,
        version=summary.version,
        rows=summary.batches * ROWS,
        since=since,
        until=worst.at,
        spans=watched.spans,
        columns={},
        pairs=pairs,
        partial=True,
    )
    detection = DriftDetected.following(
        evidence,
        version=summary.version,
        kind=DriftKind.FEATURE,
        columns=list(dict.fromkeys(name for one in opened for name in one.columns)),
        severity=worst.severity,
        changed_at=worst.changed_at,
        sentence=f"{dependence.explain(opened)}, {sentences.since(since)}",
    )
    watched.detections.update(dict.fromkeys(pairs, detection.id))
    return [evidence, detection]


def _rejoined(watched: Watched, summary: DriftSummary, closed: PairClosed, turn: int) -> Emitted:
    name = PAIR.join(closed.columns)
    return DriftResolved(
        id=_id(watched, summary, turn, "rejoined", name),
        at=closed.at,
        model=summary.model,
        caused_by=watched.detections.pop(name, None),
        version=summary.version,
        kind=DriftKind.FEATURE,
        columns=closed.columns,
    )


def _resolved(watched: Watched, summary: DriftSummary, closed: Closed, turn: int) -> Emitted:
    return DriftResolved(
        id=_id(watched, summary, turn, "closed", closed.column),
        at=closed.at,
        model=summary.model,
        caused_by=watched.detections.pop(closed.column, None),
        version=summary.version,
        kind=closed.kind,
        columns=[closed.column],
        segment=watched.segment,
    )


def _id(watched: Watched, summary: DriftSummary, turn: int, *what: str) -> str:
    """How far the detector has read, and the summary's turn, name the moment; it reads each row once."""
    within = [watched.segment] if watched.segment else []
    again = [turn] if turn else []
    return ids.derived(summary.model, summary.version, watched.detector.rows, *again, *within, *what)


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Spans that follow each other in a partition as one."""
    latest: dict[tuple[str, int], Span] = {}
    for span in spans:
        place = (span.topic, span.partition)
        known = latest.get(place, span)
        latest[place] = span.model_copy(
            update={"first": min(known.first, span.first), "last": max(known.last, span.last)}
        )
    return list(latest.values())

"""Stage two of drift: merges a version's micro-batches over partitions, and says when it drifted."""

import base64
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from agents.keeping import keep_newest
from agents.reading import decoded, staged
from mlops_core.data.profile import Profile
from mlops_core.drift import columns, dependence, sentences
from mlops_core.drift.adwins import adwin
from mlops_core.drift.calibration import Calibration, settled
from mlops_core.drift.columns import ColumnWatch, Deviation
from mlops_core.drift.dependence import PAIR, PairClosed, PairOpened
from mlops_core.drift.detector import DetectorFactory
from mlops_core.drift.distribution import Closed, DistributionDrift, Measured, Opened
from mlops_core.drift.microbatches import ROWS, Groups
from mlops_core.errors import Unknown
from mlops_core.ports import ModelReader
from schemas import ids
from schemas.events import (
    AlertRaised,
    ColumnsChanged,
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    Span,
)
from schemas.settings import DriftSettings
from schemas.stages import DriftSummary
from streams import bases, topics
from streams.agent import WithoutEffects
from streams.chunks import Chunk
from streams.consume import parked
from streams.routes import Emitted

Key = tuple[str, str]
"""Model and version."""
KEPT = 8
"""Versions of a model that are watched; older ones have no traffic any more."""


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


State = dict[Key, Watched]


class DriftAgent(WithoutEffects):
    """A detector a version, with the reference of that version's own training data."""

    name = "drift"
    steps = bases.MANY_STEPS
    topics = (topics.SUMMARIES,)

    def __init__(
        self, registry: ModelReader, settings: DriftSettings, detector: DetectorFactory = adwin
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._detector = detector

    def fresh(self) -> State:
        """No version is watched."""
        return {}

    def dump(self, state: State) -> bytes:
        """Detectors as base64 in JSON."""
        return orjson.dumps([{"key": key, **_dumped(one)} for key, one in state.items()])

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        state: State = {}
        for one in orjson.loads(data):
            model, version = one["key"]
            with contextlib.suppress(Unknown):  # deleted from the registry meanwhile
                profile = self._registry.profile(model, version)
                watched = state[model, version] = self._loaded(one, model, profile)
                for segment, own in one.get("segments", {}).items():
                    watched.segments[segment] = self._loaded(own, model, profile, segment)
        return state

    def handle(self, state: State, chunk: Chunk) -> list[Emitted]:
        """Windows, and episodes that opened or closed in them."""
        follows: list[Emitted] = []
        for record, summary in decoded(chunk, staged(DriftSummary), follows):
            key = (summary.model, summary.version)
            try:
                watched = state.pop(key, None) or self._new(summary, follows)
                told = self._within(watched, summary) if summary.segment else _told(watched, summary)
            except Unknown as error:
                follows.append(parked(chunk, record, "unknown model", str(error)))
                continue
            state[key] = watched  # newest last
            keep_newest(state, summary.model, KEPT)
            follows.extend(told)
        return follows

    def _new(self, summary: DriftSummary, follows: list[Emitted]) -> Watched:
        """A fresh detector; and an alert, if its budget of false alarms can't be kept."""
        profile = self._registry.profile(summary.model, summary.version)
        settings, calibration = self._settled(summary.model, profile)
        if calibration is not None and not calibration.kept:
            follows.append(_unkept(summary, calibration))
        return Watched(DistributionDrift(profile, settings, self._detector))

    def _within(self, whole: Watched, summary: DriftSummary) -> list[Emitted]:
        """What a segment's summary leads to: columns that drift everywhere are not told once more."""
        watched = whole.segments.get(summary.segment)
        if watched is None:
            profile = self._registry.profile(summary.model, summary.version)
            settings, _ = self._settled(summary.model, profile)
            own, share = _of_segment(profile, summary.segment)
            detector = DistributionDrift(own, settings, self._detector)
            watched = Watched(detector, segment=summary.segment, share=share)
            whole.segments[summary.segment] = watched
        return [
            event
            for event in _told(watched, summary, whole.detector.open)
            if not isinstance(event, DriftMeasured) or event.partial
        ]

    def _loaded(self, one: Mapping[str, Any], model: str, profile: Profile, segment: str = "") -> Watched:
        settings, _ = self._settled(model, profile)
        own, share = _of_segment(profile, segment)
        data = base64.b64decode(one["detector"])
        return Watched(
            DistributionDrift.load(data, own, settings, self._detector),
            [Span.model_validate(span) for span in one["spans"]],
            one["detections"],
            ColumnWatch.restored(one.get("columns", {})),
            segment,
            share,
        )

    def _settled(self, model: str, profile: Profile) -> tuple[DriftSettings, Calibration | None]:
        """The settings, with the delta that all streams of a version together may have."""
        settings, calibration = settled(self._settings, model, profile.watched)
        if calibration is None and profile.segments:
            delta = settings.delta / (1 + len(profile.segments))
            settings = settings.model_copy(update={"delta": delta})
        return settings, calibration


def _dumped(one: Watched) -> dict[str, Any]:
    """A stream as JSON, with its segments."""
    return {
        "detector": base64.b64encode(one.detector.dump()).decode(),
        "spans": [span.model_dump() for span in one.spans],
        "detections": one.detections,
        "columns": {"held": one.columns.held, "told": one.columns.told},
        "segments": {segment: _dumped(own) for segment, own in one.segments.items()},
    }


def _of_segment(profile: Profile, segment: str) -> tuple[Profile, float]:
    """The reference of a segment, and which share of the training rows it is.

    Raises:
        Unknown: the version's profile has no such segment.
    """
    if not segment:
        return profile, 1.0
    own = profile.of_segment(segment)
    if own is None:
        raise Unknown(
            f"no segment {segment!r} in the profile; it has {[one.name for one in profile.segments]}"
        )
    return own, own.rows / profile.rows


def _unkept(summary: DriftSummary, calibration: Calibration) -> AlertRaised:
    return AlertRaised(
        id=ids.derived(summary.model, summary.version, "budget"),
        at=max(last for _, last in summary.times),
        model=summary.model,
        severity="warning",
        sentence=f"version {summary.version}: {calibration.sentence}",
    )


def _told(watched: Watched, summary: DriftSummary, silenced: Sequence[str] = ()) -> list[Emitted]:
    """What one summary leads to, in the detector's order; of columns that are `silenced` nothing new."""
    follows: list[Emitted] = []
    watched.spans = _merged([*watched.spans, summary.span])
    verdicts = watched.detector.update(*summary.unpacked(), Groups(*summary.groups()), silenced)
    opened = [one for one in verdicts if isinstance(one, Opened)]
    for kind in DriftKind:
        found = sorted((one for one in opened if one.kind is kind), key=_rank)
        if found:
            follows.extend(_detected(watched, summary, found))
    parted = [one for one in verdicts if isinstance(one, PairOpened)]
    if parted:
        follows.extend(_parted(watched, summary, sorted(parted, key=lambda one: -one.severity)))
    for verdict in verdicts:
        match verdict:
            case Measured():
                follows.append(_measured(watched, summary, verdict))
            case Closed():
                follows.extend(_resolved(watched, summary, verdict))
            case PairClosed():
                follows.append(_rejoined(watched, summary, verdict))
            case Opened() | PairOpened():
                pass
    return follows + _columns_changed(watched, summary)


def _columns_changed(watched: Watched, summary: DriftSummary) -> list[Emitted]:
    rows, until = summary.batches * ROWS, max(last for _, last in summary.times)
    found = {name: Deviation(what) for name, what in summary.deviations.items()}
    told = watched.columns.update(found, rows)
    if told is None:
        return []
    named = {kind.value: [name for name, what in told.items() if what is kind] for kind in Deviation}
    return [
        ColumnsChanged(
            id=_id(watched, summary, "columns"),
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


def _measured(watched: Watched, summary: DriftSummary, window: Measured) -> DriftMeasured:
    spans, watched.spans = watched.spans, []
    return DriftMeasured(
        id=_id(watched, summary, "window", str(window.until)),
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


def _detected(watched: Watched, summary: DriftSummary, opened: Sequence[Opened]) -> list[Emitted]:
    """The evidence as a partial window, and the detection that it causes; what matters most first."""
    worst = max(opened, key=lambda one: one.severity)
    since = min(one.changed_at for one in opened)
    names = [one.column for one in opened]
    evidence = DriftMeasured(
        id=_id(watched, summary, "alarm", worst.kind, *names),
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


def _parted(watched: Watched, summary: DriftSummary, opened: Sequence[PairOpened]) -> list[Emitted]:
    """The same for pairs of features, worst first."""
    worst = opened[0]
    since = min(one.changed_at for one in opened)
    pairs = {PAIR.join(one.columns): one.drift for one in opened}
    evidence = DriftMeasured(
        id=_id(watched, summary, "parted", *pairs),
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


def _rejoined(watched: Watched, summary: DriftSummary, closed: PairClosed) -> Emitted:
    name = PAIR.join(closed.columns)
    return DriftResolved(
        id=_id(watched, summary, "rejoined", name),
        at=closed.at,
        model=summary.model,
        caused_by=watched.detections.pop(name, None),
        version=summary.version,
        kind=DriftKind.FEATURE,
        columns=closed.columns,
    )


def _resolved(watched: Watched, summary: DriftSummary, closed: Closed) -> list[Emitted]:
    cause = watched.detections.pop(closed.column, None)
    return [
        DriftResolved(
            id=_id(watched, summary, "closed", closed.column),
            at=closed.at,
            model=summary.model,
            caused_by=cause,
            version=summary.version,
            kind=closed.kind,
            columns=[closed.column],
            segment=watched.segment,
        )
    ]


def _id(watched: Watched, summary: DriftSummary, *what: str) -> str:
    """How far the detector has read names the moment; it reads each row once."""
    within = [watched.segment] if watched.segment else []
    return ids.derived(summary.model, summary.version, watched.detector.rows, *within, *what)


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

"""Stage two of drift: merges a version's micro-batches over partitions, and says when it drifted."""

import base64
import contextlib
from collections.abc import Mapping
from typing import Any

import orjson

from agents import silencing
from agents.keeping import keep_newest
from agents.reading import Binned, binned
from agents.telling import Watched, told
from mlops_core.data.profile import Profile
from mlops_core.drift.adwins import adwin
from mlops_core.drift.calibration import Calibration, settled
from mlops_core.drift.columns import ColumnWatch
from mlops_core.drift.detector import DetectorFactory
from mlops_core.drift.distribution import DistributionDrift
from mlops_core.errors import BadData, Unknown
from mlops_core.ports import ModelReader
from schemas import ids
from schemas.events import AlertRaised, DriftMeasured, Span
from schemas.settings import DriftSettings
from streams import bases, topics
from streams.agent import WithoutEffects
from streams.chunks import Chunk
from streams.consume import parked
from streams.routes import Emitted

Key = tuple[str, str]
"""Model and version."""
KEPT = 8
"""Versions of a model that are watched; older ones have no traffic any more."""


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
        """Back from `dump`; a version that was registered anew with other columns is watched anew."""
        state: State = {}
        for one in orjson.loads(data):
            model, version = one["key"]
            with contextlib.suppress(Unknown, BadData):  # deleted from the registry meanwhile, or another now
                profile = self._registry.profile(model, version)
                watched = state[model, version] = self._loaded(one, model, profile)
                for segment, own in one.get("segments", {}).items():
                    watched.segments[segment] = self._loaded(own, model, profile, segment)
        return state

    def handle(self, state: State, chunk: Chunk) -> list[Emitted]:
        """Windows, and episodes that opened or closed in them."""
        follows: list[Emitted] = []
        for record, one in binned(chunk, follows):
            key = (one.summary.model, one.summary.version)
            try:
                state[key] = watched = state.pop(key, None) or self._new(one, follows)  # newest last
                keep_newest(state, one.summary.model, KEPT)
                said = self._within(watched, one) if one.summary.segment else told(watched, one)
            except (Unknown, BadData) as error:
                follows.append(parked(chunk, record, _reason(error), str(error)))
            else:
                follows.extend(said)
        return follows

    def _new(self, one: Binned, follows: list[Emitted]) -> Watched:
        """A fresh detector; and an alert, if its budget of false alarms can't be kept."""
        profile = self._registry.profile(one.summary.model, one.summary.version)
        settings, calibration = self._settled(one.summary.model, profile)
        if calibration is not None and not calibration.kept:
            follows.append(_unkept(one, calibration))
        return Watched(DistributionDrift(profile, settings, self._detector))

    def _within(self, whole: Watched, one: Binned) -> list[Emitted]:
        """What a segment's summary leads to: columns that drift everywhere are not told once more."""
        summary = one.summary
        watched = whole.segments.get(summary.segment)
        if watched is None:
            profile = self._registry.profile(summary.model, summary.version)
            settings, _ = self._settled(summary.model, profile)
            own, share = _of_segment(profile, summary.segment, f"{summary.model}:{summary.version}")
            detector = DistributionDrift(own, settings, self._detector, within=True)
            watched = Watched(detector, segment=summary.segment, share=share)
            whole.segments[summary.segment] = watched
        quiet = silencing.silenced(whole.tellings, watched.detector.names, whole.detector.open, summary)
        return [
            event
            for event in told(watched, one, quiet)
            if not isinstance(event, DriftMeasured) or event.partial
        ]

    def _loaded(self, one: Mapping[str, Any], model: str, profile: Profile, segment: str = "") -> Watched:
        settings, _ = self._settled(model, profile)
        own, share = _of_segment(profile, segment, model)
        data = base64.b64decode(one["detector"])
        detector = DistributionDrift.load(data, own, settings, self._detector, within=bool(segment))
        return Watched(
            detector,
            [Span.model_validate(span) for span in one["spans"]],
            one["detections"],
            ColumnWatch.restored(one.get("columns", {})),
            segment,
            share,
            tellings=silencing.loaded(one.get("tellings", [])),
            origin=one.get("origin", ""),
            changes=one.get("changes", 0),
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
        "tellings": silencing.dumped(one.tellings),
        "origin": one.origin,
        "changes": one.changes,
        "segments": {segment: _dumped(own) for segment, own in one.segments.items()},
    }


class UnknownSegment(Unknown):
    """A segment that the version's profile doesn't have."""


def _reason(error: Unknown | BadData) -> str:
    match error:
        case UnknownSegment():
            return "unknown segment"
        case Unknown():
            return "unknown model"
        case BadData():  # binned by another profile than ours, of a version registered anew
            return "another profile"


def _of_segment(profile: Profile, segment: str, who: str) -> tuple[Profile, float]:
    """The reference of a segment, and which share of the training rows it is.

    Raises:
        UnknownSegment: the profile, which is `who`'s, has no such segment.
    """
    if not segment:
        return profile, 1.0
    own = profile.of_segment(segment)
    if own is None:
        known = ", ".join(one.name for one in profile.segments) or "none, it was trained without"
        raise UnknownSegment(f"{who} has no segment {segment!r}; possible: {known}")
    return own, own.rows / profile.rows


def _unkept(one: Binned, calibration: Calibration) -> AlertRaised:
    summary = one.summary
    return AlertRaised(
        id=ids.derived(summary.model, summary.version, "budget", calibration.sentence),
        at=int(one.times[0, 1]),
        model=summary.model,
        severity="warning",
        sentence=f"version {summary.version}: {calibration.sentence}",
    )

"""What watches a version's streams, the whole and its segments: made for its profile, kept, found again."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift import retired, suppression
from driftloop.mlops_core.drift.calibration import Calibration, settings_for_model
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Counts
from driftloop.mlops_core.drift.retired import RetiredStream
from driftloop.mlops_core.drift.schema_changes import ColumnWatch
from driftloop.mlops_core.drift.version_tracker import VersionTracker
from driftloop.mlops_core.errors import InvalidData, NotFound
from driftloop.mlops_core.ports import ModelReader
from driftloop.schemas.events import Span
from driftloop.schemas.settings import DriftSettings

Key = tuple[str, str]
"""Model and version."""


@dataclass
class State:
    """What one partition remembers."""

    watched: dict[Key, VersionTracker] = field(default_factory=dict)
    """Newest last."""
    left: list[RetiredStream] = field(default_factory=list)
    """Streams whose end is told with the next summary of their model."""


class UnknownSegment(NotFound):
    """A segment that the version's profile doesn't have."""


class TrackerFactory:
    """Makes what watches a version, with the delta that all its streams together may have."""

    def __init__(self, registry: ModelReader, settings: DriftSettings, detector: DetectorFactory) -> None:
        self._registry = registry
        self._settings = settings
        self._detector = detector

    def tracker(self, model: str, version: str) -> tuple[VersionTracker, Calibration | None]:
        """Fresh; and how its budget of false alarms became a delta, if it has one. Raises NotFound."""
        profile = self._registry.profile(model, version)
        settings, calibration = self._settings_for(model, profile)
        return VersionTracker(DistributionDrift(profile, settings, self._detector)), calibration

    def segment_tracker(self, model: str, version: str, segment: str) -> VersionTracker:
        """Fresh, for one segment. Raises UnknownSegment, or NotFound."""
        profile = self._registry.profile(model, version)
        settings, _ = self._settings_for(model, profile)
        own, share = _of_segment(profile, segment, f"{model}:{version}")
        detector = DistributionDrift(own, settings, self._detector, within=True)
        return VersionTracker(detector, segment=segment, share=share)

    def is_replaced(self, model: str, version: str, watched: VersionTracker, counts: Counts) -> bool:
        """Whether `counts` don't fit because the version has other columns now than are watched.

        Raises NotFound.
        """
        if watched.detector.fits(counts):
            return False
        return self._registry.profile(model, version).names != watched.detector.names

    def dump(self, state: State) -> bytes:
        """Detectors as base64 in JSON."""
        watched = [{"key": key, **_dump_tracker(one)} for key, one in state.watched.items()]
        return orjson.dumps({"watched": watched, "left": [one.model_dump() for one in state.left]})

    def load(self, data: bytes) -> State:
        """Back from `dumped`; a version that was registered anew with other columns is watched anew."""
        fields = orjson.loads(data)
        if isinstance(fields, list):  # from before it was told how streams ended
            fields = {"watched": fields, "left": []}
        state = State(left=[RetiredStream.model_validate(one) for one in fields["left"]])
        for one in fields["watched"]:
            model, version = one["key"]
            try:
                profile = self._registry.profile(model, version)
                watched = self._load_tracker(one, (model, version), profile)
            except NotFound:
                state.left += _retired_of(one, (model, version), "is no longer registered")
            except InvalidData:
                state.left += _retired_of(one, (model, version), REPLACED)
            else:
                state.watched[model, version] = watched
                state.left += self._load_segments(watched, one.get("segments", {}), (model, version), profile)
        return state

    def _load_segments(
        self, whole: VersionTracker, segments: Mapping[str, Any], key: Key, profile: Profile
    ) -> list[RetiredStream]:
        """Load them into the whole; returns those that the profile doesn't have any more."""
        left: list[RetiredStream] = []
        for segment, one in segments.items():
            try:
                whole.segments[segment] = self._load_tracker(one, key, profile, segment)
            except UnknownSegment:
                left += _retired_of(one, key, f"has no segment {segment} any more", segment)
        return left

    def _load_tracker(
        self, one: Mapping[str, Any], key: Key, profile: Profile, segment: str = ""
    ) -> VersionTracker:
        settings, _ = self._settings_for(key[0], profile)
        own, share = _of_segment(profile, segment, ":".join(key))
        data = base64.b64decode(one["detector"])
        return VersionTracker(
            DistributionDrift.load(data, own, settings, self._detector, within=bool(segment)),
            [Span.model_validate(span) for span in one["spans"]],
            retired.load_detections(one["detections"]),
            ColumnWatch.restore(one.get("columns", {})),
            segment,
            share,
            tellings=suppression.load(one.get("tellings", [])),
            origin=one.get("origin", ""),
            changes=one.get("changes", 0),
        )

    def _settings_for(self, model: str, profile: Profile) -> tuple[DriftSettings, Calibration | None]:
        settings, calibration = settings_for_model(
            self._settings, model, profile.watched_series, self._detector
        )
        if calibration is None and profile.segments:
            delta = settings.delta / (1 + len(profile.segments))
            settings = settings.model_copy(update={"delta": delta})
        return settings, calibration


REPLACED = "was registered anew, with other columns"
"""Why its former stream is watched no more."""


def _dump_tracker(one: VersionTracker) -> dict[str, Any]:
    """A stream as JSON, with its segments."""
    return {
        "detector": base64.b64encode(one.detector.dump()).decode(),
        "spans": [span.model_dump() for span in one.spans],
        "detections": {name: told.model_dump() for name, told in one.detections.items()},
        "columns": {"held": one.columns.held, "told": one.columns.told},
        "tellings": suppression.dump(one.tellings),
        "origin": one.origin,
        "changes": one.changes,
        "segments": {segment: _dump_tracker(own) for segment, own in one.segments.items()},
    }


def _retired_of(one: Mapping[str, Any], key: Key, why: str, segment: str = "") -> list[RetiredStream]:
    """A stream that can't be loaded, and its segments, if it had episodes."""
    model, version = key
    streams = {segment: one, **one.get("segments", {})}
    told = {name: retired.load_detections(own["detections"]) for name, own in streams.items()}
    return [
        RetiredStream(model=model, version=version, segment=name, detections=detections, why=why)
        for name, detections in told.items()
        if detections
    ]


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

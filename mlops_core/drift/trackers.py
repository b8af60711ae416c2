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
from driftloop.mlops_core.drift.retired import Left
from driftloop.mlops_core.drift.schema_changes import ColumnWatch
from driftloop.mlops_core.drift.version_tracker import Watched
from driftloop.mlops_core.errors import InvalidData, NotFound
from driftloop.mlops_core.ports import ModelReader
from driftloop.schemas.events import Span
from driftloop.schemas.settings import DriftSettings

Key = tuple[str, str]
"""Model and version."""


@dataclass
class State:
    """What one partition remembers."""

    watched: dict[Key, Watched] = field(default_factory=dict)
    """Newest last."""
    left: list[Left] = field(default_factory=list)
    """Streams whose end is told with the next summary of their model."""


class UnknownSegment(NotFound):
    """A segment that the version's profile doesn't have."""


class Watching:
    """Makes what watches a version, with the delta that all its streams together may have."""

    def __init__(self, registry: ModelReader, settings: DriftSettings, detector: DetectorFactory) -> None:
        self._registry = registry
        self._settings = settings
        self._detector = detector

    def of(self, model: str, version: str) -> tuple[Watched, Calibration | None]:
        """Fresh; and how its budget of false alarms became a delta, if it has one. Raises NotFound."""
        profile = self._registry.profile(model, version)
        settings, calibration = self._settled(model, profile)
        return Watched(DistributionDrift(profile, settings, self._detector)), calibration

    def segment(self, model: str, version: str, segment: str) -> Watched:
        """Fresh, for one segment. Raises UnknownSegment, or NotFound."""
        profile = self._registry.profile(model, version)
        settings, _ = self._settled(model, profile)
        own, share = _of_segment(profile, segment, f"{model}:{version}")
        detector = DistributionDrift(own, settings, self._detector, within=True)
        return Watched(detector, segment=segment, share=share)

    def replaced(self, model: str, version: str, watched: Watched, counts: Counts) -> bool:
        """Whether `counts` don't fit because the version has other columns now than are watched.

        Raises NotFound.
        """
        if watched.detector.fits(counts):
            return False
        return self._registry.profile(model, version).names != watched.detector.names

    def dumped(self, state: State) -> bytes:
        """Detectors as base64 in JSON."""
        watched = [{"key": key, **_dumped(one)} for key, one in state.watched.items()]
        return orjson.dumps({"watched": watched, "left": [one.model_dump() for one in state.left]})

    def loaded(self, data: bytes) -> State:
        """Back from `dumped`; a version that was registered anew with other columns is watched anew."""
        fields = orjson.loads(data)
        if isinstance(fields, list):  # from before it was told how streams ended
            fields = {"watched": fields, "left": []}
        state = State(left=[Left.model_validate(one) for one in fields["left"]])
        for one in fields["watched"]:
            model, version = one["key"]
            try:
                profile = self._registry.profile(model, version)
                watched = self._loaded(one, (model, version), profile)
            except NotFound:
                state.left += _left(one, (model, version), "is no longer registered")
            except InvalidData:
                state.left += _left(one, (model, version), REPLACED)
            else:
                state.watched[model, version] = watched
                state.left += self._segments(watched, one.get("segments", {}), (model, version), profile)
        return state

    def _segments(
        self, whole: Watched, segments: Mapping[str, Any], key: Key, profile: Profile
    ) -> list[Left]:
        """Load them into the whole; returns those that the profile doesn't have any more."""
        left: list[Left] = []
        for segment, one in segments.items():
            try:
                whole.segments[segment] = self._loaded(one, key, profile, segment)
            except UnknownSegment:
                left += _left(one, key, f"has no segment {segment} any more", segment)
        return left

    def _loaded(self, one: Mapping[str, Any], key: Key, profile: Profile, segment: str = "") -> Watched:
        settings, _ = self._settled(key[0], profile)
        own, share = _of_segment(profile, segment, ":".join(key))
        data = base64.b64decode(one["detector"])
        return Watched(
            DistributionDrift.load(data, own, settings, self._detector, within=bool(segment)),
            [Span.model_validate(span) for span in one["spans"]],
            retired.restored(one["detections"]),
            ColumnWatch.restore(one.get("columns", {})),
            segment,
            share,
            tellings=suppression.loaded(one.get("tellings", [])),
            origin=one.get("origin", ""),
            changes=one.get("changes", 0),
        )

    def _settled(self, model: str, profile: Profile) -> tuple[DriftSettings, Calibration | None]:
        settings, calibration = settings_for_model(
            self._settings, model, profile.watched_series, self._detector
        )
        if calibration is None and profile.segments:
            delta = settings.delta / (1 + len(profile.segments))
            settings = settings.model_copy(update={"delta": delta})
        return settings, calibration


REPLACED = "was registered anew, with other columns"
"""Why its former stream is watched no more."""


def _dumped(one: Watched) -> dict[str, Any]:
    """A stream as JSON, with its segments."""
    return {
        "detector": base64.b64encode(one.detector.dump()).decode(),
        "spans": [span.model_dump() for span in one.spans],
        "detections": {name: told.model_dump() for name, told in one.detections.items()},
        "columns": {"held": one.columns.held, "told": one.columns.told},
        "tellings": suppression.dumped(one.tellings),
        "origin": one.origin,
        "changes": one.changes,
        "segments": {segment: _dumped(own) for segment, own in one.segments.items()},
    }


def _left(one: Mapping[str, Any], key: Key, why: str, segment: str = "") -> list[Left]:
    """A stream that can't be loaded, and its segments, if it had episodes."""
    model, version = key
    streams = {segment: one, **one.get("segments", {})}
    told = {name: retired.restored(own["detections"]) for name, own in streams.items()}
    return [
        Left(model=model, version=version, segment=name, detections=detections, why=why)
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

"""What watches a version's streams, the whole and its segments: made for its profile, kept, found again."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.data.profile_lookup import Found, Key
from driftloop.mlops_core.drift import retired, suppression
from driftloop.mlops_core.drift.calibration import Calibration, settings_for_model
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import UnpackedSummary
from driftloop.mlops_core.drift.retired import RetiredStream
from driftloop.mlops_core.drift.schema_changes import ColumnWatch
from driftloop.mlops_core.drift.version_tracker import VersionTracker, on_summary
from driftloop.mlops_core.errors import NotFound
from driftloop.mlops_core.eviction import evict_oldest
from driftloop.schemas import ids
from driftloop.schemas.events import AlertRaised, DriftMeasured, Span
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import DriftSettings

KEPT = 8
"""Versions of a model that are watched; older ones have no traffic any more."""


@dataclass
class State:
    """What one partition remembers."""

    watched: dict[Key, VersionTracker] = field(default_factory=dict)
    """Newest last."""
    left: list[RetiredStream] = field(default_factory=list)
    """Streams whose end is told with the next summary of their model."""


class UnknownSegment(NotFound):
    """A segment that the version's profile doesn't have."""


class Trackers:
    """Makes and updates trackers. All streams of a version share one delta (bound of false alarms)."""

    def __init__(self, settings: DriftSettings, detector: DetectorFactory) -> None:
        self._settings = settings
        self._detector = detector

    def tracker(self, model: str, profile: Profile) -> tuple[VersionTracker, Calibration | None]:
        """A fresh tracker, and how its budget of false alarms became a delta, if it has one."""
        settings, calibration = self._settings_for(model, profile)
        return VersionTracker(DistributionDrift(profile, settings, self._detector)), calibration

    def segment_tracker(self, whole: VersionTracker, key: Key, segment: str) -> VersionTracker:
        """A fresh tracker of one segment of a version. Raises UnknownSegment."""
        profile = whole.detector.profile
        settings, _ = self._settings_for(key[0], profile)
        own, share = _of_segment(profile, segment, ":".join(key))
        detector = DistributionDrift(own, settings, self._detector, within=True)
        return VersionTracker(detector, segment=segment, share=share)

    def on_summary(self, state: State, one: UnpackedSummary, found: Found, follows: list[Output]) -> None:
        """Add windows, and episodes that opened or closed in them, to `follows`.

        Args:
            state: is changed.
            one: the summary.
            found: profiles of versions that are new.
            follows: what else follows stays, also where this raises.

        Raises:
            NotFound: no profile is known for it, or (UnknownSegment) its profile has no such segment.
            InvalidData: its counts are of another profile.
        """
        watched = self._tracker(state, one, found, follows)
        follows += self._on_segment(watched, one) if one.summary.segment else on_summary(watched, one)

    def _tracker(
        self, state: State, one: UnpackedSummary, found: Found, follows: list[Output]
    ) -> VersionTracker:
        """The version's, now the newest of its model, with the end of those that are watched no more."""
        model, _ = key = one.summary.model, one.summary.version
        watched = state.watched.pop(key, None) or self._new_tracker(one, found.get(key), follows)
        state.watched[key] = watched
        for (_, gone), former in evict_oldest(state.watched, model, KEPT):
            state.left += former.retire(model, gone, "answers no more")
        follows.extend(retired.resolve_retired(state.left, model, int(one.times[0, 0])))
        return watched

    def _new_tracker(
        self, one: UnpackedSummary, profile: Profile | NotFound | None, follows: list[Output]
    ) -> VersionTracker:
        """A fresh detector; and an alert, if its budget of false alarms can't be kept."""
        if not isinstance(profile, Profile):
            raise profile or NotFound(f"{one.summary.model}:{one.summary.version} is not registered")
        watched, calibration = self.tracker(one.summary.model, profile)
        if calibration is not None and not calibration.kept:
            follows.append(_budget_alert(one, calibration))
        return watched

    def _on_segment(self, whole: VersionTracker, one: UnpackedSummary) -> list[Output]:
        """What a segment's summary leads to: columns that drift everywhere are not told once more."""
        summary = one.summary
        watched = whole.segments.get(summary.segment)
        if watched is None:
            watched = self.segment_tracker(whole, (summary.model, summary.version), summary.segment)
            whole.segments[summary.segment] = watched
        quiet = suppression.suppression_mask(
            whole.tellings, watched.detector.names, whole.detector.open, summary
        )
        return [
            event
            for event in on_summary(watched, one, quiet if quiet.any() else None)
            if not isinstance(event, DriftMeasured) or event.partial
        ]

    def dump(self, state: State) -> bytes:
        """Profiles, and detectors as base64, in JSON."""
        watched = [
            {
                "key": key,
                "profile": orjson.Fragment(one.detector.profile.model_dump_json()),
                **_dump_tracker(one),
            }
            for key, one in state.watched.items()
        ]
        return orjson.dumps({"watched": watched, "left": [one.model_dump() for one in state.left]})

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        fields = orjson.loads(data)
        state = State(left=[RetiredStream.model_validate(one) for one in fields["left"]])
        for one in fields["watched"]:
            model, version = one["key"]
            profile = Profile.model_validate(one["profile"])
            watched = self._load_tracker(one, (model, version), profile)
            watched.segments = {
                segment: self._load_tracker(own, (model, version), profile, segment)
                for segment, own in one["segments"].items()
            }
            state.watched[model, version] = watched
        return state

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
            ColumnWatch.restore(one["columns"]),
            segment,
            share,
            tellings=suppression.load(one["tellings"]),
            origin=one["origin"],
            changes=one["changes"],
        )

    def _settings_for(self, model: str, profile: Profile) -> tuple[DriftSettings, Calibration | None]:
        settings, calibration = settings_for_model(
            self._settings, model, profile.watched_series, self._detector
        )
        if calibration is None and profile.segments:
            delta = settings.delta / (1 + len(profile.segments))
            settings = settings.model_copy(update={"delta": delta})
        return settings, calibration


def forget_replaced(state: State, found: Found) -> None:
    """Give up trackers whose version the registry no longer has, or has with another profile."""
    for key, answer in found.items():
        watched = state.watched.pop(key, None)
        if watched is None:
            continue
        if not isinstance(answer, Profile):
            why = "is no longer registered"
        elif answer.names != watched.detector.names:
            why = "was registered anew, with other columns"
        else:
            why = "was registered anew"
        state.left += watched.retire(*key, why)


def _dump_tracker(one: VersionTracker) -> dict[str, Any]:
    """A stream as JSON, with its segments."""
    return {
        "detector": base64.b64encode(one.detector.dump()).decode(),
        "spans": [span.model_dump() for span in one.spans],
        "detections": {name: told.model_dump() for name, told in one.detections.items()},
        "columns": {"held": one.columns.held, "reported": one.columns.reported},
        "tellings": suppression.dump(one.tellings),
        "origin": one.origin,
        "changes": one.changes,
        "segments": {segment: _dump_tracker(own) for segment, own in one.segments.items()},
    }


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


def _budget_alert(one: UnpackedSummary, calibration: Calibration) -> AlertRaised:
    summary = one.summary
    return AlertRaised(
        id=ids.derive(summary.model, summary.version, "budget", calibration.sentence),
        at=int(one.times[0, 1]),
        model=summary.model,
        severity="warning",
        sentence=f"version {summary.version}: {calibration.sentence}",
    )

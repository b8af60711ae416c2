"""Stage two of drift: merges a version's micro-batches over partitions, and says when it drifted."""

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.data.profile_lookup import Found, Known, ProfileLookup, enters_state
from driftloop.mlops_core.drift import retired, suppression
from driftloop.mlops_core.drift.adwin_bank import adwin
from driftloop.mlops_core.drift.calibration import Calibration
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.drift.microbatches import UnpackedSummary
from driftloop.mlops_core.drift.trackers import State, TrackerFactory, UnknownSegment, forget_replaced
from driftloop.mlops_core.drift.version_tracker import VersionTracker, on_summary
from driftloop.mlops_core.errors import InvalidData, NotFound
from driftloop.mlops_core.eviction import evict_oldest
from driftloop.mlops_core.ports import ModelReader
from driftloop.schemas import ids, topics
from driftloop.schemas.events import AlertRaised, DriftMeasured
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import DriftSettings
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Resolved, WithoutEffects
from driftloop.streams.processing.decoding import decode_summaries
from driftloop.streams.records import Chunk, dead_letter

KEPT = 8
"""Versions of a model that are watched; older ones have no traffic any more."""


class DriftAgent(WithoutEffects):
    """A detector a version, with the reference of that version's own training data."""

    name = "drift"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.SUMMARIES,)

    def __init__(
        self, registry: ModelReader, settings: DriftSettings, detector: DetectorFactory = adwin
    ) -> None:
        self._lookup = ProfileLookup(registry)
        self._trackers = TrackerFactory(settings, detector)

    def initial_state(self) -> State:
        """No version is watched."""
        return State()

    def dump(self, state: State) -> bytes:
        """Profiles and detectors, and streams whose end was not published yet."""
        return self._trackers.dump(state)

    def load(self, data: bytes) -> State:
        """Back from `dump`."""
        return self._trackers.load(data)

    def questions(self, state: State, chunk: Chunk) -> Known | None:
        """Versions that are not watched, or are watched with other columns than a summary has."""
        summaries = [one for _, one in decode_summaries(chunk, [])]
        models = {one.summary.model for one in summaries}
        known = {key: one.detector.profile for key, one in state.watched.items() if key[0] in models}
        for one in summaries:
            key = one.summary.model, one.summary.version
            if key in known and not one.summary.segment and not state.watched[key].detector.fits(one.counts):
                self._lookup.ask_again(key)
        return self._lookup.questions(
            {*known, *((s.summary.model, s.summary.version) for s in summaries)}, known
        )

    def resolve(self, questions: Known, /) -> Resolved:
        """Their profiles, or that the registry doesn't know them."""
        found = self._lookup.answers(questions)
        return Resolved(found, enters_state(questions, found))

    def handle(self, state: State, chunk: Chunk) -> list[Output]:
        """Windows, and episodes that opened or closed in them."""
        follows: list[Output] = []
        found: Found = chunk.resolved if isinstance(chunk.resolved, dict) else {}
        forget_replaced(state, found)
        for record, one in decode_summaries(chunk, follows):
            try:
                watched = self._tracker(state, one, found, follows)
                said = self._on_segment(watched, one) if one.summary.segment else on_summary(watched, one)
            except (NotFound, InvalidData) as error:
                follows.append(dead_letter(chunk, record, _reason(error), str(error)))
            else:
                follows.extend(said)
        return follows

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
        watched, calibration = self._trackers.tracker(one.summary.model, profile)
        if calibration is not None and not calibration.kept:
            follows.append(_budget_alert(one, calibration))
        return watched

    def _on_segment(self, whole: VersionTracker, one: UnpackedSummary) -> list[Output]:
        """What a segment's summary leads to: columns that drift everywhere are not told once more."""
        summary = one.summary
        watched = whole.segments.get(summary.segment)
        if watched is None:
            watched = self._trackers.segment_tracker(whole, (summary.model, summary.version), summary.segment)
            whole.segments[summary.segment] = watched
        quiet = suppression.suppression_mask(
            whole.tellings, watched.detector.names, whole.detector.open, summary
        )
        return [
            event
            for event in on_summary(watched, one, quiet if quiet.any() else None)
            if not isinstance(event, DriftMeasured) or event.partial
        ]


def _reason(error: NotFound | InvalidData) -> str:
    match error:
        case UnknownSegment():
            return "unknown segment"
        case NotFound():
            return "unknown model"
        case InvalidData():  # binned by another profile than ours, of a version registered anew
            return "another profile"


def _budget_alert(one: UnpackedSummary, calibration: Calibration) -> AlertRaised:
    summary = one.summary
    return AlertRaised(
        id=ids.derive(summary.model, summary.version, "budget", calibration.sentence),
        at=int(one.times[0, 1]),
        model=summary.model,
        severity="warning",
        sentence=f"version {summary.version}: {calibration.sentence}",
    )

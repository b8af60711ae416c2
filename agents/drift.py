"""Stage two of drift: merges a version's micro-batches over partitions, and says when it drifted."""

from driftloop.mlops_core.data.profile_lookup import Found, Known, ProfileLookup, enters_state
from driftloop.mlops_core.drift.adwin_bank import adwin
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.drift.trackers import State, Trackers, UnknownSegment, forget_replaced
from driftloop.mlops_core.errors import InvalidData, NotFound
from driftloop.mlops_core.ports import ModelReader
from driftloop.schemas import topics
from driftloop.schemas.messages import Output
from driftloop.schemas.settings import DriftSettings
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Resolved, WithoutEffects
from driftloop.streams.processing.decoding import decode_summaries
from driftloop.streams.records import Chunk, dead_letter


class DriftAgent(WithoutEffects):
    """A detector a version, with the reference of that version's own training data."""

    name = "drift"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.SUMMARIES,)

    def __init__(
        self, registry: ModelReader, settings: DriftSettings, detector: DetectorFactory = adwin
    ) -> None:
        self._lookup = ProfileLookup(registry)
        self._trackers = Trackers(settings, detector)

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
                self._trackers.on_summary(state, one, found, follows)
            except (NotFound, InvalidData) as error:
                follows.append(dead_letter(chunk, record, _reason(error), str(error)))
        return follows


def _reason(error: NotFound | InvalidData) -> str:
    match error:
        case UnknownSegment():
            return "unknown segment"
        case NotFound():
            return "unknown model"
        case InvalidData():  # binned by another profile than ours, of a version registered anew
            return "another profile"

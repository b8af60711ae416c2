"""Joins labels to predictions: examples for the offline store, outcomes for the performance agent."""

from collections.abc import Iterable, Mapping

from driftloop.mlops_core.data.examples import Examples, joined_messages
from driftloop.mlops_core.data.label_join import LabelJoin, Orphan
from driftloop.mlops_core.data.rows import RowKind, Rows
from driftloop.mlops_core.eviction import UnregisteredModels, evicted_models
from driftloop.mlops_core.ports import ModelReader
from driftloop.schemas import topics
from driftloop.schemas.events import Span
from driftloop.schemas.messages import Output
from driftloop.schemas.records import Label
from driftloop.schemas.settings import PerformanceSettings
from driftloop.streams import metrics
from driftloop.streams.processing import checkpoints
from driftloop.streams.processing.agent import Resolved, WithoutEffects
from driftloop.streams.processing.decoding import decode_runs
from driftloop.streams.records import Chunk, dead_letter
from driftloop.streams.wire import codec

HOUR_MS = 3_600_000
ORPHAN = "label without prediction"
Met = tuple[str, Examples]
"""A model and joined rows of it."""


class JoiningAgent(WithoutEffects):
    """One join for each partition: a prediction and its label have the same id, so the same partition."""

    name = "joining"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.PREDICTIONS, topics.FEATURES, topics.LABELS)

    def __init__(self, registry: ModelReader, settings: PerformanceSettings) -> None:
        """`registry` lists the registered models when clients send too many model names."""
        self._unregistered = UnregisteredModels(registry)
        self._horizon = int(settings.horizon_hours * HOUR_MS)
        self._capacity = settings.waiting_rows

    def initial_state(self) -> LabelJoin:
        """A join without rows."""
        return LabelJoin(self._horizon, self._capacity)

    def dump(self, state: LabelJoin) -> bytes:
        """The waiting rows as JSON."""
        return state.dump()

    def load(self, data: bytes) -> LabelJoin:
        """The join from the bytes of `dump`."""
        return LabelJoin.load(data, self._horizon, self._capacity)

    def questions(self, state: LabelJoin, chunk: Chunk) -> bool | None:
        """True where there are so many model names that unregistered ones must be evicted, else None."""
        models = {*state.models, *(run.rows.model for run in decode_runs(chunk, []))}
        return self._unregistered.are_too_many(models) or None

    def resolve(self, _: bool, /) -> Resolved:
        """The registered models."""
        return Resolved(self._unregistered.registered(), enters_state=True)

    def handle(self, state: LabelJoin, chunk: Chunk) -> list[Output]:
        """Joined rows, and a dead letter for each label without a prediction."""
        follows: list[Output] = []
        met: list[Met] = []
        before = dict[str, Mapping[str, int]]()
        for run in decode_runs(chunk, follows):
            model = run.rows.model
            if model not in before:
                before[model] = state.counts(model)
            met.append((model, _arrive(state, run.rows)))
        expired = state.expire()
        met.extend(expired.featureless.items())
        orphans = [*expired.orphans]
        _measure(state, before, met)
        registered = chunk.resolved
        for model in evicted_models(state.models, registered) if isinstance(registered, frozenset) else ():
            evicted = state.forget(model)
            metrics.count_evicted_model(self.name, model)
            met.extend(evicted.featureless.items())
            orphans.extend(evicted.orphans)
        span = _span(chunk)
        for model, rows in met:
            follows.extend(joined_messages(model, span, rows))
        return follows + [_orphan_letter(chunk, orphan) for orphan in orphans]


def _measure(join: LabelJoin, before: Mapping[str, Mapping[str, int]], met: Iterable[Met]) -> None:
    """Export the chunk's joined, expired and orphaned rows, and the delays of its labels."""
    for model, then in before.items():
        now = join.counts(model)
        metrics.count_label_join(model, {what: now[what] - then[what] for what in now})
    for model, rows in met:
        metrics.observe_label_delays(model, (rows.labelled_at - rows.at) / 1000)


def _arrive(join: LabelJoin, rows: Rows) -> Examples:
    at, values = rows.at.tolist(), rows.values.tolist()
    match rows.kind:
        case RowKind.PREDICTIONS:
            return join.predictions(rows.model, rows.version, rows.ids, at, values, rows.features)
        case RowKind.FEATURES:
            return join.features(rows.model, rows.ids, at, rows.features)
        case RowKind.LABELS:
            return join.labels(rows.model, rows.ids, at, values)


def _orphan_letter(chunk: Chunk, orphan: Orphan) -> Output:
    """The dead letter of a label; its own record was read earlier, so the letter holds the label itself."""
    detail = (
        f"no prediction of {orphan.model} with id {orphan.id!r} arrived for label {orphan.label:g} (at "
        f"{orphan.at}) within performance.horizon_hours, or before the model was evicted"
    )
    value = codec.encode(Label(model=orphan.model, id=orphan.id, at=orphan.at, label=orphan.label))
    record = chunk.records[-1]
    letter = dead_letter(chunk, record, ORPHAN, detail)
    return letter.about(value, orphan.model, orphan.id)


def _span(chunk: Chunk) -> Span:
    first, last = chunk.records[0].offset, chunk.last
    return Span(topic=chunk.topic, partition=chunk.partition, first=first, last=last)

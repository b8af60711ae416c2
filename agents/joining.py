"""Predictions meet their labels: examples for the offline store, outcomes for the performance agent."""

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
"""A model and rows of it that met their labels."""


class JoiningAgent(WithoutEffects):
    """One join a partition: a prediction and its label have the same id, so they share one."""

    name = "joining"
    checkpoint_interval = checkpoints.MAX_LOG_ENTRIES
    topics = (topics.PREDICTIONS, topics.FEATURES, topics.LABELS)

    def __init__(self, registry: ModelReader, settings: PerformanceSettings) -> None:
        """`registry` says which models there are, should clients make up too many."""
        self._strangers = UnregisteredModels(registry)
        self._horizon = int(settings.horizon_hours * HOUR_MS)
        self._capacity = settings.waiting_rows

    def initial_state(self) -> LabelJoin:
        """Nobody waits."""
        return LabelJoin(self._horizon, self._capacity)

    def dump(self, state: LabelJoin) -> bytes:
        """Everybody who waits, as JSON."""
        return state.dump()

    def load(self, data: bytes) -> LabelJoin:
        """Back from `dump`."""
        return LabelJoin.load(data, self._horizon, self._capacity)

    def questions(self, state: LabelJoin, chunk: Chunk) -> bool | None:
        """Whether clients name so many models that some may not be registered."""
        models = {*state.models, *(run.rows.model for run in decode_runs(chunk, []))}
        return self._strangers.are_too_many(models) or None

    def resolve(self, _: bool, /) -> Resolved:
        """The registered models."""
        return Resolved(self._strangers.registered(), enters_state=True)

    def handle(self, state: LabelJoin, chunk: Chunk) -> list[Output]:
        """Rows that met their labels, and a dead letter for each label without a prediction."""
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
            given_up = state.forget(model)
            metrics.count_evicted_model(self.name, model)
            met.extend(given_up.featureless.items())
            orphans.extend(given_up.orphans)
        span = _span(chunk)
        for model, rows in met:
            follows.extend(joined_messages(model, span, rows))
        return follows + [_orphan_letter(chunk, orphan) for orphan in orphans]


def _measure(join: LabelJoin, before: Mapping[str, Mapping[str, int]], met: Iterable[Met]) -> None:
    """Export what the chunk changed: whom it concerned, and how late their labels were."""
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
    """The label's own record is long gone, so the letter names the label and the chunk that outlived it."""
    detail = f"label {orphan.label:g} of {orphan.model} for id {orphan.id!r} (at {orphan.at}) waited in vain"
    value = codec.encode(Label(model=orphan.model, id=orphan.id, at=orphan.at, label=orphan.label))
    record = chunk.records[-1]
    letter = dead_letter(chunk, record, ORPHAN, detail)
    return letter.about(value, orphan.model, orphan.id)


def _span(chunk: Chunk) -> Span:
    first, last = chunk.records[0].offset, chunk.last
    return Span(topic=chunk.topic, partition=chunk.partition, first=first, last=last)

"""From a chunk of the data plane to runs of columns.

Messages that are certainly valid become arrays without a model in between (see `columns`); all others go
through the models of `schemas.records`, which say what is valid and word the refusal. Single events of one
model, version and set of features become one run, and a bad one costs its neighbours nothing but time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from driftloop.mlops_core.data.features import Column, Floats
from driftloop.mlops_core.data.rows import RowKind, Rows
from driftloop.streams.records import ConsumerRecord
from driftloop.streams.wire import bad_rows, blocks, codec, columns
from driftloop.streams.wire.single_events import KINDS, Fields, Group, GroupKey, Groups, via_model

BATCHES: Mapping[str, RowKind] = {kind.value: kind for kind in RowKind}
SHORT = 200_000
"""Bytes of a message up to which looking for a bool in the text is cheaper than in each column: 10 ns a value
against 17, where some are 0 or 1."""
Event = tuple[int, Fields]
"""A single event with its place in the chunk."""
_VALUES = {RowKind.PREDICTIONS: "scores", RowKind.LABELS: "labels"}


@dataclass(frozen=True)
class RowRun:
    """Rows, and the places in the chunk of the records that they came in: one a row, or one batch."""

    rows: Rows
    places: Sequence[int]


@dataclass(frozen=True)
class InvalidRecord:
    """A record (or one row of a batch) that is not valid, and why."""

    place: int
    reason: str
    detail: str
    row: int | None = None
    value: bytes | None = None
    """The row as a single event."""


@dataclass
class DecodedChunk:
    """What a chunk holds. Rows with the same id are in the order in which they came."""

    runs: list[RowRun] = field(default_factory=list)
    invalid: list[InvalidRecord] = field(default_factory=list)


def decode_records(records: Sequence[ConsumerRecord]) -> DecodedChunk:
    """Everything in a chunk's records. Raises nothing: what can't be read is among the refused."""
    found, groups, group = DecodedChunk(), Groups(), None
    for place, record in enumerate(records):
        try:
            fields = codec.parse(record.value)
            kind = fields.get("type")
            if type(kind) is not str or kind not in KINDS:
                _batch(place, record.value, fields, found)
            elif group is None or not group.add(place, fields):
                group = groups.add(place, fields)
        except codec.Unreadable as error:
            found.invalid.append(InvalidRecord(place, error.reason, error.detail))
    for group in groups:
        found.runs += _runs(group, records, found.invalid)
    found.invalid.sort(key=lambda one: (one.place, one.row or 0))
    found.runs = _ordered(found.runs)
    return found


def fast_path(fields: Mapping[str, Any], bools: bool = True) -> Rows | None:
    """The rows of a parsed batch that is valid beyond doubt, else None; without `bools` it has none."""
    kind, ids, version = BATCHES[fields["type"]], fields.get("ids"), ""
    if kind is RowKind.PREDICTIONS:
        version = fields.get("version", "")
        if not columns.is_name(version):
            return None
    if type(ids) is not list or not (columns.are_names(ids) and _is_plain(fields, len(ids))):
        return None
    at = columns.time_column(_listed(fields, "at", len(ids)), bools)
    values = _values(fields, kind, len(ids), bools)
    features = {} if kind is RowKind.LABELS else _features(fields, kind, len(ids), bools)
    if at is None or values is None or features is None:
        return None
    return Rows(kind, fields["model"], version, ids, at, values, features)


def from_model(batch: bad_rows.AnyBatch) -> Rows:
    """The rows of a batch that went through its model."""
    kind, rows = RowKind(batch.type), len(batch)
    values = np.array(getattr(batch, _VALUES[kind]), dtype=np.float64) if kind in _VALUES else _nan(rows)
    features: Mapping[str, Any] = getattr(batch, "features", {})
    return Rows(
        kind,
        batch.model,
        getattr(batch, "version", ""),
        list(batch.ids),
        np.array(batch.at, dtype=np.int64),
        values,
        {name: columns.validated_feature(values) for name, values in features.items()},
    )


def _batch(place: int, value: bytes | None, fields: Fields, found: DecodedChunk) -> None:
    """A batch without its bad rows; or something that is neither that nor a single event."""
    kind = fields.get("type")
    bools = value is None or _may_have_bools(value)
    rows = fast_path(fields, bools) if type(kind) is str and kind in BATCHES else None
    if rows is None:
        record, bad = bad_rows.split_bad_rows(blocks.with_lists(fields))
        found.invalid += [InvalidRecord(place, "invalid", one.detail, one.row, one.value) for one in bad]
        rows = from_model(record)
    if len(rows):
        found.runs.append(RowRun(rows, [place]))


def _may_have_bools(value: bytes) -> bool:
    """Of a block only what little isn't in it."""
    return value.startswith(blocks.MAGIC) or len(value) > SHORT or b"true" in value or b"false" in value


def _runs(group: Group, records: Sequence[ConsumerRecord], refused: list[InvalidRecord]) -> list[RowRun]:
    """The group's events; if one of them is bad, those that are not."""
    if not group.places:
        return []
    rows = fast_path(group.batch())
    if rows is not None:
        return [RowRun(rows, group.places)]
    good = Group(group.shape)
    events = [(place, codec.parse(records[place].value)) for place in group.places]
    for place, fields in _good(group.shape, events, refused):
        good.add(place, fields)
    rows = fast_path(good.batch())
    return [RowRun(rows, good.places)] if rows else []


def _good(shape: GroupKey, events: Sequence[Event], refused: list[InvalidRecord]) -> Iterator[Event]:
    """The valid events of a group; those that only their model accepts as it reads them."""
    group = Group(shape)
    if all(group.add(place, fields) for place, fields in events) and fast_path(group.batch()) is not None:
        yield from events
    elif len(events) > 1:
        half = len(events) // 2
        yield from _good(shape, events[:half], refused)
        yield from _good(shape, events[half:], refused)
    else:
        [(place, fields)] = events
        try:
            yield place, via_model(fields)
        except codec.Unreadable as error:
            refused.append(InvalidRecord(place, error.reason, error.detail))


def _is_plain(fields: Mapping[str, Any], rows: int) -> bool:
    """Whether schema version, model and entities are beyond doubt."""
    entities = fields.get("entities")
    if entities is not None and not (
        columns.is_list(entities, rows) and columns.are_optional_texts(entities)
    ):
        return False
    return codec.is_current_version(fields) and columns.is_name(fields.get("model"))


def _listed(fields: Mapping[str, Any], name: str, rows: int) -> Sequence[Any]:
    """A column, or one that is wrong for certain if it is no list of that length."""
    values: Any = fields.get(name)
    return values if columns.is_list(values, rows) else (None,)


def _values(fields: Mapping[str, Any], kind: RowKind, rows: int, bools: bool) -> Floats | None:
    """Scores or labels."""
    if kind not in _VALUES:
        return _nan(rows)
    return columns.finite_column(_listed(fields, _VALUES[kind], rows), bools)


def _features(
    fields: Mapping[str, Any], kind: RowKind, rows: int, bools: bool
) -> Mapping[str, Column] | None:
    given = fields.get("features", {} if kind is RowKind.PREDICTIONS else None)
    if type(given) is not dict:
        return None
    found: dict[str, Column] = {}
    for name, values in given.items():
        column = columns.feature_column(values, bools) if columns.is_list(values, rows) else None
        if column is None:
            return None
        found[name] = column
    return found


def _nan(rows: int) -> Floats:
    return np.full(rows, np.nan)


def _ordered(runs: Sequence[RowRun]) -> list[RowRun]:
    """By place; where an id comes twice in runs that overlap, these are cut until they don't."""
    runs = sorted(runs, key=lambda run: run.places[0])
    if all(run.places[-1] < after.places[0] for run, after in pairwise(runs)):
        return runs
    ids = [one for run in runs for one in run.rows.ids]
    return runs if len(set(ids)) == len(ids) else _cut(runs)


def _cut(runs: Sequence[RowRun]) -> list[RowRun]:
    """Pieces of runs whose records follow each other in the chunk."""
    places = ((place, which, row) for which, run in enumerate(runs) for row, place in enumerate(run.places))
    pieces = []
    for which, together in groupby(sorted(places), key=itemgetter(1)):
        run, rows = runs[which], [row for _, _, row in together]
        part = slice(rows[0], rows[-1] + 1)
        whole = len(rows) == len(run.places)
        pieces.append(run if whole else RowRun(run.rows[part], run.places[part]))
    return pieces

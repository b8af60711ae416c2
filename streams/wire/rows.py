"""Decodes the records of a chunk into columns.

Messages that are valid for certain become arrays without a pydantic model (`fast_path`). All others are
validated by the models of `schemas.records`, which define what is valid. Single events of
one model, version and set of features become one run; an invalid event only makes its run slower.
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
"""Bytes of a message up to which it is cheaper to search the text for bools (10 ns a value) than each column
(17 ns, where some values are 0 or 1)."""
Event = tuple[int, Fields]
"""A single event and its record's index in the chunk."""
_VALUES = {RowKind.PREDICTIONS: "scores", RowKind.LABELS: "labels"}


@dataclass(frozen=True)
class RowRun:
    """Rows, and the indexes of their records in the chunk: one for each row, or one batch."""

    rows: Rows
    places: Sequence[int]


@dataclass(frozen=True)
class InvalidRecord:
    """A record, or one row of a batch, that is not valid, and why."""

    place: int
    reason: str
    detail: str
    row: int | None = None
    value: bytes | None = None
    """The row as a single event."""


@dataclass
class DecodedChunk:
    """The rows and invalid records of a chunk. Rows of one id are in their order."""

    runs: list[RowRun] = field(default_factory=list)
    invalid: list[InvalidRecord] = field(default_factory=list)


def decode_records(records: Sequence[ConsumerRecord]) -> DecodedChunk:
    """The rows of all records. Raises nothing: what can't be read is in `invalid`."""
    found, groups, group = DecodedChunk(), Groups(), None
    for place, record in enumerate(records):
        try:
            fields = codec.parse(record.value)
            kind = fields.get("type")
            if type(kind) is not str or kind not in KINDS:
                _decode_batch(place, record.value, fields, found)
            elif group is None or not group.add(place, fields):
                group = groups.add(place, fields)
        except codec.Unreadable as error:
            found.invalid.append(InvalidRecord(place, error.reason, error.detail))
    for group in groups:
        found.runs += _runs_of_group(group, records, found.invalid)
    found.invalid.sort(key=lambda record: (record.place, record.row or 0))
    found.runs = _sort_runs(found.runs)
    return found


def fast_path(fields: Mapping[str, Any], bools: bool = True) -> Rows | None:
    """The rows of a parsed batch that is valid for certain, else None. `bools`: it may hold truth values."""
    kind, ids, version = BATCHES[fields["type"]], fields.get("ids"), ""
    if kind is RowKind.PREDICTIONS:
        version = fields.get("version", "")
        if not columns.is_name(version):
            return None
    if type(ids) is not list or not (columns.are_names(ids) and _has_valid_header(fields, len(ids))):
        return None
    at = columns.time_column(_column_or_invalid(fields, "at", len(ids)), bools)
    values = _values(fields, kind, len(ids), bools)
    features = {} if kind is RowKind.LABELS else _features(fields, kind, len(ids), bools)
    if at is None or values is None or features is None:
        return None
    return Rows(kind, fields["model"], version, ids, at, values, features)


def from_model(batch: bad_rows.AnyBatch) -> Rows:
    """The rows of a validated batch."""
    kind, rows = RowKind(batch.type), len(batch)
    values = (
        np.array(getattr(batch, _VALUES[kind]), dtype=np.float64) if kind in _VALUES else _all_missing(rows)
    )
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


def _decode_batch(place: int, value: bytes | None, fields: Fields, found: DecodedChunk) -> None:
    """Decode a batch, and note its bad rows. Raises Unreadable if the message is no batch."""
    kind = fields.get("type")
    bools = value is None or _may_contain_bools(value)
    rows = fast_path(fields, bools) if type(kind) is str and kind in BATCHES else None
    if rows is None:
        record, bad = bad_rows.split_bad_rows(blocks.with_lists(fields))
        found.invalid += [InvalidRecord(place, "invalid", row.detail, row.row, row.value) for row in bad]
        rows = from_model(record)
    if len(rows):
        found.runs.append(RowRun(rows, [place]))


def _may_contain_bools(value: bytes) -> bool:
    """Whether the text may contain a truth value; a block and a large message are not searched."""
    return value.startswith(blocks.MAGIC) or len(value) > SHORT or b"true" in value or b"false" in value


def _runs_of_group(
    group: Group, records: Sequence[ConsumerRecord], refused: list[InvalidRecord]
) -> list[RowRun]:
    """The group's valid events as a run; none if there are none."""
    if not group.places:
        return []
    rows = fast_path(group.batch())
    if rows is not None:
        return [RowRun(rows, group.places)]
    good = Group(group.shape)
    events = [(place, codec.parse(records[place].value)) for place in group.places]
    for place, fields in _valid_events(group.shape, events, refused):
        good.add(place, fields)
    rows = fast_path(good.batch())
    return [RowRun(rows, good.places)] if rows else []


def _valid_events(shape: GroupKey, events: Sequence[Event], refused: list[InvalidRecord]) -> Iterator[Event]:
    """The valid events of a group, by bisection; those that only their model accepts, as it reads them."""
    group = Group(shape)
    if all(group.add(place, fields) for place, fields in events) and fast_path(group.batch()) is not None:
        yield from events
    elif len(events) > 1:
        half = len(events) // 2
        yield from _valid_events(shape, events[:half], refused)
        yield from _valid_events(shape, events[half:], refused)
    else:
        [(place, fields)] = events
        try:
            yield place, via_model(fields)
        except codec.Unreadable as error:
            refused.append(InvalidRecord(place, error.reason, error.detail))


def _has_valid_header(fields: Mapping[str, Any], rows: int) -> bool:
    """Whether schema version, model and entities are valid for certain."""
    entities = fields.get("entities")
    if entities is not None and not (
        columns.is_list(entities, rows) and columns.are_optional_texts(entities)
    ):
        return False
    return codec.is_current_version(fields) and columns.is_name(fields.get("model"))


def _column_or_invalid(fields: Mapping[str, Any], name: str, rows: int) -> Sequence[Any]:
    """A column, or an invalid one if it is no list of that length."""
    values: Any = fields.get(name)
    return values if columns.is_list(values, rows) else (None,)


def _values(fields: Mapping[str, Any], kind: RowKind, rows: int, bools: bool) -> Floats | None:
    """Scores or labels."""
    if kind not in _VALUES:
        return _all_missing(rows)
    return columns.finite_column(_column_or_invalid(fields, _VALUES[kind], rows), bools)


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


def _all_missing(rows: int) -> Floats:
    return np.full(rows, np.nan)


def _sort_runs(runs: Sequence[RowRun]) -> list[RowRun]:
    """The runs by place; if they overlap and an id occurs twice, they are cut until they don't overlap."""
    runs = sorted(runs, key=lambda run: run.places[0])
    if all(run.places[-1] < after.places[0] for run, after in pairwise(runs)):
        return runs
    ids = [id_ for run in runs for id_ in run.rows.ids]
    return runs if len(set(ids)) == len(ids) else _cut_at_overlaps(runs)


def _cut_at_overlaps(runs: Sequence[RowRun]) -> list[RowRun]:
    """Pieces of the runs, each of consecutive records of the chunk."""
    places = ((place, which, row) for which, run in enumerate(runs) for row, place in enumerate(run.places))
    pieces = []
    for which, together in groupby(sorted(places), key=itemgetter(1)):
        run, rows = runs[which], [row for _, _, row in together]
        part = slice(rows[0], rows[-1] + 1)
        whole = len(rows) == len(run.places)
        pieces.append(run if whole else RowRun(run.rows[part], run.places[part]))
    return pieces

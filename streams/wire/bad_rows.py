"""Splits the bad rows off a batch, by the errors of the batch's own model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from driftloop.schemas.records import FeatureBatch, LabelBatch, PredictionBatch
from driftloop.streams.wire import codec

AnyBatch = PredictionBatch | FeatureBatch | LabelBatch
_MODELS: Mapping[str, type[AnyBatch]] = {
    "predictions": PredictionBatch,
    "feature_rows": FeatureBatch,
    "labels": LabelBatch,
}
_SINGLE: Mapping[object, str] = {"predictions": "prediction", "feature_rows": "features", "labels": "label"}
_FIELDS = {"ids": "id", "at": "at", "entities": "entity", "scores": "score", "labels": "label"}
"""A batch's columns, and their names in a single event."""


@dataclass(frozen=True)
class BadRow:
    """One row of a batch that is not valid."""

    row: int
    detail: str
    value: bytes
    """The row as a single event."""


def split_bad_rows(fields: dict[str, Any]) -> tuple[AnyBatch, Sequence[BadRow]]:
    """A parsed batch without its bad rows, and the bad rows.

    Raises:
        Unreadable: something is wrong with the batch as a whole: no such type, columns of different
            lengths, no model, or a single event.
    """
    try:
        return _batch(fields), ()
    except codec.Unreadable as error:
        faults: dict[int, codec.Fault] = {}
        for fault in error.faults:
            row = _row_of_fault(fault)
            if row is None:
                raise
            faults.setdefault(row, fault)
        if not faults:
            raise
        fields = {
            name: value for name, value in fields.items() if name in _MODELS[fields["type"]].model_fields
        }
        columns = _columns(fields)
        if len({len(column) for column in columns}) != 1:
            raise
        kept = [row for row in range(len(columns[0])) if row not in faults]
        batch = _batch(_take_rows(fields, kept))
    bad = [
        BadRow(row, codec.format_fault(fault), _single_event(fields, row))
        for row, fault in sorted(faults.items())
    ]
    return batch, bad


def _batch(fields: dict[str, Any]) -> AnyBatch:
    record = codec.validate_record(fields)
    if not isinstance(record, PredictionBatch | FeatureBatch | LabelBatch):
        raise codec.Unreadable("invalid", f"type: a batch was expected, not a {record.type}")
    return record


def _row_of_fault(fault: codec.Fault) -> int | None:
    """The row of a fault: (type, column, row, ...) or (type, "features", name, row, ...)."""
    where, _ = fault
    at = 3 if where[1:2] == ("features",) else 2 if where[1:2] and where[1] in _FIELDS else len(where)
    row = where[at] if at < len(where) else None
    return row if isinstance(row, int) else None


def _columns(fields: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """All columns that are lists; the others have faults of their own."""
    own = [fields[name] for name in _FIELDS if name in fields]
    return [column for column in (*own, *fields.get("features", {}).values()) if type(column) is list]


def _take_rows(fields: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    def chosen(column: Any) -> Any:
        return [column[row] for row in rows] if type(column) is list else column

    features = {name: chosen(column) for name, column in fields.get("features", {}).items()}
    own = {name: chosen(fields[name]) for name in _FIELDS if name in fields}
    return {**fields, **own, **({"features": features} if "features" in fields else {})}


def _single_event(fields: Mapping[str, Any], row: int) -> bytes:
    """One row as a single event, which can be corrected and sent again."""
    shared = {name: fields[name] for name in ("schema_version", "model", "version") if name in fields}
    own = {single: fields[name][row] for name, single in _FIELDS.items() if type(fields.get(name)) is list}
    event = {"type": _SINGLE[fields["type"]], **shared, **own}
    if "features" in fields:
        event["features"] = {name: column[row] for name, column in fields["features"].items()}
    return orjson.dumps(event)

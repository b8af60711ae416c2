"""What clients may send and get: plain `/predict` with rows, and Open Inference V2 with columns.

Both become the same `Rows`, which is also what the router cuts into parts and sends on (as V2). Whatever
can't be used is refused with the place of it: `rows[3].features.distance: ...`.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import orjson

from driftloop.infra.serving.asgi import Refused
from driftloop.schemas.records import Value

ROWS_HEADER = "x-driftloop-rows"
"""Of a replica's answer: how many rows it scored."""
MAX_ROWS = 100_000
LONGEST_NAME = 200
LAST_MILLI = 1 << 53
RESERVED = ("id", "entity", "at")
"""Input tensors (or parameters) of V2 that are no features."""

Where = Callable[[int], str]
"""Row number to the place in the request, for a sentence."""
_PLAIN = {bool, int, float, str, type(None)}
_NUMBERS = {bool, int, float, type(None)}
_KINDS: Mapping[str, set[type]] = {
    "BYTES": _PLAIN,  # a category may be a number; it counts as its text
    "BOOL": {bool, type(None)},
    **dict.fromkeys(("FP16", "FP32", "FP64"), _NUMBERS),
    **{f"{sign}INT{bits}": _NUMBERS for sign in ("", "U") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True)
class Rows:
    """A request's rows as columns of equal length."""

    model: str
    ids: Sequence[str]
    entities: Sequence[str | None]
    at: Sequence[int]
    """When each prediction was asked for (UTC, ms)."""
    features: Mapping[str, Sequence[Value]]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> list[str]:
        """What decides who answers a row: its entity, else its id."""
        return [entity or one for one, entity in zip(self.ids, self.entities, strict=True)]

    def select(self, rows: Sequence[int]) -> "Rows":
        """These rows, in this order."""
        return Rows(
            self.model,
            [self.ids[row] for row in rows],
            [self.entities[row] for row in rows],
            [self.at[row] for row in rows],
            {name: [column[row] for row in rows] for name, column in self.features.items()},
        )


@dataclass(frozen=True)
class Scored:
    """Answers to rows, in their order; the rows may have been answered by several versions."""

    model: str
    ids: Sequence[str]
    versions: Sequence[str]
    scores: Sequence[float]


def read_predict(body: bytes, now: int) -> Rows:
    """Rows of `{"model", "rows": [{"id", "entity", "at", "features": {...}}]}`.

    A missing `id` is generated, a missing `at` is `now` (UTC, ms). Raises Refused with the place.
    """
    asked = _object(body)
    model = _name(asked.get("model"), "model")
    rows = asked.get("rows")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_ROWS:
        raise Refused(422, f"rows: a list of 1 to {MAX_ROWS} rows was expected, not {_shorten(rows)}")
    for row, one in enumerate(rows):
        if not (isinstance(one, dict) and isinstance(one.get("features"), dict)):
            raise Refused(422, f"rows[{row}]: an object with `features` was expected, not {_shorten(one)}")
    given = [one["features"] for one in rows]
    features = {name: [one.get(name) for one in given] for name in dict.fromkeys(chain.from_iterable(given))}
    for name, column in features.items():
        _plain(column, _PLAIN, partial(_feature_at, name))
    return Rows(
        model,
        _ids([one.get("id") for one in rows], lambda row: f"rows[{row}].id"),
        _entities([one.get("entity") for one in rows], lambda row: f"rows[{row}].entity"),
        _times([one.get("at") for one in rows], now, lambda row: f"rows[{row}].at"),
        features,
    )


def read_infer(model: str, body: bytes, now: int) -> tuple[Rows, str | None]:
    """Rows of an Open Inference V2 request, and the request's own id.

    One input tensor a feature, of shape [n] or [n, 1]; `id`, `entity` and `at` may come as tensors, or as
    parameters for all rows (`id` only where there is one row). Raises Refused with the place.
    """
    asked = _object(body)
    inputs = asked.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise Refused(422, f"inputs: a list of tensors was expected, not {_shorten(inputs)}")
    columns = dict(_tensor(one, place) for place, one in enumerate(inputs))
    rows = len(next(iter(columns.values())))
    if not 0 < rows <= MAX_ROWS:
        raise Refused(422, f"inputs[0]: 1 to {MAX_ROWS} rows were expected, not {rows}")
    for name, column in columns.items():
        if len(column) != rows:
            raise Refused(422, f"inputs.{name}: {len(column)} values, but the first input has {rows}")
    parameters = asked.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Refused(422, f"parameters: an object was expected, not {_shorten(parameters)}")
    ids, entities, at = (_reserved_column(name, columns, parameters, rows) for name in RESERVED)
    read = Rows(
        model,
        _ids(ids, lambda row: f"inputs.id[{row}]"),
        _entities(entities, lambda row: f"inputs.entity[{row}]"),
        _times(at, now, lambda row: f"inputs.at[{row}]"),
        columns,
    )
    request = asked.get("id")
    return read, request if isinstance(request, str) else None


def write_infer(rows: Rows) -> bytes:
    """The V2 request with these rows."""
    columns: Iterable[tuple[str, Sequence[Any]]] = (
        ("id", rows.ids),
        ("entity", rows.entities),
        ("at", rows.at),
        *rows.features.items(),
    )
    size = len(rows)
    inputs = [
        {"name": name, "datatype": _datatype(column), "shape": [size], "data": column}
        for name, column in columns
    ]
    return orjson.dumps({"inputs": inputs})


def predict_answer(scored: Scored) -> dict[str, object]:
    """`{"model", "predictions": [{"id", "version", "score"}]}`."""
    predictions = [
        {"id": one, "version": version, "score": score}
        for one, version, score in zip(scored.ids, scored.versions, scored.scores, strict=True)
    ]
    return {"model": scored.model, "predictions": predictions}


def infer_answer(scored: Scored, request: str | None) -> dict[str, object]:
    """The V2 answer; `model_version` only where one version answered all rows, each row's in `version`."""
    shape = [len(scored.ids)]
    outputs = [
        {"name": "score", "datatype": "FP64", "shape": shape, "data": scored.scores},
        {"name": "id", "datatype": "BYTES", "shape": shape, "data": scored.ids},
        {"name": "version", "datatype": "BYTES", "shape": shape, "data": scored.versions},
    ]
    first = scored.versions[0]
    alone = {"model_version": first} if all(version == first for version in scored.versions) else {}
    named = {"id": request} if request is not None else {}
    return {"model_name": scored.model, **alone, **named, "outputs": outputs}


def read_scores(body: bytes) -> list[float]:
    """The scores of a V2 answer of one of our replicas."""
    scores: list[float] = orjson.loads(body)["outputs"][0]["data"]
    return scores


def _object(body: bytes) -> dict[str, Any]:
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise Refused(422, f"a JSON object was expected, not {_shorten(asked)}")
    return asked


def _tensor(tensor: object, place: int) -> tuple[str, list[Any]]:
    where = f"inputs[{place}]"
    if not isinstance(tensor, dict):
        raise Refused(422, f"{where}: a tensor was expected, not {_shorten(tensor)}")
    name = _name(tensor.get("name"), f"{where}.name")
    data, kind, shape = tensor.get("data"), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(data, list):
        raise Refused(422, f"{where} {name!r}: `data` must be a list (no binary data), not {_shorten(data)}")
    if data and isinstance(data[0], list):
        if any(not isinstance(one, list) or len(one) != 1 for one in data):
            raise Refused(422, f"{where} {name!r}: one value a row was expected (shape [n] or [n, 1])")
        data = [one[0] for one in data]
    if shape not in ([len(data)], [len(data), 1]):
        raise Refused(422, f"{where} {name!r}: shape [{len(data)}] was expected, not {_shorten(shape)}")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise Refused(422, f"{where} {name!r}: datatype {kind!r} is none of {', '.join(_KINDS)}")
    _plain(data, _KINDS[kind], lambda row: f"{where} {name!r}, row {row} ({kind})")
    return name, data


def _reserved_column(
    name: str, columns: dict[str, list[Any]], parameters: dict[str, Any], rows: int
) -> list[Any]:
    if name in columns:
        return columns.pop(name)
    shared = parameters.get(name) if name != "id" or rows == 1 else None
    return [shared] * rows


def _datatype(column: Sequence[Any]) -> str:
    kinds = set(map(type, column))
    if str in kinds:
        return "BYTES"
    return "BOOL" if kinds <= {bool, type(None)} and bool in kinds else "FP64"


def _plain(column: Sequence[Any], allowed: set[type], where: Where) -> None:
    if not allowed.issuperset(map(type, column)):
        row = next(row for row, value in enumerate(column) if type(value) not in allowed)
        wanted = " or ".join(sorted(kind.__name__.replace("NoneType", "null") for kind in allowed))
        raise Refused(422, f"{where(row)}: {wanted} was expected, not {_shorten(column[row])}")


def _feature_at(name: str, row: int) -> str:
    return f"rows[{row}].features.{name}"


def _ids(column: Sequence[Any], where: Where) -> list[str]:
    for row, one in enumerate(column):
        if not (one is None or (type(one) is str and 0 < len(one) <= LONGEST_NAME)):
            _name(one, where(row))
    return [str(uuid.uuid4()) if one is None else one for one in column]


def _entities(column: Sequence[Any], where: Where) -> Sequence[str | None]:
    _plain(column, {str, type(None)}, where)
    return column


def _times(column: Sequence[Any], now: int, where: Where) -> list[int]:
    for row, at in enumerate(column):
        if at is not None and not (type(at) is int and 0 <= at < LAST_MILLI):
            raise Refused(
                422, f"{where(row)}: milliseconds since 1970 (UTC) were expected, not {_shorten(at)}"
            )
    return [now if at is None else at for at in column]


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        wanted = f"text of 1 to {LONGEST_NAME} characters was expected"
        raise Refused(422, f"{where}: {wanted}, not {_shorten(value)}")
    return value


def _shorten(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Features of rows that wait: small while they do, and columns again when they met.

A row's numbers are 8 bytes each in one `bytes`, a fifth of the memory of Python's floats; rows that met,
from wherever they waited, become a matrix by one `join`. Rows with the same features share one shape.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.examples import column
from driftloop.mlops_core.data.features import Column, numbers_as_text

Shape = tuple[tuple[str, bool], ...]
"""Feature names in their order, and whether each is text."""
Traits = tuple[Shape, bytes, tuple[str | None, ...]]
"""A row's features: shape, numbers (float64 each) and texts."""

MAX_SHAPES = 1000
"""Shapes remembered as one object; more of them cost a little memory each, nothing else."""


class Shapes:
    """Cuts columns into rows; equal shapes are one object, so that they are told apart by identity."""

    def __init__(self) -> None:
        self._known: dict[Shape, Shape] = {}

    def traits(self, features: Mapping[str, Column], rows: int) -> Iterable[Traits | None]:
        """Each row's features, from columns of shape (rows,); None where there are no columns."""
        if not features:
            return repeat(None, rows)
        if len(self._known) > MAX_SHAPES:
            self._known.clear()
        columns = {name: column(values) for name, values in features.items()}
        shape = tuple((name, values.dtype == object) for name, values in columns.items())
        return _cut(self._known.setdefault(shape, shape), list(columns.values()), rows)


def columns_of(traits: Sequence[Traits | None]) -> Mapping[str, NDArray[Any]]:
    """Rows of any shapes as columns; a feature that a row doesn't have is missing there."""
    shapes: dict[int, list[tuple[int, Traits]]] = {}
    for place, row in enumerate(traits):
        if row is not None:
            shapes.setdefault(id(row[0]), []).append((place, row))
    parts = [
        ([place for place, _ in rows], _columns_of_shape([row for _, row in rows]))
        for rows in shapes.values()
    ]
    if len(parts) == 1 and len(parts[0][0]) == len(traits):
        return parts[0][1]
    names = dict.fromkeys(chain.from_iterable(part for _, part in parts))
    return {
        name: _merge_columns([(p, c[name]) for p, c in parts if name in c], len(traits)) for name in names
    }


def pack_features(traits: Sequence[Traits | None]) -> Mapping[str, object]:
    """Rows' features as columns: which shape, its numbers (base64), its texts."""
    kept = [row for row in traits if row is not None]
    shapes = {id(row[0]): row[0] for row in kept}
    number = {one: place for place, one in enumerate(shapes)}
    return {
        "shapes": list(shapes.values()),
        "shape": [-1 if row is None else number[id(row[0])] for row in traits],
        "numbers": b64encode(b"".join([row[1] for row in kept])).decode(),
        "texts": [row[2] for row in kept if row[2]],
    }


def unpack_features(fields: Mapping[str, Any]) -> Iterable[Traits | None]:
    """Back from `folded`."""
    shapes: list[Shape] = [tuple((name, text) for name, text in shape) for shape in fields["shapes"]]
    widths = [8 * sum(not text for _, text in shape) for shape in shapes]
    wordy = [any(text for _, text in shape) for shape in shapes]
    data, texts, start = b64decode(fields["numbers"]), iter(fields["texts"]), 0
    for which in fields["shape"]:
        if which < 0:
            yield None
            continue
        row = data[start : start + widths[which]]
        start += widths[which]
        yield shapes[which], row, tuple(next(texts)) if wordy[which] else ()


def _cut(shape: Shape, columns: Sequence[NDArray[Any]], rows: int) -> Iterable[Traits]:
    """Columns of shape (rows,) as one `Traits` a row."""
    floats = [values for values in columns if values.dtype != object]
    words = [values.tolist() for values in columns if values.dtype == object]
    data, width = np.column_stack(floats).tobytes() if floats else b"", 8 * len(floats)
    packed = [data[place * width : (place + 1) * width] for place in range(rows)]
    texts: Iterable[tuple[str | None, ...]] = zip(*words, strict=True) if words else repeat((), rows)
    return zip(repeat(shape, rows), packed, texts, strict=True)


def _columns_of_shape(rows: Sequence[Traits]) -> dict[str, NDArray[Any]]:
    """Rows of one shape as columns again."""
    shape, width = rows[0][0], len(rows[0][1]) // 8
    flat = np.frombuffer(b"".join([row[1] for row in rows]), dtype=np.float64)
    floats = iter(np.ascontiguousarray(flat.reshape(len(rows), width).T))
    texts = zip(*[row[2] for row in rows], strict=True)
    return {name: np.array(next(texts), dtype=object) if text else next(floats) for name, text in shape}


def _merge_columns(parts: Sequence[tuple[list[int], NDArray[Any]]], rows: int) -> NDArray[Any]:
    text = any(values.dtype == object for _, values in parts)
    merged = np.full(rows, None if text else np.nan, dtype=object if text else np.float64)
    for places, values in parts:
        merged[places] = numbers_as_text(values) if text and values.dtype != object else values
    return merged

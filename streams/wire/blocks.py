"""A batch with its numbers as one block of float64 and its texts as codes, which is fast to split.

    MAGIC | size of the head, 4 bytes | head, JSON | numbers, float64 | codes, uint8

All little-endian. The head says how many `rows`, `numbers` and `codes` (columns of each) follow, one column
after the other, and has the `batch` as columnar JSON would, but for the columns that lie in the block: of
numbers only their place is there, of texts {"categories": [...], "codes": place}. Whatever is neither (truth
values, mixtures) stays as JSON has it. NaN is missing. Why: docs/decisions/0021.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from driftloop.mlops_core.data.categorical import Categorical, Codes
from driftloop.mlops_core.data.features import Column, Floats
from driftloop.schemas.records import Batch
from driftloop.streams.wire import columns

Fields = dict[str, Any]
"""A message as parsed."""
Rows = NDArray[np.intp]

MAGIC = b"\x00dl1"
"""No JSON begins with a zero."""
MIN_ROWS = 64
"""A batch of fewer rows is smaller work as JSON: a block costs the writer 5 us a column."""
_START = len(MAGIC) + 4
_ALIGNED = 8
_OWN = ("at", "scores", "labels")
"""A batch's own columns of numbers."""


class Malformed(ValueError):
    """Bytes that begin like a block and are none; the message says why."""


@dataclass(frozen=True)
class Block:
    """A batch as the parts of its message."""

    batch: Fields
    """As in the head."""
    numbers: Floats
    """Shape (columns of numbers, rows)."""
    codes: Codes
    """Shape (columns of text, rows)."""

    @classmethod
    def from_batch(cls, batch: Batch) -> Self:
        """The block of a batch, whose values are not validated."""
        numbers: list[Floats] = []
        codes: list[Codes] = []

        def placed(given: Column) -> Any:
            column = _compact(given)
            if isinstance(column, Categorical):
                codes.append(column.codes)
                return {"categories": column.categories, "codes": len(codes) - 1}
            if isinstance(column, np.ndarray):
                numbers.append(column)
                return len(numbers) - 1
            return column

        fields = _map_columns(vars(batch), placed)
        block = np.array(numbers, dtype="<f8").reshape(len(numbers), len(batch))
        return cls(
            fields, _without_infinity(block), np.array(codes, dtype=np.uint8).reshape(len(codes), len(batch))
        )

    @property
    def ids(self) -> Sequence[str]:
        """Each row's id."""
        ids: Sequence[str] = self.batch["ids"]
        return ids

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Rows) -> Self:
        """Some of the rows, at least one."""
        pick = itemgetter(*rows.tolist()) if len(rows) > 1 else lambda column: (column[rows[0]],)

        def picked(column: Any) -> Any:
            return pick(column) if isinstance(column, list | tuple) else column

        lists: Fields = {name: picked(self.batch[name]) for name in ("ids", "entities") if name in self.batch}
        batch = _map_columns({**self.batch, **lists}, picked)
        return type(self)(batch, self.numbers[:, rows], self.codes[:, rows])

    def encode(self) -> bytes:
        """The message. Raises TypeError for values that JSON can't express."""
        described = {"rows": len(self), "numbers": len(self.numbers), "codes": len(self.codes)}
        head = orjson.dumps({**described, "batch": self.batch})
        head += b" " * (-(_START + len(head)) % _ALIGNED)
        size = len(head).to_bytes(4, "little")
        return b"".join([MAGIC, size, head, self.numbers.tobytes(), self.codes.tobytes()])


def decode(value: bytes) -> Fields:
    """The fields of a batch, with arrays or `Categorical` for the columns of the block.

    Raises:
        Malformed: not what `encode` makes.
    """
    end = _START + int.from_bytes(value[len(MAGIC) : _START], "little")
    try:
        head = orjson.loads(value[_START:end])
        fields = dict(head["batch"])
        rows, floats, texts = (int(head[name]) for name in ("rows", "numbers", "codes"))
        if min(rows, floats, texts) < 0 or len(value) != end + rows * (8 * floats + texts):
            raise Malformed(
                f"{len(value)} bytes, expected {floats} numbers and {texts} codes for each of {rows} rows"
            )
        numbers = np.frombuffer(value, "<f8", rows * floats, end).reshape(floats, rows)
        codes = np.frombuffer(value, np.uint8, rows * texts, end + numbers.nbytes).reshape(texts, rows)
        return _map_columns(fields, _column_reader(_without_infinity(numbers), codes))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise Malformed(f"not a block of columns: {error}") from error


def with_lists(fields: Fields) -> Fields:
    """Parsed fields with lists for all columns, as in JSON; missing values are None."""
    return _map_columns(fields, _to_list)


def _map_columns(fields: Mapping[str, Any], change: Callable[[Any], Any]) -> Fields:
    """The fields with each column of values changed."""
    own = {name: change(fields[name]) for name in _OWN if name in fields}
    features = fields.get("features")
    if isinstance(features, Mapping):
        own["features"] = {name: change(column) for name, column in features.items()}
    return {**fields, **own}


def _column_reader(numbers: Floats, codes: Codes) -> Callable[[Any], Any]:
    """Returns the function from a column's description in the head to the column."""
    largest = codes.max(axis=1, initial=0).tolist()

    def column(described: Any) -> Any:
        if type(described) is int and described >= 0:
            return numbers[described]
        if type(described) is not dict:
            return described
        categories, place = described["categories"], described["codes"]
        if type(categories) is not list or not columns.are_optional_texts(categories):
            raise Malformed("categories that are no text")
        if place < 0 or largest[place] >= len(categories):
            raise Malformed(f"a code {largest[place]} of {len(categories)} categories")
        return Categorical(categories, codes[place])

    return column


def _compact(column: Column) -> Column:
    """Numbers as an array, text as `Categorical`; a mixture or too many categories as a list."""
    if isinstance(column, np.ndarray):
        if column.dtype.kind in "fiu":
            return column
        column = column.tolist()
    try:
        found = columns.feature_column(column)
    except OverflowError:  # a number that JSON can't express either
        return column
    if isinstance(found, np.ndarray):
        return found
    return Categorical.of(list(column)) or column


def _without_infinity(numbers: Floats) -> Floats:
    """With NaN for infinite numbers, as in JSON."""
    return np.where(np.isinf(numbers), np.nan, numbers) if np.isinf(numbers).any() else numbers


def _to_list(column: Any) -> Any:
    if isinstance(column, np.ndarray):
        return [None if value != value else value for value in column.tolist()]
    return list(column) if isinstance(column, Categorical) else column

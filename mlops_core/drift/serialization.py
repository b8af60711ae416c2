"""A detector's state as bytes: a JSON head, then plain arrays. Nothing in it can run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from driftloop.mlops_core.errors import InvalidData

FORMAT = 1
_SIZE = 4
"""Bytes that say how long the head is."""


def dump_state(meta: Mapping[str, object], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Bytes of `meta` (JSON) and `arrays`; equal states give equal bytes.

    >>> meta, arrays = load_state(dump_state({"index": 3}, {"open": np.array([True, False])}))
    >>> meta, arrays["open"].tolist()
    ({'index': 3}, [True, False])
    """
    layout = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    head = orjson.dumps({"format": FORMAT, "meta": meta, "arrays": layout})
    body = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    return b"".join([len(head).to_bytes(_SIZE, "big"), head, *body])


def load_state(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Back from `packed`; the arrays are the caller's own.

    Raises:
        InvalidData: not such bytes, or cut short.
    """
    start = _SIZE + int.from_bytes(data[:_SIZE], "big")
    try:
        head = orjson.loads(data[_SIZE:start])
        if head["format"] != FORMAT:
            raise InvalidData(f"a detector's state of format {head['format']}; this code reads {FORMAT}")
        arrays = {}
        for name, dtype, shape in head["arrays"]:
            count = int(np.prod(shape))
            flat = np.frombuffer(data, dtype=dtype, count=count, offset=start)
            arrays[name] = flat.reshape(shape).copy()
            start += flat.nbytes
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidData(f"not a detector's state ({len(data)} bytes): {error}") from error
    return head["meta"], arrays

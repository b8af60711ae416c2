"""A detector's state as bytes: a checksum, a JSON head, plain arrays. Loading it runs no code."""

from binascii import crc32
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from driftloop.mlops_core.errors import InvalidData

_NUMBER = 4
"""Bytes of the checksum, and of the head's length."""


def dump_state(meta: Mapping[str, object], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Bytes of `meta` (JSON) and `arrays`; equal states give equal bytes.

    >>> meta, arrays = load_state(dump_state({"index": 3}, {"open": np.array([True, False])}))
    >>> meta, arrays["open"].tolist()
    ({'index': 3}, [True, False])
    """
    layout = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    head = orjson.dumps({"meta": meta, "arrays": layout})
    body = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    state = b"".join([len(head).to_bytes(_NUMBER, "big"), head, *body])
    return crc32(state).to_bytes(_NUMBER, "big") + state


def load_state(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The `meta` and `arrays` that `dump_state` got; the caller may write into the arrays.

    Raises:
        InvalidData: not such bytes, or changed, or cut short.
    """
    if crc32(data[_NUMBER:]) != int.from_bytes(data[:_NUMBER], "big") or not data:
        raise InvalidData(f"a detector's state is damaged: its {len(data)} bytes don't match their checksum")
    start = 2 * _NUMBER + int.from_bytes(data[_NUMBER : 2 * _NUMBER], "big")
    try:
        head = orjson.loads(data[2 * _NUMBER : start])
        arrays = {}
        for name, dtype, shape in head["arrays"]:
            flat = np.frombuffer(data, dtype=dtype, count=int(np.prod(shape)), offset=start)
            arrays[name] = flat.reshape(shape).copy()
            start += flat.nbytes
        return head["meta"], arrays
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidData(f"not a detector's state ({len(data)} bytes): {error}") from error

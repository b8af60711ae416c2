"""The windows of river's ADWINs as arrays of numbers, and back.

A window is a list of levels; level k holds at most five buckets, each with the sum and the squared
deviations of 2^k values (Bifet and Gavalda, 2007). River gives a window as one block of fixed layout, which
is read and written here field by field. A test compares the layout with the river that is installed;
pyproject.toml pins its version.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.errors import InvalidData

Arrays = dict[str, NDArray[Any]]

MAX_BUCKETS, MIN_PART, GRACE = 5, 5, 10
"""River's defaults: buckets a level, least width of a part, values before the first test."""
_SETTINGS = [("delta", "<f8"), ("clock", "<i4"), ("max_buckets", "<u8")]
_SUMS = [(name, "<f8") for name in ("total", "variance", "width", "total_width")]
_COUNTERS = [(name, "<i4") for name in ("n_buckets", "max_n_buckets", "tick", "n_detections")]
_HEAD = np.dtype(
    [*_SETTINGS, ("min_part", "<f8"), ("grace", "<f8"), *_SUMS, *_COUNTERS, ("levels", "<u8")], align=False
)
_SLOTS = (MAX_BUCKETS + 1,)
_LEVEL = np.dtype(
    [
        ("max_size", "<u8"),
        ("filled", "<u8"),
        ("totals_slots", "<u8"),
        ("totals", "<f8", _SLOTS),
        ("variances_slots", "<u8"),
        ("variances", "<f8", _SLOTS),
    ]
)
_TAIL = np.dtype([*_SETTINGS, ("min_part", "<i4"), ("grace", "<i4")])
_MOST_LEVELS = 60
"""2^60 values are more than any stream has."""


def dump_windows(windows: Sequence[Any]) -> Arrays:
    """Arrays that hold all that `windows` (river's `AdaptiveWindowing`, all of equal settings) remember.

    Raises:
        InvalidData: this river has another layout.
    """
    blocks: list[bytes] = [window.__getstate__() for window in windows]
    tail, first = -_TAIL.itemsize, _HEAD.itemsize
    try:
        heads = np.frombuffer(b"".join(block[:first] for block in blocks), _HEAD)
        levels = np.frombuffer(b"".join(block[first:tail] for block in blocks), _LEVEL)
    except ValueError as error:
        raise InvalidData(f"this river keeps ADWIN's window in an unknown layout: {error}") from error
    arrays = {
        "sums": np.stack([heads[name] for name, _ in _SUMS], axis=1),
        "counters": np.stack([heads[name] for name, _ in _COUNTERS], axis=1),
        "levels": heads["levels"].astype(np.uint8),
        "filled": levels["filled"].astype(np.uint8),
        "totals": levels["totals"],
        "variances": levels["variances"],
    }
    if len(levels) != heads["levels"].sum():
        raise InvalidData("this river keeps ADWIN's window in an unknown layout: levels are missing")
    return arrays


def load_windows(arrays: Arrays, windows: Sequence[Any], delta: float, clock: int) -> None:
    """Set each of `windows` (fresh, of `delta` and `clock`) to what `dump_windows` read.

    Raises:
        InvalidData: the arrays are not those of so many windows.
    """
    _check(arrays, len(windows))
    heads, levels = np.zeros(len(windows), _HEAD), np.zeros(len(arrays["filled"]), _LEVEL)
    heads["min_part"], heads["grace"], heads["levels"] = MIN_PART, GRACE, arrays["levels"]
    for position, (name, _) in enumerate(_SUMS):
        heads[name] = arrays["sums"][:, position]
    for position, (name, _) in enumerate(_COUNTERS):
        heads[name] = arrays["counters"][:, position]
    tail = np.zeros(1, _TAIL)
    tail["min_part"], tail["grace"] = MIN_PART, GRACE
    for part in (heads, tail):
        part["delta"], part["clock"], part["max_buckets"] = delta, clock, MAX_BUCKETS
    levels["max_size"], levels["totals_slots"], levels["variances_slots"] = MAX_BUCKETS, *_SLOTS * 2
    levels["filled"] = arrays["filled"]
    levels["totals"], levels["variances"] = arrays["totals"], arrays["variances"]
    ends = np.cumsum(arrays["levels"], dtype=np.int64).tolist()
    for window, head, start, end in zip(windows, heads, [0, *ends], ends, strict=False):
        window.__setstate__(head.tobytes() + levels[start:end].tobytes() + tail.tobytes())


def _check(arrays: Arrays, windows: int) -> None:
    """Refuse arrays of other shapes or types, numbers that are not finite, and widths that do not add up."""
    try:
        rows = int(arrays["levels"].sum())
        expected = {
            "sums": ((windows, len(_SUMS)), np.float64),
            "counters": ((windows, len(_COUNTERS)), np.int32),
            "levels": ((windows,), np.uint8),
            "filled": ((rows,), np.uint8),
            "totals": ((rows, *_SLOTS), np.float64),
            "variances": ((rows, *_SLOTS), np.float64),
        }
        for name, (shape, kind) in expected.items():
            if arrays[name].shape != shape or arrays[name].dtype != kind:
                raise InvalidData(f"an ADWIN state's {name} is {arrays[name].dtype}{arrays[name].shape}")
            if not np.isfinite(arrays[name]).all():
                raise InvalidData(f"an ADWIN state's {name} is not finite")
    except KeyError as error:
        raise InvalidData(f"an ADWIN state has no {error}") from error
    counts = arrays["levels"]
    if windows and not (counts.min() >= 1 and counts.max() <= _MOST_LEVELS):
        raise InvalidData(
            f"an ADWIN state has windows of {counts.min()} to {counts.max()} levels, possible are 1 to "
            f"{_MOST_LEVELS}"
        )
    starts = np.cumsum(counts, dtype=np.int64) - counts
    level = np.arange(rows) - np.repeat(starts, counts)
    widths = np.add.reduceat(arrays["filled"] * 2.0**level, starts) if windows else np.zeros(0)
    empty = np.repeat(arrays["sums"][:, 2] > 0, counts) & (arrays["filled"] == 0)
    if (
        (arrays["filled"] > MAX_BUCKETS).any()
        or empty.any()
        or not np.array_equal(widths, arrays["sums"][:, 2])
    ):
        raise InvalidData("the buckets of an ADWIN state do not add up to the width of its window")
    if (arrays["counters"] < 0).any():
        raise InvalidData("a counter of an ADWIN state is negative")

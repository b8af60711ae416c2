"""Small counts in half a byte each: most are below 15, and what is not follows whole."""

import numpy as np
from numpy.typing import NDArray

FULL = 15
"""As a half byte: the count itself is among those that follow."""

Counts = NDArray[np.uint8]


def encode(counts: Counts) -> bytes:
    """Counts of any shape: two a byte, the first in its lower half; then those of 15 and more."""
    flat = counts.ravel()
    low = np.zeros(len(flat) + len(flat) % 2, dtype=np.uint8)
    np.minimum(flat, FULL, out=low[: len(flat)])
    pairs = low.view("<u2")  # so that both halves of each are moved at once
    return b"".join([(pairs | pairs >> 4).astype(np.uint8).tobytes(), flat[flat >= FULL].tobytes()])


def decode(data: bytes, size: int) -> Counts:
    """Back from `packed`, shape (size,); allocates no more than `data` is worth, whatever `size` says.

    Raises:
        ValueError: not the bytes of so many counts.

    >>> decode(encode(np.array([[1, 2, 3], [14, 15, 32]], dtype=np.uint8)), size=6).tolist()
    [1, 2, 3, 14, 15, 32]
    """
    every = np.frombuffer(data, dtype=np.uint8)
    halves = every[: (size + 1) // 2].astype("<u2")
    flat: Counts = ((halves | halves << 4) & 0x0F0F).astype("<u2").view(np.uint8)[:size]
    full, whole = flat == FULL, every[len(halves) :]
    if len(flat) != size or np.count_nonzero(full) != len(whole):
        raise ValueError(f"{len(data):,} bytes are not {size:,} counts")
    flat[full] = whole
    return flat

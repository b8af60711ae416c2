"""Memory that must not grow with time: early against late."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True)
class Memory:
    """Of one process; in bytes."""

    early: float
    """Median between a tenth and two tenths of the rows: all is there that it works with, and no more."""
    late: float
    """Median of the second half; buffers come and go, so not the most."""
    most: int

    @classmethod
    def of(cls, samples: Sequence[tuple[int, int]]) -> Self:
        """From pairs of rows so far and bytes.

        >>> Memory.of([(1, 50), (15, 100), (60, 120), (100, 110)])
        Memory(early=100, late=115.0, most=120)
        """
        rows = samples[-1][0]
        early = [size for at, size in samples if 0.1 * rows <= at <= 0.2 * rows]
        late = [size for at, size in samples if at >= 0.5 * rows]
        return cls(median(early), median(late), max(size for _, size in samples))

    @property
    def growth(self) -> float:
        """Late against early; 1 is flat."""
        return self.late / self.early

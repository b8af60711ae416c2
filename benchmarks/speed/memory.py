"""Memory that must not grow with time: early against late."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True)
class Memory:
    """Of one process; in bytes."""

    early: float
    """Median over a tenth of the rows, once all is there that it works with, and no more."""
    late: float
    """Median of the second half; buffers come and go, so not the most."""
    most: int

    @classmethod
    def of(cls, samples: Sequence[tuple[int, int]], full: float = 0.1) -> Self:
        """From pairs of rows so far and bytes; after the share `full` of the rows, at most 0.4, all is there.

        >>> Memory.of([(1, 50), (15, 100), (60, 120), (100, 110)])
        Memory(early=100, late=115.0, most=120)
        >>> Memory.of([(15, 60), (35, 108), (60, 120), (100, 110)], full=0.3).early
        108
        """
        rows = samples[-1][0]
        early = [size for at, size in samples if full * rows <= at <= (full + 0.1) * rows]
        late = [size for at, size in samples if at >= 0.5 * rows]
        return cls(median(early), median(late), max(size for _, size in samples))

    @property
    def growth(self) -> float:
        """Late against early; 1 is flat."""
        return self.late / self.early

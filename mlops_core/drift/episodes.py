"""When an alarm becomes an episode, and when that is over: one automaton a column, all columns at once.

A detector's alarm makes a column *watched*. It opens an episode once its severity, taken over what came
after the change, reaches `open_severity`; an episode closes when the severity has come under
`close_severity`. A watched column that is mild a window later is forgotten. All columns begin watched:
a version whose very first window is far from its training data never shows a *change* to the detector.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlops_core.data.features import Floats
from mlops_core.drift.channels import SURE
from mlops_core.drift.microbatches import ROWS

_LEAST = 8
"""Micro-batches over which a severity is taken, at least: 256 rows have a standard error of 0.06."""

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass
class Episodes:
    """Indices count micro-batches since the version's first; arrays have shape (columns,)."""

    window: int
    """Micro-batches over which a severity is taken, at most."""
    opens: float
    closes: float
    reference: Indices
    """Rows of each column's reference."""
    open: Mask
    watched: Mask
    alarmed: Mask
    """Watched because of an alarm; the others are watched since the beginning."""
    changed: Indices
    """Where the newest change of each column lies."""
    noticed: Indices
    """When the newest alarm came."""
    leads: Indices
    """The column that speaks for each, mostly itself: while its episode is open, the other opens none."""

    @classmethod
    def fresh(
        cls, window: int, opens: float, closes: float, reference: Indices, leads: Indices | None = None
    ) -> Self:
        """Every column watched from the beginning."""
        columns = len(reference)
        no = np.zeros(columns, dtype=np.bool_)
        at = np.zeros(columns, dtype=np.int64)
        leads = np.arange(columns) if leads is None else leads
        return cls(window, opens, closes, reference, no, ~no, no.copy(), at, at.copy(), leads)

    @property
    def awake(self) -> bool:
        """Whether any column needs its severity."""
        return bool((self.open | self.watched).any())

    def alarm(self, column: int, changed: int, now: int) -> None:
        """The detector says that `column` changed at micro-batch `changed`."""
        self.changed[column], self.noticed[column] = changed, now
        self.alarmed[column] = self.watched[column] = True

    def spans(self, now: int) -> Indices:
        """Micro-batches to take each severity over, before `now`: since the change, within reason."""
        return np.minimum(np.clip(now - self.changed, min(_LEAST, self.window), self.window), now)

    def judge(self, severity: Floats, now: int, silenced: Mask | None = None) -> tuple[list[int], list[int]]:
        """The columns whose episodes open and close, given severities over `spans(now)`.

        Those `silenced` open none now, and are watched on.
        """
        rows = self.spans(now) * ROWS
        enough = np.maximum(self.opens, SURE * np.sqrt(1 / rows + 1 / self.reference))
        ready = self.alarmed | (now >= self.window)
        opening = self.watched & ~self.open & ready & (severity >= enough)
        led = self.leads != np.arange(len(self.leads))
        first_word = now - self.noticed < _LEAST  # the one that speaks for it may be about to notice, too
        opening &= ~(led & ((self.open | opening)[self.leads] | first_word))
        if silenced is not None:
            opening &= ~silenced
        settled = now - self.changed >= self.window // 2
        closing = self.open & settled & (severity < self.closes)
        self.open = (self.open | opening) & ~closing
        lately = now - self.noticed < self.window
        self.watched &= ~self.open & (lately | (severity >= self.closes))
        return np.flatnonzero(opening).tolist(), np.flatnonzero(closing).tolist()

    def state(self) -> dict[str, NDArray[Any]]:
        """What changes over time."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Continue where `state` was taken."""
        for name in _STATE:
            setattr(self, name, arrays[name])


_STATE = ("open", "watched", "alarmed", "changed", "noticed")

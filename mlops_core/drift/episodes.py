"""When an alarm becomes an episode, and when that is over: one automaton a column, all columns at once.

A detector's alarm makes a column *watched*. It opens an episode once its severity, taken over what came
after the change, reaches `open_severity`, in as many checks as confirm it; an episode closes when the
severity has come under `close_severity`. A watched column that is mild a window later is forgotten. All
columns begin watched: a version whose very first window is far from its training data never shows a *change*
to the detector. In words, column by column, it is the table in `states`.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift.channels import SURE
from driftloop.mlops_core.drift.microbatches import ROWS
from driftloop.schemas.events import DriftState

_LEAST = 4
"""Micro-batches over which a severity is taken, at least: in 128 rows only landslides are beyond chance."""
_UNHEARD = 2.0
"""Without an alarm, a new version's first rows must lie this many times further off: how much its reference
varies is known from few stretches, and where rows hang together one column in eight would open."""
_FIRST_WORD = 8
"""Micro-batches of its own by which a column waits for what speaks for it: another column, or the whole."""

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
    heard: Indices
    """Whether each column's last checks reached enough, a bit a check; 0 where none is under way."""
    due: Indices
    """When the next check is."""
    resolved: Mask
    """Closed since the last window."""
    begins: Indices
    """From where each column's rows are its own to tell: somebody else told of those before."""
    leads: Indices
    """The column that speaks for each, mostly itself: while its episode is open, the other opens none."""
    waits: Mask
    """Whether somebody else has the first word on each: the column that leads it, or a segment's whole."""

    confirmation: tuple[int, int] = (1, 1)
    """Checks that must reach enough, of how many."""

    @classmethod
    def fresh(
        cls,
        window: int,
        opens: float,
        closes: float,
        reference: Indices,
        leads: Indices | None = None,
        within: bool = False,
    ) -> Self:
        """Every column watched from the beginning; `within` a whole, which is heard first, all wait."""
        columns = len(reference)
        no = np.zeros(columns, dtype=np.bool_)
        at = np.zeros(columns, dtype=np.int64)
        leads = np.arange(columns) if leads is None else leads
        return cls(
            window=window,
            opens=opens,
            closes=closes,
            reference=reference,
            open=no,
            watched=~no,
            alarmed=no.copy(),
            changed=at,
            noticed=at.copy(),
            heard=at.copy(),
            due=at.copy(),
            resolved=no.copy(),
            begins=at.copy(),
            leads=leads,
            waits=(leads != np.arange(columns)) | within,
        )

    @property
    def awake(self) -> bool:
        """Whether any column needs its severity."""
        return bool((self.open | self.watched).any())

    @property
    def states(self) -> list[DriftState]:
        """What each column is (see `states`)."""
        suspected = self.watched & (self.alarmed | (self.heard > 0))
        chosen = np.select([self.open, suspected, self.resolved], [0, 1, 2], 3)
        return [_NAMED[place] for place in chosen.tolist()]

    def clear_resolved(self) -> None:
        """A window was measured: what was resolved has been told."""
        self.resolved[:] = False

    def alarm(self, column: int, changed: int, now: int) -> None:
        """The detector says that `column` changed at micro-batch `changed`."""
        self.changed[column], self.noticed[column] = max(changed, self.begins[column]), now
        self.alarmed[column] = self.watched[column] = True

    def spans(self, now: int) -> Indices:
        """Micro-batches to take each severity over, before `now`: since the change, within reason."""
        return np.minimum(np.clip(now - self.changed, min(_LEAST, self.window), self.window), now)

    def judge(
        self, severity: Floats, now: int, silenced: Mask | None = None, sure: Floats | None = None
    ) -> tuple[list[int], list[int]]:
        """The columns whose episodes open and close, given severities over `spans(now)`.

        Those `silenced` open none now, and are watched on; what came until then never opens one. `sure` is
        what of the severity is no chance; without it, chance is that of a mean of rows.
        """
        if sure is None:
            by_chance = SURE * np.sqrt(1 / (self.spans(now) * ROWS) + 1 / self.reference)
            sure = np.where(severity >= by_chance, severity, 0.0)
        ready = self.alarmed | (now >= self.window)
        enough = np.where(self.alarmed, self.opens, _UNHEARD * self.opens)
        reached = self.watched & ~self.open & ready & (sure >= enough) & (now >= self.changed)
        led = self.leads != np.arange(len(self.leads))
        first_word = now - self.noticed < _FIRST_WORD  # who speaks for it may be about to notice, too
        reached &= ~((self.waits & first_word) | (led & (self.open | reached)[self.leads]))
        if silenced is not None:
            reached &= ~silenced
            # Who silenced it has told of these rows: as many as a severity needs must come after them.
            self.begins = np.where(silenced, now + min(_LEAST, self.window), self.begins)
            self.changed = np.where(silenced & ~self.open, self.begins, self.changed)
        opening = self._confirm(reached, now)
        settled = now - self.changed >= self.window // 2
        closing = self.open & settled & (severity < self.closes)
        self.open = (self.open | opening) & ~closing
        lately = now - self.noticed < self.window
        self.resolved = (self.resolved | closing) & ~opening
        self.watched &= ~self.open & (lately | (severity >= self.closes) | (self.heard > 0))
        return np.flatnonzero(opening).tolist(), np.flatnonzero(closing).tolist()

    def _confirm(self, reached: Mask, now: int) -> Mask:
        """The columns that reached enough in as many checks as are wanted; those begin anew."""
        wanted, checks = self.confirmation
        checked = np.where(self.heard > 0, now >= self.due, reached)
        heard = (self.heard << 1 | reached) & ((1 << checks) - 1)
        self.heard = np.where(checked, heard, self.heard)
        self.due = np.where(checked, now + self.window, self.due)
        confirmed: Mask = checked & reached & (np.bitwise_count(self.heard) >= wanted)
        self.heard[confirmed] = 0
        return confirmed

    def state(self) -> dict[str, NDArray[Any]]:
        """What changes over time."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Continue where `state` was taken."""
        for name in _STATE:
            setattr(self, name, arrays.get(name, getattr(self, name)))  # older states know fewer


_STATE = ("open", "watched", "alarmed", "changed", "noticed", "heard", "due", "resolved", "begins")
_NAMED = (DriftState.DRIFTED, DriftState.SUSPECTED, DriftState.RESOLVED, DriftState.STABLE)

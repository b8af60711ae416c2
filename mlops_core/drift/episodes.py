"""When an alarm opens an episode, and when the episode closes: one automaton per column, as arrays.

A detector's alarm makes a column *watched*. A watched column opens an episode when its severity over the rows
since the change reaches `open_severity` in as many checks as `drift.confirm` needs. An episode closes when
the severity is below `close_severity`. A watched column whose severity is small a window later is no longer
watched. All columns start watched, because a version whose first window is already far from its training
data never shows a *change* to the detector. `episode_states` has the same automaton of one column as a table.
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
"""Fewest micro-batches of a severity: in fewer than 128 rows only the largest changes are beyond chance."""
_WITHOUT_ALARM = 2.0
"""Factor of `open_severity` for a new version's first rows without an alarm: its reference's variation is
known from few stretches, and one in eight autocorrelated columns would open at a factor of 1."""
_LEADER_BATCHES = 8
"""Micro-batches that a column waits after its alarm for an alarm of its leader or of the whole model."""

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass
class Episodes:
    """Indices count micro-batches since the version's first; arrays have shape (columns,)."""

    window: int
    """Most micro-batches of a severity."""
    opens: float
    """Severity from which an episode opens."""
    closes: float
    """Severity below which an episode closes."""
    reference: Indices
    """Rows of each column's reference."""
    open: Mask
    watched: Mask
    alarmed: Mask
    """Watched because of an alarm; other watched columns are so from the start."""
    changed: Indices
    """Micro-batch of each column's newest change."""
    alarmed_at: Indices
    """Micro-batch of the newest alarm."""
    check_history: Indices
    """Results of each column's last checks, one bit per check; 0 where no confirmation is in progress."""
    next_check: Indices
    """Micro-batch of the next check."""
    resolved: Mask
    """Whether the episode closed since the last window."""
    first_reportable: Indices
    """First micro-batch that each column may report; earlier ones were reported by the whole model."""
    leaders: Indices
    """Index of each column's leader, mostly itself: a column opens no episode while its leader's is open."""
    waits_for_leader: Mask
    """Whether the column waits after an alarm for its leader, or, in a segment, for the whole model."""

    confirmation: tuple[int, int] = (1, 1)
    """Number of checks that must reach the severity, and of how many."""

    @classmethod
    def fresh(
        cls,
        window: int,
        opens: float,
        closes: float,
        reference: Indices,
        leaders: Indices | None = None,
        within: bool = False,
    ) -> Self:
        """The initial state, all columns watched. `within`: a segment, whose columns wait for the whole."""
        columns = len(reference)
        no = np.zeros(columns, dtype=np.bool_)
        at = np.zeros(columns, dtype=np.int64)
        leaders = np.arange(columns) if leaders is None else leaders
        return cls(
            window=window,
            opens=opens,
            closes=closes,
            reference=reference,
            open=no,
            watched=~no,
            alarmed=no.copy(),
            changed=at,
            alarmed_at=at.copy(),
            check_history=at.copy(),
            next_check=at.copy(),
            resolved=no.copy(),
            first_reportable=at.copy(),
            leaders=leaders,
            waits_for_leader=(leaders != np.arange(columns)) | within,
        )

    @property
    def awake(self) -> bool:
        """Whether a severity of any column is needed."""
        return bool((self.open | self.watched).any())

    @property
    def states(self) -> list[DriftState]:
        """State of each column (see `episode_states`)."""
        suspected = self.watched & (self.alarmed | (self.check_history > 0))
        chosen = np.select([self.open, suspected, self.resolved], [0, 1, 2], 3)
        return [_STATE_ORDER[place] for place in chosen.tolist()]

    def clear_resolved(self) -> None:
        """Make resolved columns stable; called after each measured window."""
        self.resolved[:] = False

    def alarm(self, column: int, changed: int, now: int) -> None:
        """Add a detector's alarm: `column` changed at micro-batch `changed`."""
        self.changed[column], self.alarmed_at[column] = max(changed, self.first_reportable[column]), now
        self.alarmed[column] = self.watched[column] = True

    def spans(self, now: int) -> Indices:
        """Number of micro-batches before `now` of each severity: since the change, within both bounds."""
        return np.minimum(np.clip(now - self.changed, min(_LEAST, self.window), self.window), now)

    def judge(
        self, severity: Floats, now: int, suppressed: Mask | None = None, sure: Floats | None = None
    ) -> tuple[list[int], list[int]]:
        """The columns whose episodes open and close, given severities over `spans(now)`.

        Columns in `suppressed` open none now and stay watched; rows until now never open one. `sure` is the
        part of the severity beyond chance; without it, chance is that of a mean of independent rows.
        """
        if sure is None:
            by_chance = SURE * np.sqrt(1 / (self.spans(now) * ROWS) + 1 / self.reference)
            sure = np.where(severity >= by_chance, severity, 0.0)
        ready = self.alarmed | (now >= self.window)
        enough = np.where(self.alarmed, self.opens, _WITHOUT_ALARM * self.opens)
        reached = self.watched & ~self.open & ready & (sure >= enough) & (now >= self.changed)
        has_leader = self.leaders != np.arange(len(self.leaders))
        leader_may_alarm = now - self.alarmed_at < _LEADER_BATCHES
        reached &= ~(
            (self.waits_for_leader & leader_may_alarm) | (has_leader & (self.open | reached)[self.leaders])
        )
        if suppressed is not None:
            reached &= ~suppressed
            # The whole model reported these rows; a severity of the column needs new ones.
            self.first_reportable = np.where(
                suppressed, now + min(_LEAST, self.window), self.first_reportable
            )
            self.changed = np.where(suppressed & ~self.open, self.first_reportable, self.changed)
        opening = self._confirm(reached, now)
        settled = now - self.changed >= self.window // 2
        closing = self.open & settled & (severity < self.closes)
        self.open = (self.open | opening) & ~closing
        recent = now - self.alarmed_at < self.window
        self.resolved = (self.resolved | closing) & ~opening
        self.watched &= ~self.open & (recent | (severity >= self.closes) | (self.check_history > 0))
        return np.flatnonzero(opening).tolist(), np.flatnonzero(closing).tolist()

    def _confirm(self, reached: Mask, now: int) -> Mask:
        """The columns whose confirmation is complete; their checks start again."""
        wanted, checks = self.confirmation
        checked = np.where(self.check_history > 0, now >= self.next_check, reached)
        check_history = (self.check_history << 1 | reached) & ((1 << checks) - 1)
        self.check_history = np.where(checked, check_history, self.check_history)
        self.next_check = np.where(checked, now + self.window, self.next_check)
        confirmed: Mask = checked & reached & (np.bitwise_count(self.check_history) >= wanted)
        self.check_history[confirmed] = 0
        return confirmed

    def state(self) -> dict[str, NDArray[Any]]:
        """The arrays that change over time, by name."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Continue from the arrays of `state`."""
        for name in _STATE:
            setattr(self, name, arrays[name])


_STATE = (
    "open",
    "watched",
    "alarmed",
    "changed",
    "alarmed_at",
    "check_history",
    "next_check",
    "resolved",
    "first_reportable",
)
"""Names of the arrays that `state` returns."""
_STATE_ORDER = (DriftState.DRIFTED, DriftState.SUSPECTED, DriftState.RESOLVED, DriftState.STABLE)

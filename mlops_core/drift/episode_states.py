"""What a column can be, and what leads where: the table that `episodes` keeps for all columns at once.

`docs/drift-states.md` is drawn from it, and a test holds the two to each other.
"""

from collections.abc import Mapping
from enum import StrEnum

from driftloop.schemas.events import DriftState


class Signal(StrEnum):
    """What can happen to a column."""

    ALARMED = "alarmed"
    REACHED = "reached"
    CONFIRMED = "confirmed"
    LAPSED = "lapsed"
    EASED = "eased"
    TOLD = "told"


TABLE: Mapping[DriftState, Mapping[Signal, DriftState]] = {
    DriftState.STABLE: {
        Signal.ALARMED: DriftState.SUSPECTED,
        Signal.REACHED: DriftState.SUSPECTED,
        Signal.CONFIRMED: DriftState.DRIFTED,
    },
    DriftState.SUSPECTED: {
        Signal.ALARMED: DriftState.SUSPECTED,
        Signal.REACHED: DriftState.SUSPECTED,
        Signal.CONFIRMED: DriftState.DRIFTED,
        Signal.LAPSED: DriftState.STABLE,
    },
    DriftState.DRIFTED: {
        Signal.ALARMED: DriftState.DRIFTED,
        Signal.EASED: DriftState.RESOLVED,
    },
    DriftState.RESOLVED: {
        Signal.ALARMED: DriftState.SUSPECTED,
        Signal.TOLD: DriftState.STABLE,
    },
}
"""Row by row; what a state doesn't know leaves it as it is."""

STATES: Mapping[DriftState, str] = {
    DriftState.STABLE: "nothing changed, or what changed is too small to matter",
    DriftState.SUSPECTED: "the detector fired, or the severity is enough but not yet confirmed",
    DriftState.DRIFTED: "an episode is open: `DriftDetected` was said, `DriftResolved` not yet",
    DriftState.RESOLVED: "the episode closed since the last window; told once",
}
SIGNALS: Mapping[Signal, str] = {
    Signal.ALARMED: "the detector says that the column changed",
    Signal.REACHED: "the severity is enough (`drift.open_severity`); `drift.confirm` wants to see it again",
    Signal.CONFIRMED: "it was so in as many checks as `drift.confirm` wants",
    Signal.LAPSED: "a window later the severity is under `drift.close_severity`, or the checks said no",
    Signal.EASED: "half a window or more after the change the severity is under `drift.close_severity`",
    Signal.TOLD: "a full window was measured",
}


def after(state: DriftState, signal: Signal) -> DriftState:
    """The state that `signal` leads to.

    >>> after(DriftState.SUSPECTED, Signal.CONFIRMED).value, after(DriftState.DRIFTED, Signal.TOLD).value
    ('drifted', 'drifted')
    """
    return TABLE[state].get(signal, state)


def document() -> str:
    """`docs/drift-states.md`."""
    arrows = [f"{state} --> {to}: {signal}" for state, row in TABLE.items() for signal, to in row.items()]
    drawn = "\n    ".join(["stateDiagram-v2", f"[*] --> {DriftState.STABLE}", *arrows])
    return "\n".join(
        [
            "# The states of a column",
            "",
            "From the table in `mlops_core/drift/episode_states.py` by `make docs`; a test keeps it so.",
            "",
            f"```mermaid\n{drawn}\n```",
            "",
            "| state | meaning |\n|---|---|",
            *(f"| {state} | {meaning} |" for state, meaning in STATES.items()),
            "",
            "| signal | meaning |\n|---|---|",
            *(f"| {signal} | {meaning} |" for signal, meaning in SIGNALS.items()),
            "",
        ]
    )

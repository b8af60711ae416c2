"""States of a column and their transitions; `episodes` runs them for all columns at once.

`docs/drift-states.md` is generated from it; tests compare the table with `episodes` and with the page.
"""

from collections.abc import Mapping
from enum import StrEnum

from driftloop.schemas.events import DriftState


class Signal(StrEnum):
    """An input of the table; `SIGNALS` says what each means."""

    ALARMED = "alarmed"
    REACHED = "reached"
    CONFIRMED = "confirmed"
    LAPSED = "lapsed"
    EASED = "eased"
    MEASURED = "measured"


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
        Signal.MEASURED: DriftState.STABLE,
    },
}
"""State -> signal -> next state; a signal without a row changes nothing."""

STATES: Mapping[DriftState, str] = {
    DriftState.STABLE: "no change, or a change too small to open an episode",
    DriftState.SUSPECTED: "the detector alarmed, or the severity is large enough but not yet confirmed",
    DriftState.DRIFTED: "an episode is open: `DriftDetected` was published, `DriftResolved` not yet",
    DriftState.RESOLVED: "the episode closed since the last window; shown until the next one",
}
SIGNALS: Mapping[Signal, str] = {
    Signal.ALARMED: "the detector alarmed",
    Signal.REACHED: "the severity reached `drift.open_severity`; `drift.confirm` needs further checks",
    Signal.CONFIRMED: "the severity reached it in as many checks as `drift.confirm` needs",
    Signal.LAPSED: "a window later the severity is below `drift.close_severity`, or too few checks passed",
    Signal.EASED: "half a window or more after the change the severity is below `drift.close_severity`",
    Signal.MEASURED: "a full window was measured",
}


def after(state: DriftState, signal: Signal) -> DriftState:
    """The state that `signal` leads to.

    >>> after(DriftState.SUSPECTED, Signal.CONFIRMED).value, after(DriftState.DRIFTED, Signal.MEASURED).value
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

"""The rollout's table: which signal leads from which phase to which.

Code chooses a signal, never a phase; a signal without a row is a `Conflict`. `docs/rollout-states.md` is
generated from the table:
`python -m driftloop.mlops_core.rollout.states > docs/rollout-states.md`.
"""

import sys
from collections.abc import Mapping
from enum import StrEnum

from driftloop.mlops_core import errors
from driftloop.schemas.events import RolloutPhase


class Signal(StrEnum):
    """An input of the table; `SIGNALS` says what each means."""

    PERFORMED = "performed"
    PASSED = "passed"
    PROVEN = "proven"
    HELD = "held"
    FAILED = "failed"
    OBSTRUCTED = "obstructed"
    PAUSED = "paused"
    RESUMED = "resumed"
    ABORTED = "aborted"


TABLE: Mapping[RolloutPhase, Mapping[Signal, RolloutPhase]] = {
    RolloutPhase.WARMING: {
        Signal.PERFORMED: RolloutPhase.CANARY,
        Signal.PROVEN: RolloutPhase.PROMOTING,
        Signal.OBSTRUCTED: RolloutPhase.FAILED,
        Signal.PAUSED: RolloutPhase.PAUSED,
        Signal.ABORTED: RolloutPhase.REVERTING,
    },
    RolloutPhase.CANARY: {
        Signal.PERFORMED: RolloutPhase.CANARY,
        Signal.HELD: RolloutPhase.CANARY,
        Signal.PASSED: RolloutPhase.CANARY,
        Signal.PROVEN: RolloutPhase.PROMOTING,
        Signal.FAILED: RolloutPhase.REVERTING,
        Signal.OBSTRUCTED: RolloutPhase.REVERTING,
        Signal.PAUSED: RolloutPhase.PAUSED,
        Signal.ABORTED: RolloutPhase.REVERTING,
    },
    RolloutPhase.PAUSED: {
        Signal.RESUMED: RolloutPhase.CANARY,
        Signal.PROVEN: RolloutPhase.PROMOTING,
        Signal.ABORTED: RolloutPhase.REVERTING,
    },
    RolloutPhase.PROMOTING: {
        Signal.PERFORMED: RolloutPhase.PROMOTED,
        Signal.OBSTRUCTED: RolloutPhase.REVERTING,
        Signal.ABORTED: RolloutPhase.REVERTING,
    },
    RolloutPhase.REVERTING: {
        Signal.PERFORMED: RolloutPhase.REVERTED,
        Signal.OBSTRUCTED: RolloutPhase.REVERTING,
    },
    RolloutPhase.PROMOTED: {},
    RolloutPhase.REVERTED: {},
    RolloutPhase.FAILED: {},
}
"""Phase -> signal -> next phase; a phase with an empty row is terminal."""

TRANSITIONS: Mapping[tuple[RolloutPhase, Signal], RolloutPhase] = {
    (phase, signal): target for phase, row in TABLE.items() for signal, target in row.items()
}
"""`TABLE` as (phase, signal) -> next phase."""

TERMINAL = frozenset(phase for phase, row in TABLE.items() if not row)
"""Phases without a next phase."""

PHASES: Mapping[RolloutPhase, str] = {
    RolloutPhase.WARMING: "the version's replicas start; it gets no traffic yet",
    RolloutPhase.CANARY: "the version gets a share of the traffic and is compared with the stable version",
    RolloutPhase.PAUSED: "the rollout waits for a person's command; traffic shares stay as they are",
    RolloutPhase.PROMOTING: "the version gets all traffic and the alias `champion`",
    RolloutPhase.REVERTING: "the stable version gets all traffic back and stays champion",
    RolloutPhase.PROMOTED: "the version is champion; replicas of the champion before keep running",
    RolloutPhase.REVERTED: "the stable version serves everything; replicas of this version are stopped",
    RolloutPhase.FAILED: "replicas of the version could not be started; it never got traffic",
}
SIGNALS: Mapping[Signal, str] = {
    Signal.PERFORMED: "the effects of the phase were performed",
    Signal.PASSED: "the step's verdict is `pass`, and another step follows",
    Signal.PROVEN: "no step is left: the last one passed, or there is no version to compare with",
    Signal.HELD: "the verdict is `hold` (more requests or labels are needed), or it could not be measured",
    Signal.FAILED: "the verdict is `fail`: the version is surely worse",
    Signal.OBSTRUCTED: "the effects of the phase cannot be performed",
    Signal.PAUSED: "a person paused it, or three windows in a row could not be measured",
    Signal.RESUMED: "a person resumed it",
    Signal.ABORTED: "a person aborted it",
}


def next_phase(phase: RolloutPhase, signal: Signal, model_id: str) -> RolloutPhase:
    """The phase that `signal` leads to; `model_id` names the rollout in the error.

    Raises:
        Conflict: the table has no such row; the message lists the signals that are possible.

    >>> next_phase(RolloutPhase.CANARY, Signal.PROVEN, "flights:8").value
    'promoting'
    >>> next_phase(RolloutPhase.PAUSED, Signal.FAILED, "ctr:8")
    Traceback (most recent call last):
    driftloop.mlops_core.errors.Conflict: ctr:8 is paused: got failed, possible are resumed, proven, aborted
    >>> next_phase(RolloutPhase.PROMOTED, Signal.PASSED, "flights:8")
    Traceback (most recent call last):
    driftloop.mlops_core.errors.Conflict: flights:8 is promoted: got passed, no signal is possible any more
    """
    target = TRANSITIONS.get((phase, signal))
    if target is None:
        raise errors.Conflict(f"{model_id} is {phase}: got {signal}, {_possible_signals(phase)}")
    return target


def diagram() -> str:
    """The table as a mermaid state diagram; signals with the same phases share an arrow."""
    arrows: dict[tuple[RolloutPhase, RolloutPhase], list[Signal]] = {}
    for (phase, signal), target in TRANSITIONS.items():
        arrows.setdefault((phase, target), []).append(signal)
    lines = [f"{phase} --> {target}: {', '.join(signals)}" for (phase, target), signals in arrows.items()]
    ends = [f"{phase} --> [*]" for phase in TABLE if phase in TERMINAL]
    return "\n    ".join(["stateDiagram-v2", f"[*] --> {RolloutPhase.WARMING}", *lines, *ends])


def document() -> str:
    """The text of `docs/rollout-states.md`: the diagram, and what phases and signals mean."""
    phases = [
        f"| {phase} | {meaning} | {', '.join(TABLE[phase]) or '-'} |" for phase, meaning in PHASES.items()
    ]
    signals = [f"| {signal} | {meaning} |" for signal, meaning in SIGNALS.items()]
    return "\n".join(
        [
            "# The states of a rollout",
            "",
            "Generated from the table in `mlops_core/rollout/states.py`; a test compares both.",
            "",
            f"```mermaid\n{diagram()}\n```",
            "",
            "| phase | meaning | possible signals |\n|---|---|---|",
            *phases,
            "",
            "| signal | meaning |\n|---|---|",
            *signals,
            "",
        ]
    )


def _possible_signals(phase: RolloutPhase) -> str:
    row = TABLE[phase]
    return f"possible are {', '.join(row)}" if row else "no signal is possible any more"


if __name__ == "__main__":
    sys.stdout.write(document())

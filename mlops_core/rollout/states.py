"""The rollout's table: which signal leads from which phase to which.

Code may choose a signal, never a phase. A row that is missing *is* the error. Later phases (validating,
shadow, baking) are new rows here; `docs/rollout-states.md` is drawn from the table:
`python -m driftloop.mlops_core.rollout.states > docs/rollout-states.md`.
"""

import sys
from collections.abc import Mapping
from enum import StrEnum

from driftloop.mlops_core import errors
from driftloop.schemas.events import RolloutPhase


class Signal(StrEnum):
    """What can happen to a rollout."""

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
"""Row by row; a phase with an empty row is terminal."""

TRANSITIONS: Mapping[tuple[RolloutPhase, Signal], RolloutPhase] = {
    (phase, signal): target for phase, row in TABLE.items() for signal, target in row.items()
}
"""The same, as pairs."""

TERMINAL = frozenset(phase for phase, row in TABLE.items() if not row)
"""Nothing leaves these."""

PHASES: Mapping[RolloutPhase, str] = {
    RolloutPhase.WARMING: "the version starts; it gets no traffic yet",
    RolloutPhase.CANARY: "it has a share of the traffic and is compared with the stable version",
    RolloutPhase.PAUSED: "a person is asked; the traffic stays as it was",
    RolloutPhase.PROMOTING: "it takes all traffic and the alias `champion`",
    RolloutPhase.REVERTING: "the stable version takes all traffic back, and stays champion",
    RolloutPhase.PROMOTED: "it is champion; the one before stays warm",
    RolloutPhase.REVERTED: "the stable version serves everything; this one is taken down",
    RolloutPhase.FAILED: "it could not be started, so it never got traffic",
}
SIGNALS: Mapping[Signal, str] = {
    Signal.PERFORMED: "what the phase asks for was carried out",
    Signal.PASSED: "the verdict of a step is good, and another step follows",
    Signal.PROVEN: "no step is left: the last one passed, or there is nothing to compare with",
    Signal.HELD: "the verdict needs more labels, or nothing could be measured",
    Signal.FAILED: "the verdict is that the version is surely worse",
    Signal.OBSTRUCTED: "what the phase asks for cannot be carried out",
    Signal.PAUSED: "a person said wait, or measuring failed too often",
    Signal.RESUMED: "a person said go on",
    Signal.ABORTED: "a person said stop",
}


def next_phase(phase: RolloutPhase, signal: Signal, who: str) -> RolloutPhase:
    """The phase that `signal` leads to; `who` is for the error.

    Raises:
        Conflict: the table has no such row; says what was possible.

    >>> next_phase(RolloutPhase.CANARY, Signal.PROVEN, "flights:8").value
    'promoting'
    >>> next_phase(RolloutPhase.PAUSED, Signal.FAILED, "ctr:8")
    Traceback (most recent call last):
    driftloop.mlops_core.errors.Conflict: ctr:8 is paused: got failed, knows only resumed, proven, aborted
    >>> next_phase(RolloutPhase.PROMOTED, Signal.PASSED, "flights:8")
    Traceback (most recent call last):
    driftloop.mlops_core.errors.Conflict: flights:8 is promoted: got passed, knows nothing any more
    """
    target = TRANSITIONS.get((phase, signal))
    if target is None:
        raise errors.Conflict(f"{who} is {phase}: got {signal}, knows {_possible_signals(phase)}")
    return target


def diagram() -> str:
    """The table as a mermaid state diagram; signals that lead the same way share an arrow."""
    arrows: dict[tuple[RolloutPhase, RolloutPhase], list[Signal]] = {}
    for (phase, signal), target in TRANSITIONS.items():
        arrows.setdefault((phase, target), []).append(signal)
    lines = [f"{phase} --> {target}: {', '.join(signals)}" for (phase, target), signals in arrows.items()]
    ends = [f"{phase} --> [*]" for phase in TABLE if phase in TERMINAL]
    return "\n    ".join(["stateDiagram-v2", f"[*] --> {RolloutPhase.WARMING}", *lines, *ends])


def document() -> str:
    """`docs/rollout-states.md`: the diagram, and what phases and signals mean."""
    phases = [f"| {phase} | {meaning} | {_possible_signals(phase)} |" for phase, meaning in PHASES.items()]
    signals = [f"| {signal} | {meaning} |" for signal, meaning in SIGNALS.items()]
    return "\n".join(
        [
            "# The states of a rollout",
            "",
            "Drawn by `python -m driftloop.mlops_core.rollout.states` from its table; a test keeps it so.",
            "",
            f"```mermaid\n{diagram()}\n```",
            "",
            "| phase | meaning | knows |\n|---|---|---|",
            *phases,
            "",
            "| signal | meaning |\n|---|---|",
            *signals,
            "",
        ]
    )


def _possible_signals(phase: RolloutPhase) -> str:
    row = TABLE[phase]
    return f"only {', '.join(row)}" if row else "nothing any more"


if __name__ == "__main__":
    sys.stdout.write(document())

"""Beside tools that compare windows of 1,000 rows with a reference: Evidently, alibi-detect, NannyML.

Each at its defaults, in the environment that `make bench` makes for it too (`benchmarks.speed.peers`).
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.drift_quality import cases, ours
from benchmarks.drift_quality.cases import Case, Columns, named
from benchmarks.drift_quality.measures import Trial
from benchmarks.speed import peers
from benchmarks.speed.peers import NotThere, Peer

CASES: Sequence[Case] = tuple(
    case
    for case in (*cases.STILL, *cases.CHANGES)
    if case.name in ("normal", "mean + 0.5 sd", "missing 1 -> 5 %")
)
COLUMNS = 10
STABLE, CHANGED, AFTER = 10_000, 20_000, 3_000
"""Rows of a stream without a change; before one; after it."""
JUDGED = 2_000
"""Of those before a change, what the others get: they remember none, and Evidently takes seconds a window."""
WINDOW = 1_000
OURS = "driftloop"
SECONDS = 300.0
"""For all cases of one tool; Evidently needs the most by far."""


@dataclass(frozen=True)
class Beside:
    """What tools said of the same streams, and why some said nothing."""

    found: Mapping[tuple[str, str], Sequence[Trial]]
    """By tool, with its version, and case; ours first."""
    missing: Mapping[str, str]
    """Tool -> why it isn't there."""

    @property
    def tools(self) -> list[str]:
        """Those that are there."""
        return list(dict.fromkeys(tool for tool, _ in self.found))


@dataclass(frozen=True)
class Stream:
    """Columns of a case, shape (columns, rows) each, and the reference they are compared with."""

    reference: Columns
    rows: Columns
    change: int | None

    @classmethod
    def of(cls, case: Case, random: cases.Random) -> "Stream":
        """Change or none, a whole number of windows."""
        stable = STABLE if case.after is None else CHANGED
        reference = case.before(random, COLUMNS, ours.REFERENCE)
        change = None if case.after is None else stable
        return cls(reference, case.stream(random, COLUMNS, stable, AFTER), change)

    @property
    def judged(self) -> "Stream":
        """What the others get of it."""
        if self.change is None:
            return self
        return Stream(self.reference, self.rows[:, self.change - JUDGED :], JUDGED)

    def trials(self, alarms: Sequence[Sequence[int]]) -> list[Trial]:
        """One a column, of its `alarms`."""
        return [Trial(own, self.rows.shape[1], self.change) for own in alarms]


def measured(seed: int, environments: Path = peers.ENVIRONMENTS) -> Beside:
    """All tools that are there, or can be installed, on the same streams."""
    random = np.random.default_rng((seed, 1))
    streams = {case.name: Stream.of(case, random) for case in CASES}
    found = {(OURS, name): stream.trials(_ours(stream)) for name, stream in streams.items()}
    judged = {name: stream.judged for name, stream in streams.items()}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "columns.npz"
        _write(file, judged)
        for peer in peers.PEERS:
            try:
                tool, windows = _judged(peer, file, environments)
            except NotThere as reason:
                missing[peer.name.partition(",")[0]] = str(reason)
                continue
            for name, stream in judged.items():
                found[tool, name] = stream.trials(ended(windows[name]))
    return Beside(found, missing)


def ended(windows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Alarms of each column, in rows seen, from the columns that drifted in each window.

    >>> ended([[], [3], [0, 3]])[3]
    [2000, 3000]
    """
    return [
        [WINDOW * place for place, drifted in enumerate(windows, 1) if column in drifted]
        for column in range(COLUMNS)
    ]


def _ours(stream: Stream) -> list[list[int]]:
    return list(ours.alarms(ours.profiled(named(stream.reference)), named(stream.rows)).values())


def _write(file: Path, streams: Mapping[str, Stream]) -> None:
    arrays = {f"reference.{name}": stream.reference for name, stream in streams.items()}
    arrays |= {f"stream.{name}": stream.rows for name, stream in streams.items()}
    np.savez(file, allow_pickle=False, names=np.array(list(streams)), **arrays)


def _judged(peer: Peer, file: Path, environments: Path) -> tuple[str, Mapping[str, list[list[int]]]]:
    """Its name with version, and by case the columns that it found in each window. Raises NotThere."""
    script = str(Path(__file__).with_name("peer.py"))
    python = str(peers.environment(peer, environments))
    answer = json.loads(peers.output_of([python, script, peer.kind, str(file)], SECONDS).splitlines()[-1])
    return f"{peer.name.partition(',')[0]} {answer['version']}", answer["drifted"]

"""The drift path inside one process against tools that other people use, over the same rows.

Each tool gets an environment of its own, made once and kept under `.driftloop/bench-envs`: they can't agree
on pandas or numpy, with each other or with us.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.speed import traffic
from benchmarks.speed.table import Row
from driftloop.mlops_core.data.features import Column
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.schemas.settings import DriftSettings

WINDOW = 1_000
"""Rows that are handed over at a time; the others judge as many at once."""
ROWS = 200_000
ENVIRONMENTS = Path(".driftloop/bench-envs")
INSTALL_SECONDS, RUN_SECONDS = 600.0, 300.0


@dataclass(frozen=True)
class Peer:
    """A tool, what has to be installed for it, and how many rows it is given."""

    kind: str
    name: str
    pins: tuple[str, ...]
    rows: int
    least: float | None = None
    """How many times as fast as it we want to be."""


PEERS = (
    # pandas 3 has lost what Evidently imports; NannyML forgets to ask for statsmodels
    Peer("evidently", "Evidently, DataDriftPreset", ("evidently==0.7.23", "pandas<3"), 10_000, 300),
    Peer("alibi-detect", "alibi-detect, TabularDrift", ("alibi-detect==0.13.0",), 100_000, 5),
    Peer("nannyml", "NannyML, univariate drift", ("nannyml==0.13.1", "pandas<3", "statsmodels"), 100_000),
)


class NotThere(RuntimeError):
    """A tool that can't be installed or doesn't run here; says why."""


def measure(rows: int = ROWS) -> list[Row]:
    """Ours, then each of the others; one that isn't there is a row that says so."""
    ours = in_process(rows)
    found = [
        Row(
            f"driftloop: bins, micro-batches, detectors, {WINDOW:,} rows at a time",
            1e6 / ours,
            "rows per CPU second",
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npz"
        _write(file, max(peer.rows for peer in PEERS))
        for peer in PEERS:
            found += compare(peer, file, ours)
    return found


def in_process(rows: int) -> float:
    """CPU microseconds a row from numpy columns to verdicts."""
    columns, scores = traffic.columns(rows), np.random.default_rng(2).random(rows)
    profile, at = traffic.profile(), np.arange(rows)
    summariser = Summariser(len(profile.columns))
    drift = DistributionDrift(profile, DriftSettings())
    began = time.process_time()
    for first in range(0, rows, WINDOW):
        part = slice(first, min(first + WINDOW, rows))
        window = {name: values[part] for name, values in columns.items()}
        drift.update(*summariser.add(profile.bins(window, scores[part], len(scores[part])), at[part]))
    return (time.process_time() - began) / rows * 1e6


def compare(peer: Peer, file: Path, ours: float, environments: Path = ENVIRONMENTS) -> list[Row]:
    """One tool over the rows of `file`, against our microseconds a row."""
    what = f"— {peer.name}, window {WINDOW:,}"
    try:
        answer = _run(environment(peer, environments), peer, file)
    except NotThere as reason:
        return [Row.missing(what, f"not measured: {reason}")]
    peer_microseconds = float(str(answer["microseconds"]))
    name = peer.name.partition(",")[0]
    faster = f"driftloop / {name}"
    return [
        Row(what.replace(name, f"{name} {answer['version']}", 1), 1e6 / peer_microseconds, "rows"),
        Row(faster, peer_microseconds / ours, "x")
        if peer.least is None
        else Row.at_least(faster, peer_microseconds / ours, "x", peer.least),
    ]


def _write(file: Path, rows: int) -> None:
    """Reference and rows, each column as numpy without pickled objects."""
    parts = {"reference": traffic.columns(traffic.REFERENCE_ROWS, seed=8), "current": traffic.columns(rows)}
    arrays = {
        f"{part}.{name}": _bare(column) for part, columns in parts.items() for name, column in columns.items()
    }
    np.savez(file, allow_pickle=False, **arrays)


def _bare(column: Column) -> "np.ndarray[tuple[int], np.dtype[np.generic]]":
    values = np.asarray(column)
    return values.astype(str) if values.dtype == object else values


def environment(peer: Peer, environments: Path = ENVIRONMENTS) -> Path:
    """Its Python; made the first time, which takes half a minute and a gigabyte. Raises NotThere."""
    marks = hashlib.sha256(repr((peer.pins, sys.version_info[:2])).encode()).hexdigest()[:8]
    place = environments.absolute() / f"{peer.kind}-{marks}"
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        print(f"  installing {peer.kind} ...", file=sys.stderr, flush=True)  # noqa: T201
        uv = str(Path(sys.executable).with_name("uv"))
        output_of([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)], INSTALL_SECONDS)
        output_of([uv, "pip", "install", "--quiet", "--python", str(python), *peer.pins], INSTALL_SECONDS)
        (place / "ready").touch()
    return python


def _run(python: Path, peer: Peer, file: Path) -> Mapping[str, object]:
    script = str(Path(__file__).with_name("peer.py"))
    output = output_of([str(python), script, peer.kind, str(file), str(peer.rows)], RUN_SECONDS)
    answer: Mapping[str, object] = json.loads(output.splitlines()[-1])
    return answer


def output_of(command: list[str], seconds: float) -> str:
    """What it prints. Raises NotThere with the last line of its complaint."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotThere(str(error)) from error
    if answer.returncode:
        raise NotThere((answer.stderr.strip() or f"exit code {answer.returncode}").splitlines()[-1])
    return answer.stdout

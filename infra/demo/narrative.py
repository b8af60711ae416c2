"""Listens to the loop's events while the year passes, and tells the short version of it."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infra.demo.summary import Facts
from schemas.events import (
    AnyEvent,
    DriftDetected,
    Event,
    PerformanceMeasured,
    RetrainRequested,
    RolloutAdvanced,
    RolloutFailed,
    RolloutPromoted,
    RolloutRolledBack,
    RolloutStarted,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)
from schemas.settings import Settings
from streams.reading import Reader

LINE_SECONDS = 10.0
"""Between two progress lines where the output is no terminal."""
DRIFT_LINES = 3
"""Drift sentences told in full; weather drifts every day, so later ones only count."""


class Terminal:
    """Lines, and a progress line below them that is drawn over where somebody watches."""

    def __init__(self) -> None:
        self._watched = sys.stdout.isatty()
        self._began = time.monotonic()
        self._told = 0.0
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """A line that stays."""
        with self._lock:
            stamp = f"{time.monotonic() - self._began:6.1f} s  " if line else ""
            self._write(("\r\x1b[K" if self._watched else "") + stamp + line + "\n")

    def progress(self, line: str) -> None:
        """A line that the next one replaces; in a log, one now and then."""
        with self._lock:
            if self._watched:
                self._write(f"\r\x1b[K{line}")
            elif time.monotonic() - self._told > LINE_SECONDS:
                self._told = time.monotonic()
                self._write(line + "\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class Narrative:
    """A thread that reads every event of the loop. `armed` is the file that makes one training go bad."""

    def __init__(self, settings: Settings, terminal: Terminal, armed: Path | None) -> None:
        self._terminal = terminal
        self._armed = armed
        self._counts: Counter[str] = Counter()
        self._busy: set[str] = set()
        self._first_drift: float | None = None
        self._closed_after: float | None = None
        self.labelled = 0
        self._ended = threading.Event()
        self._reader = Reader(settings.kafka)
        self._thread = threading.Thread(target=self._listen, name="narrative", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._reader.close()

    @property
    def settled(self) -> bool:
        """No training and no rollout is under way."""
        return not self._busy

    def progress(self, asked: int, total: int, now: int, seconds: float) -> None:
        """Where the year is."""
        day = datetime.fromtimestamp(now / 1000, UTC).strftime("%d %b")
        done = f"{asked / total:4.0%}  {asked:,} flights, {asked / max(seconds, 0.1):,.0f} a second"
        self._terminal.progress(f"{day}  {done}; {self._counted()}")

    def facts(self) -> Facts:
        """What happened, counted."""
        count = self._counts
        return Facts(
            drifts=count["DriftDetected"],
            requests=count["RetrainRequested"],
            refusals=count["RetrainRefused"],
            trained=count["TrainingCompleted"],
            refused_by_gate=count["TrainingRefused"],
            failed=count["TrainingFailed"],
            promoted=max(count["RolloutPromoted"] - 1, 0),  # the first is January's
            rolled_back=count["RolloutRolledBack"],
            closed_after=self._closed_after,
        )

    def _counted(self) -> str:
        facts = self.facts()
        return (
            f"{facts.drifts} drifts, {facts.requests} retrainings, "
            f"{facts.promoted} promoted, {facts.rolled_back} rolled back"
        )

    def _listen(self) -> None:
        while not self._ended.is_set():
            for event in self._reader.events(0.2):
                self._counts[type(event).__name__] += 1
                self._note(event)
                line = self._line(event)
                if line is not None:
                    day = datetime.fromtimestamp(event.at / 1000, UTC).strftime("%d %b")
                    self._terminal.say(f"{day}  {line}")

    def _note(self, event: AnyEvent) -> None:
        """What the demo itself needs to know."""
        match event:
            case PerformanceMeasured():
                self.labelled = max(self.labelled, event.labelled)
            case DriftDetected() if self._first_drift is None:
                self._first_drift = time.monotonic()
            case RetrainRequested() | RolloutStarted():
                self._busy.add(event.id if isinstance(event, RetrainRequested) else event.rollout)
            case TrainingCompleted() | TrainingRefused() | TrainingFailed():
                self._busy.discard(event.caused_by or "")
            case RolloutPromoted() | RolloutRolledBack() | RolloutFailed():
                self._busy.discard(event.rollout)
            case _:
                pass
        if isinstance(event, RolloutPromoted) and event.stable is not None:
            self._promoted()

    def _promoted(self) -> None:
        """The loop has closed; the first time, the next training is made to go bad."""
        if self._closed_after is None and self._first_drift is not None:
            self._closed_after = time.monotonic() - self._first_drift
            if self._armed is not None:
                self._armed.touch()

    def _line(self, event: AnyEvent) -> str | None:
        if isinstance(event, DriftDetected) and self._counts["DriftDetected"] > DRIFT_LINES:
            return None
        told = _TOLD.get(type(event))
        return None if told is None else told(event)


_TOLD: Mapping[type[Event], Callable[[Any], str]] = {
    DriftDetected: lambda event: f"drift: {event.sentence}",
    RetrainRequested: lambda event: f"retraining: {event.reason}",
    TrainingCompleted: lambda event: (
        f"version {event.version} in {event.seconds:.1f} s: {event.gate.sentence}"
    ),
    TrainingRefused: lambda event: f"challenger refused: {event.reason}",
    TrainingFailed: lambda event: f"training failed: {event.error}",
    RolloutAdvanced: lambda event: f"canary: {event.sentence}",
    RolloutPromoted: lambda event: f"promoted: {event.sentence}",
    RolloutRolledBack: lambda event: f"rolled back: {event.sentence}",
    RolloutFailed: lambda event: f"rollout failed: {event.sentence}",
}

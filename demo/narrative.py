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

from driftloop.demo.summary import Facts
from driftloop.infra.cli import requests
from driftloop.schemas.events import (
    ChallengerProven,
    DeployRequested,
    DriftDetected,
    Event,
    ModelRegistered,
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
from driftloop.schemas.settings import Settings
from driftloop.streams.topic_reader import TopicReader

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
        self._settings = settings
        self._terminal = terminal
        self._armed = armed
        self._counts: Counter[str] = Counter()
        self._trainings: set[str] = set()
        self._rollouts: dict[str, bool] = {}
        """Rollouts under way, and whether they have traffic yet."""
        self._sabotaged: str | None = None
        """The version that went bad."""
        self._first_drift: float | None = None
        self._closed_after: float | None = None
        self.labelled = 0
        self._ended = threading.Event()
        self._reader = TopicReader(settings.kafka)
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
    def is_idle(self) -> bool:
        """No training and no rollout is under way."""
        return not self._trainings and not self._rollouts

    @property
    def training(self) -> bool:
        """Whether a challenger is being trained, or started."""
        return bool(self._trainings) or not all(self._rollouts.values())

    def progress(self, asked: int, total: int, now: int, seconds: float) -> None:
        """Where the year is."""
        day = datetime.fromtimestamp(now / 1000, UTC).strftime("%d %b")
        done = f"{asked / total:4.0%}  {asked:,} flights, {asked / max(seconds, 0.1):,.0f} a second"
        self._terminal.progress(f"{day}  {done}; {self._progress_counts()}")

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
            sabotaged=self._sabotaged,
        )

    def _progress_counts(self) -> str:
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

    def _note(self, event: Event) -> None:
        """What the demo itself needs to know."""
        match event:
            case PerformanceMeasured():
                self.labelled = max(self.labelled, event.labelled)
            case DriftDetected() if self._first_drift is None:
                self._first_drift = time.monotonic()
            case RetrainRequested():
                self._trainings.add(event.id)
            case TrainingCompleted() | TrainingRefused() | TrainingFailed():
                self._trainings.discard(event.caused_by or "")
                self._sabotage(event)
            case RolloutStarted():
                self._rollouts[event.rollout] = False
            case RolloutAdvanced():
                self._rollouts[event.rollout] = True
            case RolloutPromoted() | RolloutRolledBack() | RolloutFailed():
                self._rollouts.pop(event.rollout, None)
            case _:
                pass
        if isinstance(event, RolloutPromoted) and event.stable is not None and self._closed_after is None:
            self._closed_after = time.monotonic() - (self._first_drift or time.monotonic())

    def _sabotage(self, ended: TrainingCompleted | TrainingRefused | TrainingFailed) -> None:
        """Arm the trainings after January's, until one of them was registered and so went bad."""
        if self._armed is None or self._sabotaged is not None:
            return
        first = self._counts["TrainingCompleted"] == 1 and isinstance(ended, TrainingCompleted)
        if first or not isinstance(ended, TrainingCompleted):
            self._armed.touch()
        else:
            self._sabotaged = ended.version
            self._terminal.say(f"(version {ended.version} was sabotaged behind the gate's back. Labels would")
            self._terminal.say(" never let it serve; it is deployed by hand all the same: watch it)")
            # Its registration may be read later (topics have no order); its id follows from this event.
            registered = ModelRegistered.following(ended, version=ended.version, run_id=ended.run_id)
            request = DeployRequested.following(registered, version=ended.version)
            requests.publish(self._settings, request)

    def _line(self, event: Event) -> str | None:
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
    ChallengerProven: lambda event: f"proven: {event.sentence}",
    RolloutAdvanced: lambda event: f"canary: {event.sentence}",
    RolloutPromoted: lambda event: f"promoted: {event.sentence}",
    RolloutRolledBack: lambda event: f"rolled back: {event.sentence}",
    RolloutFailed: lambda event: f"rollout failed: {event.sentence}",
}

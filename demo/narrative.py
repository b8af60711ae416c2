"""Reads the loop's events during the replay and prints them in short."""

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
"""Seconds between two progress lines where the output is not a terminal."""
DRIFT_LINES = 3
"""Drift sentences that are printed; weather drifts every day, so later ones are only counted."""


class Terminal:
    """Prints lines, and below them a progress line, which a terminal overwrites."""

    def __init__(self) -> None:
        self._watched = sys.stdout.isatty()
        self._began = time.monotonic()
        self._told = 0.0
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """Print a line."""
        with self._lock:
            stamp = f"{time.monotonic() - self._began:6.1f} s  " if line else ""
            self._write(("\r\x1b[K" if self._watched else "") + stamp + line + "\n")

    def progress(self, line: str) -> None:
        """Replace the progress line; in a log, print one every `LINE_SECONDS`."""
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
    """A thread that reads every event of the loop. `armed` is the file that sabotages one training."""

    def __init__(self, settings: Settings, terminal: Terminal, armed: Path | None) -> None:
        self._settings = settings
        self._terminal = terminal
        self._armed = armed
        self._counts: Counter[str] = Counter()
        self._trainings: set[str] = set()
        self._rollouts: dict[str, bool] = {}
        """Rollouts in progress, and whether they have traffic yet."""
        self._sabotaged: str | None = None
        """The sabotaged version."""
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
        """Whether no training and no rollout is in progress."""
        return not self._trainings and not self._rollouts

    @property
    def training(self) -> bool:
        """Whether a challenger is being trained, or started."""
        return bool(self._trainings) or not all(self._rollouts.values())

    def progress(self, asked: int, total: int, now: int, seconds: float) -> None:
        """Print the day, the requests and the counts so far."""
        day = datetime.fromtimestamp(now / 1000, UTC).strftime("%d %b")
        done = f"{asked / total:4.0%}  {asked:,} flights, {asked / max(seconds, 0.1):,.0f} a second"
        self._terminal.progress(f"{day}  {done}; {self._progress_counts()}")

    def facts(self) -> Facts:
        """Counts of the events so far."""
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
        """Update the state that the demo waits for."""
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
        """Arm the trainings after January's until a sabotaged version is registered."""
        if self._armed is None or self._sabotaged is not None:
            return
        first = self._counts["TrainingCompleted"] == 1 and isinstance(ended, TrainingCompleted)
        if first or not isinstance(ended, TrainingCompleted):
            self._armed.touch()
        else:
            self._sabotaged = ended.version
            self._terminal.say(
                f"(version {ended.version} was sabotaged after the gate passed it. Labels would"
            )
            self._terminal.say(" never prove it better; the demo deploys it anyway, to show the rollback)")
            # Its registration may be read later (topics have no order); its id follows from this event.
            registered = ModelRegistered.following(ended, version=ended.version, run_id=ended.run_id)
            request = DeployRequested.following(registered, version=ended.version)
            requests.publish(self._settings, request)

    def _line(self, event: Event) -> str | None:
        if isinstance(event, DriftDetected) and self._counts["DriftDetected"] > DRIFT_LINES:
            return None
        sentence = _SENTENCES.get(type(event))
        return None if sentence is None else sentence(event)


_SENTENCES: Mapping[type[Event], Callable[[Any], str]] = {
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

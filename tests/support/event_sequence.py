"""A model's life as its events tell it: calm windows, drift, retraining, proofs, a promotion, a rollback.

    narrator = Narrator("flights")
    events = narrator.whole_story()      # everything, in the order in which it happened
    more = narrator.calm(3)              # ... and on from there

Deterministic for a seed; ids follow from their causes as everywhere, so two tellings are the same events.
"""

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TypeVar

from driftloop.schemas import ids
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import (
    AlertRaised,
    ChallengerProven,
    ColumnDrift,
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    DriftState,
    Event,
    GateEvidence,
    ModelRegistered,
    Outcome,
    PerformanceEstimated,
    PerformanceMeasured,
    RetrainRefused,
    RetrainRequested,
    RolloutAdvanced,
    RolloutEvent,
    RolloutHeld,
    RolloutPerformed,
    RolloutPromoted,
    RolloutRolledBack,
    RolloutStarted,
    Span,
    TrainingCompleted,
    TrainingStarted,
    VerdictEvidence,
)
from tests.support.selection_events import Pooled, Requested

Rolled = TypeVar("Rolled", bound=RolloutEvent)
START = 1_772_409_600_000
"""2026-03-02 00:00:00 UTC."""
STEP = 10 * 60 * 1000
WINDOW_ROWS, BINS = 1024, 32
PROVEN_STEPS = (10, 50)
"""Shares of a canary that its requests judge."""
STEPS = (1, 5, 10, 25, 50, 100)
NUMERIC: Mapping[str, tuple[float, float]] = {
    "score": (0.32, 0.12),
    "prior_delay": (14, 18),
    "temperature": (11, 7),
    "wind_speed": (9, 4),
    "visibility": (9.1, 1.4),
    "precipitation": (0.4, 0.3),
    "distance": (1040, 420),
    "departure_hour": (13.5, 4.2),
    "seats": (158, 31),
    "plane_age": (11, 5),
    "airport_load": (38, 9),
    "turnaround_minutes": (52, 14),
    "pressure": (1017, 7),
}
"""Columns of numbers: mean and standard deviation, in their own unit."""
CARRIERS = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "other", "unseen")
CARRIER_SHARES = (0.174, 0.162, 0.161, 0.143, 0.097, 0.078, 0.061, 0.055, 0.036, 0.015, 0.017, 0.0)
MISSING = 0.004


@dataclass
class Narrator:
    """Tells what happens to one model next; every method returns the events in order."""

    model: str = "flights"
    at: int = START
    version: str = "1"
    error: float = 0.061
    """The champion's share of wrong classes."""
    seed: int = 7
    moved: dict[str, float] = field(default_factory=dict)
    """Columns that are off, by how many reference standard deviations."""
    labelled: int = 0
    offset: int = 0
    clock: int = START
    """Wall clock (UTC, ms): only requests go by it."""
    window: DriftMeasured | None = None
    performance: PerformanceMeasured | None = None

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  # a story, not a secret
        self._evidence: DriftDetected | None = None
        self._usual = self.error
        self.pooled = Pooled(self.model, self.seed)
        self.gains: dict[str, float] = {}
        """How much less than usual a version loses a row."""
        self.registered = ModelRegistered(
            id=ids.derive(self.model, "1"), at=self.at, model=self.model, version="1", run_id=_run("1")
        )

    def whole_story(self) -> list[Event]:
        """A first version, drift, a refused and a granted retraining, a proof and a promotion by requests.

        Then a version that is no better, judged by the labels of its requests and rolled back, and one that
        is worse and only loses weight.
        """
        told = self.first_version()
        told += self.calm(40)
        told += self.drift({"prior_delay": 0.62, "temperature": -0.45}, error=0.112, windows=14)
        told += self.refusal("cooldown: 18.2 of 24 h since the last training")
        told += self.calm(5)
        told += self.retraining("2", "concept", error=0.058)
        told += self.proof(gain=0.012)
        told += self.proven_rollout(error=0.058)
        told += self.calm(24)
        told += self.retraining("3", "follow-up", error=0.057)
        told += self.unscored("its features don't travel with the examples")
        told += self.rollout(error=0.131, until=10)
        told += self.calm(12)
        told += self.retraining("4", "follow-up", error=0.062)
        self.gains["4"] = -0.006
        told += self.calm(16)
        told += self.drift({"wind_speed": 0.41}, error=0.066, windows=6)
        return told

    def first_version(self) -> list[Event]:
        """Version 1 is registered by hand and becomes champion."""
        started = self._rolled(RolloutStarted, self.registered, steps=STEPS)
        promoted = self._rolled(RolloutPromoted, started)
        self._to_pool(self.registered, promoted)
        return [self.registered, started, promoted]

    def calm(
        self, windows: int, shares: Mapping[str, int] | None = None, canary_error: float = 0.0
    ) -> list[Event]:
        """Windows and their labels; `shares` is the traffic in percent, champion alone by default."""
        told: list[Event] = []
        for _ in range(windows):
            self.at += STEP
            self.window = self._measured(self.version)
            told.append(self.window)
            told += [self._measured(other) for other in shares or {} if other != self.version]
            self.performance = self._labels(shares or {self.version: 100}, canary_error)
            told += [self.performance, self._expected()]
            told += self.pooled.scored(self.at - STEP, self.at, self.gains)
        return told

    def drift(self, moved: Mapping[str, float], error: float, windows: int) -> list[Event]:
        """Columns move over some windows and the error follows; ends with the detection of both."""
        told: list[Event] = []
        began, before = self.at, self.error
        for step in range(1, windows + 1):
            part = 1 / (1 + math.exp(-8 * (step / windows - 0.4)))
            self.moved |= {name: size * part for name, size in moved.items()}
            self.error = before + (error - before) * part
            told += self.calm(1)
        worst = sorted(moved, key=lambda name: -abs(moved[name]))
        severity = max(map(abs, moved.values()))
        said = f"{' and '.join(worst)} moved by up to {severity:.2f} standard deviations"
        fields = {"changed_at": began}
        told.append(
            self._detected(
                self.last_window, DriftKind.FEATURE, said, columns=worst, severity=severity, **fields
            )
        )
        if error > before + 0.02:
            said = f"the error rate went from {before:.1%} to {error:.1%}"
            told.append(
                self._detected(
                    self.last_performance,
                    DriftKind.CONCEPT,
                    said,
                    columns=[],
                    severity=error - before,
                    **fields,
                )
            )
        sentence = f"{self.model}: {' and '.join(worst)} drifted away from what v {self.version} learned"
        told.append(AlertRaised.following(told[-1], severity="warning", sentence=sentence))
        return told

    def refusal(self, reason: str) -> list[Event]:
        """The policy says no to the newest window's evidence."""
        return [RetrainRefused.following(self.evidence, at=self.at, reason=reason)]

    def retraining(self, version: str, trigger: str, error: float) -> list[Event]:
        """Asked for, carried out, let through by the gate, registered."""
        requested = RetrainRequested.following(
            self.evidence,
            at=self.at,
            reason="concept drift, 4,250 new labels since the last training",
            trigger=trigger,
            since=self.at - 20 * STEP,
            rows=20_000,
        )
        started = TrainingStarted.following(requested)
        gate = GateEvidence(
            passed=True,
            sentence=f"v {version} loses {self.error - error:.3f} less a row than v {self.version}",
            rows=4000,
            champion=self.version,
            champion_loss=self.error * 0.8,
            challenger_loss=error * 0.8,
            low=0.011,
            high=0.034,
        )
        completed = TrainingCompleted.following(
            started,
            version=version,
            run_id=_run(version),
            rows=16_000,
            seconds=3.84,
            metrics={"auc": 0.931 + 0.01 * int(version) / 10, "loss": error * 0.8},
            gate=gate,
        )
        self.registered = ModelRegistered.following(completed, version=version, run_id=_run(version))
        self._evidence = None
        self._to_pool(self.registered)
        return [requested, started, completed, self.registered]

    def proof(self, gain: float) -> list[Event]:
        """Labels compare the registered version, which loses `gain` less a row, until it is proven."""
        self.gains[self.registered.version] = gain
        told: list[Event] = []
        while not any(isinstance(event, ChallengerProven) for event in told):
            told += self.calm(1)
        return told

    def unscored(self, reason: str) -> list[Event]:
        """The registered version can't be scored, so that the labels of its own requests have to judge."""
        version = self.registered.version
        self.pooled.known.pool.remove(version)
        sentence = f"v{version} is judged by the labels of its own requests: {reason}"
        fields = {"version": version, "champion": self.version, "evidence": "canary"}
        return [ChallengerProven.following(self.registered, at=self.at, sentence=sentence, **fields)]

    def proven_rollout(self, error: float, until: int | None = None, slower: float = 1.0) -> list[Event]:
        """The registered version is proven, and its requests are judged at 10 % and at 50 %.

        With `until` (seconds) the story ends after so many of the first step. A canary that is `slower` is
        rolled back.
        """
        names = (self.registered.version, self.version)
        started = self._rolled(RolloutStarted, self.registered, steps=PROVEN_STEPS, evidence="paired")
        warm = self._rolled(RolloutPerformed, started, phase="warming", performed_at=self.clock)
        told: list[Event] = [started, warm]
        cause: Event = warm
        verdict: VerdictEvidence | None = None
        for step, share in enumerate(PROVEN_STEPS, 1):
            said = {"verdict": verdict, "sentence": _said(verdict)}
            advanced = self._rolled(RolloutAdvanced, cause, phase="canary", step=step, weight=share, **said)
            shifted = self._rolled(
                RolloutPerformed, advanced, phase="canary", step=step, weight=share, performed_at=self.clock
            )
            requests = Requested(self.model, names, share, self.clock)
            told += [advanced, shifted, *requests.answered(until or 12, slower=slower)]
            held = self._rolled(
                RolloutHeld,
                shifted,
                phase="canary",
                step=step,
                weight=share,
                verdict=requests.verdict,
                sentence=requests.verdict.sentence,
            )
            told += [held, *self.calm(1, {self.version: 100 - share, names[0]: share}, error)]
            told += requests.recomputed(self.at, 9 * share)
            if until:
                return told
            told += requests.answered(60, slower=slower)
            self.clock, verdict, cause = requests.now, requests.verdict, held
            if verdict.outcome == "fail":
                break
        return told + self._ended(cause, error, verdict, until=100 if slower == 1 else share)

    def rollout(self, error: float, until: int = 100) -> list[Event]:
        """The registered version, from 1 % to everything; rolled back at `until` %, if that is less."""
        registered = self.registered
        started = self._rolled(RolloutStarted, registered, steps=STEPS)
        warm = self._rolled(RolloutPerformed, started, phase="warming")
        told: list[Event] = [started, warm]
        cause: Event = warm
        verdict: VerdictEvidence | None = None
        for step, weight in enumerate([share for share in STEPS if share <= until]):
            advanced = self._rolled(
                RolloutAdvanced,
                cause,
                phase="canary",
                step=step,
                weight=weight,
                verdict=verdict,
                sentence=_said(verdict),
            )
            shares = {self.version: 100 - weight, registered.version: weight}
            seen = min(error, self.error - 0.003) if weight < until < 100 else error
            told += [advanced, *self.calm(2, shares, seen)]
            verdict, cause = self._verdict(seen, weight, until), advanced
            if weight == STEPS[0]:
                held = self._rolled(
                    RolloutHeld,
                    cause,
                    phase="canary",
                    step=step,
                    weight=weight,
                    verdict=verdict,
                    sentence=_said(verdict),
                )
                told += [held, *self.calm(2, shares, seen)]
                verdict, cause = self._verdict(seen, 5, until), held
        return told + self._ended(cause, error, verdict, until)

    def resolution(self, detected: DriftDetected) -> list[Event]:
        """The episode is over and its columns are back."""
        for name in detected.columns:
            self.moved.pop(name, None)
        fields = {"version": detected.version, "kind": detected.kind, "columns": detected.columns}
        id_ = ids.derive(detected.id, "DriftResolved", *detected.columns)
        return [DriftResolved.following(detected, id=id_, at=self.at, **fields)]

    @property
    def evidence(self) -> Event:
        """What a retraining may answer to: the newest drift, else the newest labels."""
        return self._evidence or self.last_performance

    @property
    def last_window(self) -> DriftMeasured:
        """The champion's newest window."""
        assert self.window is not None, "tell some calm windows first"
        return self.window

    @property
    def last_performance(self) -> PerformanceMeasured:
        """The newest labels."""
        assert self.performance is not None, "tell some calm windows first"
        return self.performance

    def _ended(self, cause: Event, error: float, verdict: VerdictEvidence | None, until: int) -> list[Event]:
        told = {"verdict": verdict, "sentence": _said(verdict)}
        if until == 100:
            promoted = self._rolled(RolloutPromoted, cause, **told)
            self._to_pool(promoted)
            self.version, self.error, self.moved = promoted.version, error, {}
            return [promoted]
        ended = self._rolled(RolloutRolledBack, cause, **told)
        self._to_pool(ended)
        sentence = f"{self.model}: v {ended.version} was rolled back at {until} %: {_said(verdict)}"
        return [ended, AlertRaised.following(ended, severity="critical", sentence=sentence)]

    def _rolled(self, kind: type[Rolled], cause: Event, **fields: object) -> Rolled:
        stable = None if self.registered.version == self.version else self.version
        event_id = ids.derive(cause.id, kind.__name__, self.registered.version)
        common = {"rollout": self.registered.id, "version": self.registered.version, "stable": stable}
        return kind.following(cause, id=event_id, at=self.at, **common, **fields)

    def _to_pool(self, *events: Event) -> None:
        for event in events:
            self.pooled.heard(event)

    def _verdict(self, error: float, weight: int, until: int) -> VerdictEvidence:
        canary, stable = self.registered.version, self.version
        rows = weight * 62
        worse = round((error - self.error) * 0.8, 4)
        width = round(1.6 / math.sqrt(rows), 4)
        outcome = "hold" if rows < 100 else "fail" if until < 100 and weight >= until else "pass"
        told = {
            "hold": f"{rows} of 300 labels of v {canary} so far",
            "fail": f"v {canary} lost {worse:.3f} more per prediction than v {stable} (at least 0.004 more)",
            "pass": f"v {canary} lost {-worse:.3f} less per prediction than v {stable} on {rows:,} labels",
        }
        return VerdictEvidence.model_validate(
            {
                "outcome": outcome,
                "sentence": told[outcome],
                "canary_rows": rows,
                "stable_rows": (100 - weight) * 62,
                "canary_loss": error * 0.8,
                "stable_loss": self.error * 0.8,
                "low": 0.0041 if outcome == "fail" else worse - width,
                "high": worse + width,
            }
        )

    def _detected(self, cause: Event, kind: DriftKind, sentence: str, **fields: object) -> DriftDetected:
        told = {"version": self.version, "kind": kind, "sentence": sentence, **fields}
        detected = DriftDetected.following(cause, **told)
        self._evidence = detected
        return detected

    def _measured(self, version: str) -> DriftMeasured:
        self.offset += WINDOW_ROWS
        moved = self.moved if version in ("1", self.version) else {}
        columns = {name: self._column(name, moved.get(name, 0.0)) for name in NUMERIC}
        return DriftMeasured(
            id=ids.derive(self.model, version, "window", self.at),
            at=self.at,
            model=self.model,
            version=version,
            rows=WINDOW_ROWS,
            since=self.at - STEP,
            until=self.at,
            spans=[
                Span(topic="predictions", partition=p, first=self.offset // 4, last=self.offset // 4 + 255)
                for p in range(4)
            ],
            columns={**columns, "carrier": self._carrier()},
        )

    def _column(self, name: str, shift: float) -> ColumnDrift:
        mean, deviation = NUMERIC[name]
        seen = shift + self._random.gauss(0, 0.03)
        cuts = [NormalDist().inv_cdf(index / BINS) for index in range(1, BINS)]
        below = [0.0, *(NormalDist(seen).cdf(cut) for cut in cuts), 1.0]
        shares = [
            max(0.0, (high - low) * (1 - MISSING) + self._random.gauss(0, 0.003))
            for low, high in itertools.pairwise(below)
        ]
        return ColumnDrift(
            severity=abs(seen),
            channel="location",
            drifted=abs(seen) > 0.25,
            state=DriftState.DRIFTED if abs(seen) > 0.25 else DriftState.STABLE,
            reference=[*[(1 - MISSING) / BINS] * BINS, MISSING],
            current=[*shares, MISSING],
            edges=[mean + cut * deviation for cut in cuts],
        )

    def _carrier(self) -> ColumnDrift:
        current = [max(0.0, share + self._random.gauss(0, 0.004)) for share in CARRIER_SHARES]
        return ColumnDrift(
            severity=abs(self._random.gauss(0, 0.04)),
            channel="share of UA",
            drifted=False,
            reference=[*CARRIER_SHARES, 0.001],
            current=[*current, 0.001],
            categories=CARRIERS,
        )

    def _labels(self, shares: Mapping[str, int], canary_error: float) -> PerformanceMeasured:
        rows = {version: round(1000 * share / 100) for version, share in shares.items()}
        self.labelled += sum(rows.values())
        rates = {version: self.error if version == self.version else canary_error for version in rows}
        return PerformanceMeasured(
            id=ids.derive(self.model, "labels", self.at),
            at=self.at,
            model=self.model,
            since=self.at - STEP,
            until=self.at,
            rows=sum(rows.values()),
            labelled=self.labelled,
            versions={version: self._outcome(rows[version], rates[version]) for version in rows},
        )

    def _expected(self) -> PerformanceEstimated:
        """It knows what the errors were a while ago; labels contradict it where they are others now."""
        self._usual += 0.15 * (self.error - self._usual)
        around = {"value": self._usual, "low": self._usual - 0.014, "high": self._usual + 0.014}
        return PerformanceEstimated.model_validate(
            {
                "id": ids.derive(self.model, "expected", self.at),
                "at": self.at,
                "model": self.model,
                "version": self.version,
                "rows": WINDOW_ROWS,
                "since": self.at - STEP,
                "until": self.at,
                "labelled": 9000,
                "error_rate": around,
                "loss": {name: 0.8 * value for name, value in around.items()},
                "trusted": abs(self._usual - self.error) < 0.02,
                "sentence": f"about {100 * self._usual:.1f} % wrong answers",
            }
        )

    def _outcome(self, rows: int, rate: float) -> Outcome:
        errors = max(0, round(self._random.gauss(rows * rate, math.sqrt(rows * rate * (1 - rate)))))
        loss = 0.8 * errors
        return Outcome(rows=rows, loss=loss, loss_squared=loss * 0.7, log_loss=2.1 * loss, errors=errors)


def dead_letter(offset: int, reason: str = "malformed") -> DeadLetter:
    """A prediction that nobody could read."""
    return DeadLetter.of(
        b"{model: flights",
        id=ids.derive("dead-letter", "predictions", 0, offset),
        at=START + offset,
        reason=reason,
        detail="not JSON: expected a key in double quotes at column 2",
        topic="predictions",
        partition=0,
        offset=offset,
    )


def _said(verdict: VerdictEvidence | None) -> str:
    return "" if verdict is None else verdict.sentence


def _run(version: str) -> str:
    return f"{int(version):02d}f3c9a1"

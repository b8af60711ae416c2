"""Versions and who gets how much traffic, as the events tell it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from driftloop.infra.dashboard.event_lines import Line, Tone
from driftloop.infra.dashboard.ring_buffer import Ring, renew
from driftloop.infra.dashboard.views import Rollout, Traffic, Version
from driftloop.schemas import events
from driftloop.schemas.events import Event, RolloutPhase

CHANGES, VERSIONS = 300, 30
STATE_TONES: Mapping[str, Tone] = {
    "champion": "good",
    "canary": "info",
    "warming up": "info",
    "rolled back": "bad",
    "failed": "bad",
    "waiting": "warn",
    "proven": "info",
}
UNDECIDED = ("trained", "registered", "waiting", "proven")
"""States of a version that has not been rolled out."""
PHASES: Mapping[RolloutPhase, tuple[str, Tone]] = {
    RolloutPhase.WARMING: ("warming up", "info"),
    RolloutPhase.CANARY: ("canary", "info"),
    RolloutPhase.PAUSED: ("paused", "info"),
    RolloutPhase.PROMOTING: ("promoting", "info"),
    RolloutPhase.REVERTING: ("rolling back", "bad"),
    RolloutPhase.PROMOTED: ("promoted", "good"),
    RolloutPhase.REVERTED: ("rolled back", "bad"),
    RolloutPhase.FAILED: ("failed", "bad"),
}
"""Label and tone of each phase on the page."""
ENDED = (RolloutPhase.PROMOTED, RolloutPhase.REVERTED, RolloutPhase.FAILED)
"""Phases that end a rollout."""


class Rollouts:
    """The rollout in progress (or the last one), the table of versions, and traffic over time."""

    def __init__(self) -> None:
        self.traffic: Ring[Traffic] = Ring(CHANGES)
        self.crowns: Ring[Traffic] = Ring(CHANGES)
        self.current: Rollout | None = None
        self.champion: str | None = None
        self.champion_since: int | None = None
        self._versions: dict[str, Version] = {}
        self._triggers: dict[str, str] = {}
        self._proofs: dict[str, events.ChallengerProven] = {}
        """The newest proof of each version."""

    @property
    def table(self) -> Sequence[Version]:
        """Versions, newest first."""
        return list(reversed(self._versions.values()))[:VERSIONS]

    @property
    def weights(self) -> Mapping[str, int]:
        """Who gets how much traffic now, in percent; empty before the first rollout."""
        changes = self.traffic.items
        return changes[-1].shares if changes else {}

    def apply(self, event: Event, said: Line, stamp: int) -> None:
        """Take in one event; those that concern no version only leave their trigger behind."""
        self._inherit_trigger(event)
        match event:
            case events.TrainingCompleted():
                self._on_training(event)
            case events.ModelRegistered():
                self._note(event.version, event, "registered" if event.rollout == "automatic" else "waiting")
            case events.ChallengerProven():
                self._proven(event)
            case events.ChallengerPassedOver():
                if (known := self._versions.get(event.version)) and known.state in UNDECIDED:
                    self._note(event.version, event, "passed over")
            case events.RolloutEvent():
                self._on_rollout(event, said, stamp)
            case _:
                pass

    def _inherit_trigger(self, event: Event) -> None:
        if isinstance(event, events.RetrainRequested):
            self._triggers[event.id] = event.trigger
        elif event.caused_by in self._triggers:
            self._triggers[event.id] = self._triggers[event.caused_by]
        while len(self._triggers) > 10 * CHANGES:
            self._triggers.pop(next(iter(self._triggers)))

    def _on_training(self, event: events.TrainingCompleted) -> None:
        row = self._note(event.version, event, "trained")
        self._versions[event.version] = replace(
            row,
            rows=event.rows,
            seconds=round(event.seconds, 2),
            metrics=dict(event.metrics),
            gate=event.gate.sentence,
            at=event.at,
        )

    def _proven(self, event: events.ChallengerProven) -> None:
        renew(self._proofs, event.version, event, VERSIONS)
        if event.version != self.champion:
            self._note(event.version, event, "proven" if event.evidence == "paired" else "not comparable")

    def _note(self, version: str, event: events.Event, state: str) -> Version:
        known = self._versions.get(version)
        if known is None:
            trigger = self._triggers.get(event.id, "by hand")
            known = Version(version, trigger, None, None, {}, "", state, "plain", event.at)
        tone = STATE_TONES.get(state.partition(" at ")[0], "plain")
        self._versions[version] = replace(known, state=state, tone=tone)
        return self._versions[version]

    def _on_rollout(self, event: events.RolloutEvent, said: Line, stamp: int) -> None:
        if self.current is None or self.current.id != event.rollout:
            self._begin(event, stamp)
        assert self.current is not None  # begun in the line above
        # The verdict's sentence stays while a phase is carried out.
        keeps = isinstance(event, events.RolloutPerformed) and self.current.sentence
        sentence = self.current.sentence if keeps else event.sentence or said.text
        self.current = _rollout_after(self.current, event, sentence)
        self._shift(event, stamp)

    def _begin(self, event: events.RolloutEvent, stamp: int) -> None:
        steps = list(event.steps) if isinstance(event, events.RolloutStarted) else []
        proof = self._proofs.get(event.version)
        self.current = Rollout(
            id=event.rollout,
            version=event.version,
            stable=event.stable,
            steps=steps,
            weight=event.weight,
            reached=0,
            phase=event.phase,
            label="",
            tone="info",
            sentence="",
            started=event.at,
            at=event.at,
            evidence="canary" if proof is None else proof.evidence,
            because="" if proof is None else proof.sentence,
        )
        if event.stable is not None and self.champion is None:
            self._crown(event.stable, event, stamp)
            self.champion_since = None  # it served before we looked

    def _shift(self, event: events.RolloutEvent, stamp: int) -> None:
        match event:
            case events.RolloutStarted():
                self._note(event.version, event, "warming up")
            case events.RolloutAdvanced():
                self._note(event.version, event, f"canary at {event.weight} %")
                rest = {} if event.stable is None else {event.stable: 100 - event.weight}
                self.traffic.add(stamp, Traffic(event.at, {**rest, event.version: event.weight}))
            case events.RolloutPromoted():
                self._crown(event.version, event, stamp)
            case events.RolloutRolledBack():
                self._note(event.version, event, "rolled back")
                if event.stable is not None:
                    self._crown(event.stable, event, stamp)
            case events.RolloutFailed():
                self._note(event.version, event, "failed")
            case _:
                pass

    def _crown(self, version: str, event: events.RolloutEvent, stamp: int) -> None:
        self.traffic.add(stamp, Traffic(event.at, {version: 100}))
        if version == self.champion:
            return
        if self.champion is not None and self._versions[self.champion].state == "champion":
            self._note(self.champion, event, "previous")
        self._note(version, event, "champion")
        self.crowns.add(stamp, Traffic(event.at, {version: 100}))
        self.champion, self.champion_since = version, event.at


def _rollout_after(rollout: Rollout, event: events.RolloutEvent, sentence: str) -> Rollout:
    """The rollout after `event`."""
    label, tone = PHASES[event.phase]
    stepping = event.phase is RolloutPhase.CANARY
    rollout = replace(
        rollout,
        phase=event.phase,
        label=label,
        tone=tone,
        weight=event.weight,
        reached=max(rollout.reached, event.weight) if stepping else rollout.reached,
        sentence=sentence,
        at=event.at,
    )
    match event:
        case events.RolloutStarted():
            return replace(rollout, steps=list(event.steps), evidence=event.evidence)
        case events.RolloutPerformed():
            return _after_performed(rollout, event)
        case events.RolloutObstructed():
            return replace(rollout, label=f"{label}, obstructed", tone="bad")
        case (
            events.RolloutAdvanced()
            | events.RolloutHeld()
            | events.RolloutPromoted()
            | events.RolloutRolledBack()
        ):
            return replace(rollout, verdict=event.verdict or rollout.verdict)
        case _:
            return rollout


def _after_performed(rollout: Rollout, event: events.RolloutPerformed) -> Rollout:
    """The rollout once a phase was carried out: a step's share begins, or the newest share ends."""
    if event.phase is RolloutPhase.CANARY:
        return replace(rollout, shifted=event.performed_at or None, shifted_until=None)
    ends = rollout.shifted is not None and rollout.shifted_until is None
    return replace(rollout, shifted_until=event.performed_at) if ends else rollout

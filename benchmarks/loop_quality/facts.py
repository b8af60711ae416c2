"""What the loop did, counted from its events as plain JSON, whatever else newer versions put into them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENDS = frozenset({"RolloutPromoted", "RolloutRolledBack", "RolloutFailed"})
TRAINED = frozenset({"TrainingCompleted", "TrainingRefused", "TrainingFailed"})
TRAFFIC = "TrafficMeasured"
"""Published by the serving host about once a second: a canary is judged by it."""


@dataclass
class Facts:
    """Counts of a model's events, and its open rollouts."""

    counts: Counter[str] = field(default_factory=Counter)
    """Events by type."""
    fits: int = 0
    """Models that trainings fitted; one a training where its end doesn't say."""
    requests: set[str] = field(default_factory=set)
    """Requests whose training ended; a training ends with an event for each version it registered."""
    promoted: list[str] = field(default_factory=list)
    """Versions in the order of their promotion, the first one included."""
    rollouts: set[str] = field(default_factory=set)
    """Ids of the rollouts that have not ended."""
    traffic_until: float | None = None
    """End of the newest measurement of traffic (wall clock, seconds since 1970); None before the first."""
    sentences: list[str] = field(default_factory=list)
    """Of ended trainings and rollouts, oldest first."""

    def note(self, event: Mapping[str, Any]) -> None:
        """Count one event."""
        kind = str(event.get("type"))
        self.counts[kind] += 1
        if kind in TRAINED:
            self.fits += int(event.get("fits") or 1)
            self.requests.add(str(event.get("caused_by")))
        elif kind == "RolloutStarted":
            self.rollouts.add(str(event["rollout"]))
        elif kind in ENDS:
            self.rollouts.discard(str(event["rollout"]))
        elif kind == TRAFFIC:
            self.traffic_until = max(self.traffic_until or 0.0, event["until"] / 1000)
        if kind == "RolloutPromoted":
            self.promoted.append(str(event["version"]))
        if kind in TRAINED | ENDS:
            sentence = event.get("sentence") or event.get("reason") or event.get("error") or ""
            gate = event.get("gate") or {}
            self.sentences.append(
                f"{kind} {event.get('version', '')}: {sentence or gate.get('sentence', '')}"
            )

    @property
    def trainings(self) -> int:
        """Trainings that ended, the first model's included."""
        return len(self.requests)

    @property
    def promotions(self) -> int:
        """Promotions after the first model's."""
        return max(self.counts["RolloutPromoted"] - 1, 0)

    @property
    def rollbacks(self) -> int:
        """Rollouts that were taken back."""
        return self.counts["RolloutRolledBack"]

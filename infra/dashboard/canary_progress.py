"""How a rollout runs: the requests of its step, the scores that agree, and what judges its quality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driftloop.infra.dashboard.comparison import Comparison
from driftloop.infra.dashboard.request_counts import RequestCounts, Requests, Served
from driftloop.infra.dashboard.rollouts import Rollouts
from driftloop.schemas import events
from driftloop.schemas.settings import RolloutSettings


@dataclass(frozen=True)
class Running:
    """Requests of the newest rollout's step, and of all versions now."""

    requests: Mapping[str, Requests]
    """Of canary and stable, since the step's share was set; empty before any."""
    needed: int
    """Requests of the canary that a step needs (`rollout.min_requests`)."""
    agreement: events.Agreement | None
    """Scores of the canary that were computed again from the same features."""
    pair: Sequence[float] | None
    """The canary against the champion on the same labelled rows: gain, low, high, proof."""
    now: Served | None


def running(
    rollouts: Rollouts, counted: RequestCounts, comparison: Comparison, settings: RolloutSettings
) -> Running:
    """Decisions joined with what was measured; either may have come first."""
    rollout = rollouts.current
    now, needed = counted.now, settings.min_requests
    if rollout is None:
        return Running({}, needed, None, None, now)
    requests: Mapping[str, Requests] = {}
    if rollout.shifted is not None:
        both = counted.between(rollout.shifted, rollout.shifted_until)
        requests = {name: one for name, one in both.items() if name in (rollout.version, rollout.stable)}
    agreement, pair = comparison.agreement(rollout.version), comparison.pair(rollout.version)
    return Running(requests, needed, agreement, pair, now)

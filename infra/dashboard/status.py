"""The one word about a model."""

from collections.abc import Sequence

from driftloop.infra.dashboard.episodes import Episode
from driftloop.infra.dashboard.evidence import Evidence
from driftloop.infra.dashboard.timeline import Story
from driftloop.infra.dashboard.views import Status
from driftloop.schemas.events import RolloutPhase


def status(
    story: Story, drifting: Sequence[Episode], evidence: Evidence, columns: int, measured: bool
) -> Status:
    """Open drift, else what the loop is doing, else whether all is well.

    Args:
        story: what the model's decisions come to.
        drifting: open episodes of the versions that serve.
        evidence: what they were seen in.
        columns: how many columns are watched.
        measured: whether any window was.
    """
    if drifting:
        return Status(
            "Drift",
            "bad",
            _drift_counts(drifting, evidence, columns),
            min(one.detected.at for one in drifting),
        )
    if story.pipeline.active:
        ongoing = story.pipeline
        return Status(ongoing.word, ongoing.tone, ongoing.detail, ongoing.at)
    rollout = story.rollouts.current
    if rollout is not None and rollout.phase is RolloutPhase.REVERTED:
        return Status("Rolled back", "warn", f"v {rollout.stable} serves again", rollout.at)
    if not measured:
        return Status("No data yet", "plain", "no window was measured yet")
    return Status("OK", "good", f"{columns} columns watched, none drifts")


def _drift_counts(drifting: Sequence[Episode], evidence: Evidence, watched: int) -> str:
    """Of what kind, each counted."""
    whole = [one for one in drifting if not one.detected.segment]
    pairs = [names for one in whole for names in evidence.pairs_of(one)]
    paired = {name for names in pairs for name in names}
    alone = {
        name for one in whole for name in one.open_columns if not (evidence.pairs_of(one) and name in paired)
    }
    segments = {one.detected.segment for one in drifting} - {""}
    kinds = sorted({one.detected.kind.value for one in whole if not one.detected.columns})
    told = [f"{len(alone)} of {max(watched, len(alone))} columns"] if alone else []
    told += [_count(len(found), word) for found, word in ((pairs, "pair"), (segments, "segment")) if found]
    return ", ".join([*told, *kinds])


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"

"""The numbers on top of a model's board, from its windows, its labels and its rollouts."""

from collections.abc import Mapping, Sequence

from driftloop.infra.dashboard import throughput
from driftloop.infra.dashboard.labels import Labels
from driftloop.infra.dashboard.rollouts import ENDED, Rollouts
from driftloop.infra.dashboard.views import Expected, Figures, Measured, Window

LATELY = 60
"""Windows of all versions together from which throughput is computed."""


def figures(champion: str | None, labels: Labels, rollouts: Rollouts, windows: Sequence[Window]) -> Figures:
    """Figures of the champion; `windows` are those of all versions, oldest first."""
    last = labels.last.get(champion or "")
    expected = labels.estimated.get(champion or "")
    first = labels.reference(champion or "")
    reference = None if first is None else Measured.of(first)
    measure = labels.measure
    return Figures(
        measure=measure,
        champion=champion,
        champion_since=rollouts.champion_since,
        value=None if last is None else _value_of(last, measure),
        reference=None if reference is None else _value_of(reference, measure),
        reference_rows=0 if first is None else first.rows,
        loss=None if last is None else last.loss,
        expected=None if expected is None else Expected.of(expected),
        at=labels.points.items[-1].until if labels.points.items else None,
        rows_per_second=throughput.rows_per_second(windows[-LATELY:]),
        labelled=labels.labelled,
        rollout_outcomes=_since_rollout(labels, rollouts),
    )


def _since_rollout(labels: Labels, rollouts: Rollouts) -> Mapping[str, Measured]:
    """Labels of the canary and of stable since the rollout began."""
    rollout = rollouts.current
    if rollout is None:
        return {}
    sums: dict[str, list[float]] = {}
    for point in labels.points.items:
        if point.until > rollout.started and (rollout.phase not in ENDED or point.until <= rollout.at):
            for version, seen in point.versions.items():
                kept = sums.setdefault(version, [0, 0.0, 0.0, 0.0])
                for index, mean in enumerate((1.0, seen.error, seen.loss, seen.residual)):
                    kept[index] += mean * seen.rows
    return {
        version: Measured(int(n), *(round(value / n, 5) for value in rest))
        for version, (n, *rest) in sums.items()
        if version in (rollout.version, rollout.stable)
    }


def _value_of(measured: Measured, measure: str) -> float:
    return measured.error if measure == "error" else measured.loss

"""The numbers on top of a model's board, from its windows, its labels and its rollouts."""

from collections.abc import Mapping, Sequence

import numpy as np

from driftloop.infra.dashboard.labels import Labels
from driftloop.infra.dashboard.rollouts import ENDED, Rollouts
from driftloop.infra.dashboard.views import Expected, Figures, Measured, Window

WINDOWS = 20
"""Of a version, the newest: what partitions gain on each other meanwhile is little against their time."""


def rows_per_second(windows: Sequence[Window]) -> float | None:
    """Rows a second, in the data's time, of all versions that answered lately; None without any window.

    A window has rows of all partitions. Where one partition is read days ahead of another, the window spans
    these days, so rows over its span say too little. How the middle moves from window to window does not
    depend on that distance: what one partition runs ahead, the rows of the others lack.

    Args:
        windows: of all versions, the newest last.
    """
    by_version: dict[str, list[Window]] = {}
    for window in windows:
        by_version.setdefault(window.version, []).append(window)
    if not by_version:
        return None
    start = max((own[-1] for own in by_version.values()), key=lambda window: window.until).since
    rates = [_rate(own[-WINDOWS:]) for own in by_version.values() if own[-1].until >= start]
    return round(sum(rates), 9)


def _rate(windows: Sequence[Window]) -> float:
    """Rows a second of one version: the slope of the windows' middles over their rows, by least squares."""
    rows = np.cumsum([window.rows for window in windows], dtype=np.float64)
    middles = np.array([(window.since + window.until) / 2000 for window in windows])
    if len(windows) > 2:
        centred = rows - rows.mean()
        seconds_a_row = float(centred @ middles / (centred @ centred))
        if seconds_a_row > 0:
            return 1 / seconds_a_row
    since, until = min(one.since for one in windows), max(one.until for one in windows)
    return float(rows[-1]) / max((until - since) / 1000, 0.001)


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
        rows_per_second=rows_per_second(windows[-LATELY:]),
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

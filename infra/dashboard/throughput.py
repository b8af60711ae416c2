"""Rows a second in the data's own time, from windows whose partitions were read at different paces.

A window has rows of all partitions. Where one partition is read days ahead of another, the window spans these
days besides its rows' own time, so rows over its span say too little. How the middle moves from window to
window does not depend on that distance: what one partition runs ahead, the rows of the others lack.
"""

from collections.abc import Sequence

import numpy as np

from driftloop.infra.dashboard.views import Window

WINDOWS = 20
"""Of a version, the newest: what partitions gain on each other meanwhile is little against their time."""


def rows_per_second(windows: Sequence[Window]) -> float | None:
    """Of all versions that answered lately, together; None without any window. The newest window is last."""
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

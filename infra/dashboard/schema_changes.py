"""Columns that are not as in training: which, how, and since when."""

from collections.abc import Collection, Mapping, Sequence

from driftloop.infra.dashboard.drift_views import Deviating, Deviation
from driftloop.infra.dashboard.ring_buffer import renew
from driftloop.schemas import events

VERSIONS_AT_ONCE, COLUMNS = 6, 60
"""Of so many versions it is remembered, and so many columns of each are shown."""
_Known = Mapping[str, Deviation]


class Deviations:
    """Takes in `ColumnsChanged` in order."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def on_columns_changed(self, event: events.ColumnsChanged) -> None:
        """Each event names all that holds; what held before keeps its beginning."""
        before = self._known.pop(event.version, {})
        told = {"missing": event.missing, "retyped": event.retyped, "extra": event.extra}
        found = [Deviation(name, what, event.at) for what, names in told.items() for name in names]
        now = {one.column: _since(one, before.get(one.column)) for one in found}
        if now:
            renew(self._known, event.version, now, VERSIONS_AT_ONCE)

    def of(self, versions: Collection[str] | None) -> Sequence[Deviating]:
        """What holds for `versions` (None: for all), what came last at the end."""
        return [
            Deviating(version, list(known.values())[:COLUMNS], max(len(known) - COLUMNS, 0))
            for version, known in self._known.items()
            if versions is None or version in versions
        ]


def _since(one: Deviation, before: Deviation | None) -> Deviation:
    return before if before is not None and before.what == one.what else one

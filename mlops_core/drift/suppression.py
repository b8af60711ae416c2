"""Who tells of a drift: the whole first, and a segment only of what the whole isn't telling of at that time.

That time is a row's, not a chunk's: stage one says after which of the whole's micro-batches each of a
segment's was complete, so that cutting rows into other chunks changes nothing.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from driftloop.mlops_core.drift.episodes import Mask
from driftloop.mlops_core.drift.verdicts import Closed, Opened, Verdict
from driftloop.schemas.events import Part, Span
from driftloop.schemas.summaries import DriftSummary


class ReportedColumns(Part):
    """Of which columns the whole told while it took in one summary."""

    span: Span
    after: Sequence[int]
    """Micro-batches of the summary after which the columns are others; 0 for those from before it."""
    columns: Sequence[Sequence[str]]
    """Those with an open episode from there on."""

    @classmethod
    def of(cls, span: Span, before: Sequence[str], index: int, verdicts: Sequence[Verdict]) -> Self:
        """While `verdicts` were found, by a detector that had taken in `index` micro-batches `before`."""
        known = {0: tuple(before)}
        for one in verdicts:
            now = next(reversed(known.values()))
            match one:
                case Opened():
                    known[one.index - index] = (*now, one.column)
                case Closed():
                    known[one.index - index] = tuple(name for name in now if name != one.column)
        return cls(span=span, after=list(known), columns=list(known.values()))

    def at(self, after: int) -> Sequence[str]:
        """The columns that were told of after so many micro-batches."""
        return self.columns[bisect_right(self.after, after) - 1]


Tellings = dict[str, ReportedColumns]
"""The whole's newest, by the topic and partition of the rows."""


def remember(tellings: Tellings, telling: ReportedColumns) -> None:
    """A newer one."""
    tellings[_place(telling.span)] = telling


def suppression_mask(
    tellings: Tellings, names: Sequence[str], open_now: Sequence[str], summary: DriftSummary
) -> Mask:
    """What the whole tells at each micro-batch of a segment's summary, shape (micro-batches, columns).

    `names` are the columns; `open_now` are those with an open episode since the whole's newest summary, which
    count where the chunk was too small for one of its own, and for summaries from before `after` was said.
    """
    telling = tellings.get(_place(summary.span))
    if telling is None or telling.span != summary.span or not summary.after:
        return np.tile(np.isin(names, list(open_now)), (summary.batches, 1))
    by_after = {after: np.isin(names, list(telling.at(after))) for after in set(summary.after)}
    return np.stack([by_after[after] for after in summary.after])


def dump(tellings: Tellings) -> Sequence[Mapping[str, Any]]:
    """Fit for JSON."""
    return [one.model_dump() for one in tellings.values()]


def load(fields: Sequence[Mapping[str, Any]]) -> Tellings:
    """Back from `dumped`."""
    tellings: Tellings = {}
    for one in fields:
        remember(tellings, ReportedColumns.model_validate(one))
    return tellings


def _place(span: Span) -> str:
    return f"{span.topic}/{span.partition}"

"""A segment reports a drift only while the whole model has no open episode for that column.

Whether an episode is open is decided per micro-batch, not per chunk: stage one publishes after which of the
whole's micro-batches each of a segment's was complete, so that other chunks of the same rows change nothing.
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
    """Columns of the whole model that had an open episode during one summary."""

    span: Span
    after: Sequence[int]
    """Numbers of the summary's micro-batches after which the columns changed; 0 first."""
    columns: Sequence[Sequence[str]]
    """Columns with an open episode from each of them on."""

    @classmethod
    def of(cls, span: Span, before: Sequence[str], index: int, verdicts: Sequence[Verdict]) -> Self:
        """The columns during a summary.

        `before`: columns with an open episode before it; `index`: micro-batches that the detector had
        processed before it; `verdicts`: what the detector found in it.
        """
        columns = {0: tuple(before)}
        for verdict in verdicts:
            open_now = next(reversed(columns.values()))
            match verdict:
                case Opened():
                    columns[verdict.index - index] = (*open_now, verdict.column)
                case Closed():
                    columns[verdict.index - index] = tuple(
                        name for name in open_now if name != verdict.column
                    )
        return cls(span=span, after=list(columns), columns=list(columns.values()))

    def at(self, after: int) -> Sequence[str]:
        """Columns with an open episode after this number of micro-batches."""
        return self.columns[bisect_right(self.after, after) - 1]


Tellings = dict[str, ReportedColumns]
"""The newest of the whole model, by topic and partition of the rows."""


def remember(tellings: Tellings, telling: ReportedColumns) -> None:
    """Replace the entry of the same topic and partition."""
    tellings[_partition(telling.span)] = telling


def suppression_mask(
    tellings: Tellings, names: Sequence[str], open_now: Sequence[str], summary: DriftSummary
) -> Mask:
    """Columns that a segment must not report at each micro-batch, shape (micro-batches, columns).

    `names` are the columns. `open_now` are those with an open episode after the whole's newest summary; they
    are used where the chunk was too small for a summary of the whole.
    """
    telling = tellings.get(_partition(summary.span))
    if telling is None or telling.span != summary.span or not summary.after:
        return np.tile(np.isin(names, list(open_now)), (summary.batches, 1))
    by_after = {after: np.isin(names, list(telling.at(after))) for after in set(summary.after)}
    return np.stack([by_after[after] for after in summary.after])


def dump(tellings: Tellings) -> Sequence[Mapping[str, Any]]:
    """The entries as values that JSON can hold."""
    return [reported.model_dump() for reported in tellings.values()]


def load(fields: Sequence[Mapping[str, Any]]) -> Tellings:
    """The entries that `dump` returned."""
    tellings: Tellings = {}
    for reported in fields:
        remember(tellings, ReportedColumns.model_validate(reported))
    return tellings


def _partition(span: Span) -> str:
    return f"{span.topic}/{span.partition}"

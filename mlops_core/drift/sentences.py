"""Sentences that explain a drift, from the shares of its bins."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.normal_scores import mid_ranks, normal_scores
from driftloop.mlops_core.data.profile import CLASS, CONFIDENCE, SCORE
from driftloop.schemas.events import ColumnDrift, DriftKind, PairDrift

_SHARE_OF = "share of "
_LEAST_DEVIATION = 0.2
"""Least standard deviation of a reference, for columns of nearly one value: that of a 1 % event, about."""
_FEW = 12
"""Most distinct values that a sentence names by value; a profile keeps as many categories."""
_AS_MUCH = 0.001
"""Difference of shares that is rounding: a profile's shares are rounded."""
_MISSING = 0.05
"""Increase of the share of missing values from which a sentence adds it."""
_KNOWN = {"(other)": "rare values", "(unseen)": "values never seen in training"}

_PREDICTIONS = {SCORE: "the score", CONFIDENCE: "the model's confidence", CLASS: "the predicted class"}


def explain(column: str, drift: ColumnDrift) -> str:
    """The change of `column` in its worst channel, and its share of the drift of all features.

    >>> moved = {"reference": [0.5, 0.4, 0.1], "current": [0.1, 0.76, 0.14], "edges": [20.0]}
    >>> explain("temp", ColumnDrift(severity=0.83, channel="location", drifted=True, **moved))
    'temp moved up by 0.9 standard deviations (under 20: 56 % -> 12 %)'
    >>> explain("temp", ColumnDrift(severity=0.4, channel="null", drifted=True, **moved))
    'temp: missing 10 % -> 14 %'
    >>> told = {"reference": [0.98, 0.02, 0.0], "current": [0.91, 0.09, 0.0], "categories": ["UA", "HA"]}
    >>> explain("carrier", ColumnDrift(severity=0.5, channel="share of HA", drifted=True, **told))
    'carrier: HA went from 2 % to 9 %'
    >>> explain("temp", ColumnDrift(severity=0.83, channel="shape", drifted=True, contribution=0.61, **moved))
    'temp has another distribution (under 20: 56 % -> 12 %), 61 % of the drift'
    >>> flag = {"reference": [0, 0.8, 0.2, 0, 0], "current": [0, 0.66, 0.34, 0, 0], "edges": [-0.5, 0.5, 1.5]}
    >>> explain("is_weekend", ColumnDrift(severity=0.3, channel="location", drifted=True, **flag))
    'is_weekend: 1 in 20 % -> 34 % of rows'
    """
    share = f", {_percent(drift.contribution)} of the drift" if drift.contribution >= 0.01 else ""
    return f"{_share_changes(column, drift)}{share}"


def explain_pairs(pairs: Sequence[PairDrift]) -> str:
    """The changed correlations of one or more pairs, worst first.

    >>> def pair(a: str, b: str, before: float, now: float) -> PairDrift:
    ...     return PairDrift(columns=(a, b), severity=1.3, drifted=True, reference=before, current=now)
    >>> explain_pairs([pair("temp", "dewp", 0.89, 0.124)])
    'correlation of temp and dewp weakened (0.89 -> 0.12); neither column drifted by itself'
    >>> broken = [pair("temp", "dewp", 0.89, 0.12), pair("humid", "temp", -0.4, 0.05)]
    >>> explain_pairs(broken).removesuffix("; no column drifted by itself")
    'correlations of temp changed: with dewp (0.89 -> 0.12) and humid (-0.40 -> 0.05)'
    >>> more = [*broken, pair("wind", "gust", 0.1, 0.5)]
    >>> explain_pairs(more).removesuffix("; no column drifted by itself")
    'correlation of temp and dewp weakened (0.89 -> 0.12), and 2 more pairs changed'
    """
    worst = pairs[0]
    shared = set(worst.columns).intersection(*(pair.columns for pair in pairs))
    if len(pairs) > 1 and shared:
        (hub,) = shared
        others = [
            f"{next(name for name in pair.columns if name != hub)} ({_change(pair)})" for pair in pairs[:3]
        ]
        others += [f"{len(pairs) - 3} more"] if len(pairs) > 3 else []
        change = f"correlations of {hub} changed: with {', '.join(others[:-1])} and {others[-1]}"
    else:
        fell = abs(worst.current) < 0.5 * abs(worst.reference)
        how = "weakened" if fell else "changed"
        more = f", and {len(pairs) - 1} more pairs changed" if len(pairs) > 1 else ""
        change = f"correlation of {' and '.join(worst.columns)} {how} ({_change(worst)}){more}"
    return f"{change}; {'neither' if len(pairs) == 1 else 'no'} column drifted by itself"


def since(changed_at: int) -> str:
    """The estimated begin of a change as the end of a sentence, to the minute.

    >>> since(1_767_247_200_000)
    'since 2026-01-01 06:00 UTC'
    """
    return f"since {datetime.fromtimestamp(changed_at / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _share_changes(column: str, drift: ColumnDrift) -> str:
    own = column == SCORE or drift.kind is DriftKind.PREDICTION
    name = _PREDICTIONS.get(column, column) if own else column
    before, now = _present(drift.reference), _present(drift.current)
    if drift.channel == "null":
        return f"{name}: missing {_percent(drift.reference[-1])} -> {_percent(drift.current[-1])}"
    if drift.channel.startswith(_SHARE_OF):
        return f"{name}: {_category(drift)}"
    values = _values(drift.edges)
    if len(values) in (1, 2):
        return f"{name}: {_flag(drift.edges, before, now)}{_missing(drift)}"
    if drift.channel == "location":
        shift = _shift(before, now)
        moved = f"moved {'up' if shift > 0 else 'down'} by {abs(shift):.1f} standard deviations"
        return f"{name} {moved} ({_middle(drift, values, before, now)}){_missing(drift)}"
    if drift.channel == "scale":
        return f"{name} spreads {_spread(before, now)} ({_largest(drift, before, now)}){_missing(drift)}"
    return f"{name} has another distribution ({_largest(drift, before, now)}){_missing(drift)}"


def _change(drift: PairDrift) -> str:
    return f"{drift.reference:.2f} -> {drift.current:.2f}"


def _missing(drift: ColumnDrift) -> str:
    more = drift.current[-1] - drift.reference[-1]
    return f", {_percent(drift.current[-1])} missing" if more >= _MISSING else ""


def _category(drift: ColumnDrift) -> str:
    category = drift.channel.removeprefix(_SHARE_OF)
    place = list(drift.categories).index(category)
    before, now = _percent(drift.reference[place]), _percent(drift.current[place])
    return f"{_KNOWN.get(category, category)} went from {before} to {now}"


def _present(shares: Sequence[float]) -> Floats:
    """Shares of the bins among the values that are not missing."""
    bins = np.array(shares[:-1], dtype=np.float64)
    present = bins.sum()
    return bins / present if present else bins


def _shift(before: Floats, now: Floats) -> float:
    """The shift of the mean, in standard deviations of the reference."""
    scores = normal_scores(mid_ranks(before))
    mean = before @ scores
    deviation = float(np.sqrt(before @ (scores - mean) ** 2))
    return float(now @ scores - mean) / max(deviation, _LEAST_DEVIATION)


def _spread(before: Floats, now: Floats) -> str:
    change = np.abs(mid_ranks(before) - 0.5) @ (now - before)
    return "wider" if change > 0 else "narrower"


def _flag(edges: Sequence[float], before: Floats, now: Floats) -> str:
    """Of a column with one or two values: the share that changed most; of equal changes the last value's."""
    changes = np.abs(now - before)
    last = len(changes) - 1
    most = changes.max() - _AS_MUCH
    place = next(place for place in (*range(last - 1, 0, -1), last, 0) if changes[place] >= most)
    return f"{_interval(edges, place)} in {_percent(before[place])} -> {_percent(now[place])} of rows"


def _values(edges: Sequence[float]) -> tuple[float, ...]:
    """The values between `edges`, if they are few; else empty (see `data.profile`).

    >>> _values([-0.5, 0.5, 1.5]), _values([0.0, 2.0, 3.5, 4.5]), _values([0.999999, 1.000001])
    ((0.0, 1.0), (1.0, 3.0, 4.0), (1.0,))
    >>> _values([0.0, 3.1, 3.5, 9.0]), _values([20.0])
    ((), ())
    """
    if not 2 <= len(edges) <= _FEW + 1:
        return ()
    values = [(edges[0] + edges[1]) / 2]
    for edge in edges[1:-1]:
        values.append(2 * edge - values[-1])
    inside = all(low < value < high for low, value, high in zip(edges, values, edges[1:], strict=False))
    last = edges[-1] if len(values) == 1 else (3 * values[-1] - values[-2]) / 2
    return tuple(values) if inside and np.isclose(last, edges[-1]) else ()


def _middle(drift: ColumnDrift, values: Sequence[float], before: Floats, now: Floats) -> str:
    """The means before and now if only `values` occur, else the medians."""
    inner = slice(1, -1)
    if values and np.isclose([before[inner].sum(), now[inner].sum()], 1.0).all():
        return f"mean {_number(float(before[inner] @ values))} -> {_number(float(now[inner] @ values))}"
    return _median(drift, before, now)


def _median(drift: ColumnDrift, before: Floats, now: Floats) -> str:
    """The medians before and now, where both lie between two edges; else the bin that changed most."""
    medians = _quantile(drift.edges, before, 0.5), _quantile(drift.edges, now, 0.5)
    if medians[0] is None or medians[1] is None:
        return _largest(drift, before, now)
    return f"median {_number(medians[0])} -> {_number(medians[1])}"


def _quantile(edges: Sequence[float], shares: Floats, level: float) -> float | None:
    """The quantile, interpolated within its bin; None in the two outermost bins, which have no end."""
    below = 0.0
    for place, share in enumerate(shares):
        if share > 0 and below + share >= level:
            if place in (0, len(edges)):
                return None
            low, high = edges[place - 1], edges[place]
            return low + (high - low) * float((level - below) / share)
        below += float(share)
    return None


def _largest(drift: ColumnDrift, before: Floats, now: Floats) -> str:
    """The bin whose share changed most."""
    place = int(np.argmax(np.abs(now - before)))
    return f"{_interval(drift.edges, place)}: {_percent(before[place])} -> {_percent(now[place])}"


def _interval(edges: Sequence[float], place: int) -> str:
    """A bin in words; a bin around a single value is that value.

    >>> _interval([0.999999, 1.000001], 1), _interval([-0.5, 0.5, 1.5], 3), _interval([20.0, 30.0, 50.0], 1)
    ('1', 'over 1', '20 to 30')
    """
    if not edges:
        return "all values"
    values = _values(edges)
    if values:
        named = f"under {_number(values[0])}", *map(_number, values), f"over {_number(values[-1])}"
        return named[place]
    if place == 0:
        return f"under {_number(edges[0])}"
    if place == len(edges):
        return f"{_number(edges[-1])} or more"
    low, high = _number(edges[place - 1]), _number(edges[place])
    return low if low == high else f"{low} to {high}"


def _percent(share: float) -> str:
    """Whole percents, and a decimal under one.

    >>> _percent(0.142), _percent(0.004), _percent(0.0)
    ('14 %', '0.4 %', '0 %')
    """
    percent = 100 * share
    return f"{percent:.1f} %" if 0 < percent < 0.95 else f"{percent:.0f} %"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"

"""What the drift engine tells beside columns: pairs of features, segments, columns that changed.

Each function continues a `Narrator`'s story at its present time and returns the events in order.
"""

from collections.abc import Mapping, Sequence

from driftloop.mlops_core.drift.schema_changes import Deviation, sentence
from driftloop.schemas import ids
from driftloop.schemas.events import (
    ColumnDrift,
    ColumnsChanged,
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    DriftState,
    Event,
    PairDrift,
)
from tests.support.event_sequence import STEP, Narrator

Names = tuple[str, str]


def pair_drift(names: Names, before: float, now: float, drifted: bool = True) -> PairDrift:
    """A pair as a window tells of it."""
    return PairDrift(
        columns=names, severity=abs(before - now), drifted=drifted, reference=before, current=now
    )


def parted(narrator: Narrator, pairs: Mapping[Names, tuple[float, float]]) -> list[Event]:
    """Pairs whose correlation went from the first to the second figure, detected together."""
    told = {" ~ ".join(names): pair_drift(names, *figures) for names, figures in pairs.items()}
    evidence = _evidence(narrator, "parted", *told).model_copy(update={"pairs": told})
    return [evidence, _detected(narrator, evidence, [name for names in pairs for name in names], "parted")]


def rejoined(narrator: Narrator, detected: Event, names: Names) -> list[Event]:
    """One of the pairs moves together again."""
    return [_resolved(narrator, detected, names)]


def within(narrator: Narrator, segment: str, moved: Mapping[str, float], share: float = 0.1) -> list[Event]:
    """Columns of one segment move by so many deviations; the rest of the traffic doesn't."""
    columns = {name: narrator._column(name, shift) for name, shift in moved.items()}
    evidence = _evidence(narrator, "alarm", segment, *columns)
    evidence = evidence.model_copy(update={"columns": columns, "segment": segment})
    return [
        evidence,
        _detected(narrator, evidence, list(columns), f"for {segment}: moved", segment=segment, share=share),
    ]


def over(narrator: Narrator, detected: Event, *columns: str) -> list[Event]:
    """Columns of a detection are back, one after the other."""
    return [_resolved(narrator, detected, (name,)) for name in columns]


def changed(
    narrator: Narrator,
    missing: Sequence[str] = (),
    retyped: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> list[Event]:
    """From now on these columns are not as in training; with none, all are again."""
    what = {"missing": missing, "retyped": retyped, "extra": extra}
    found = {name: Deviation(kind) for kind, names in what.items() for name in names}
    return [
        ColumnsChanged(
            id=ids.derive(narrator.model, narrator.version, narrator.at, "columns"),
            at=narrator.at,
            model=narrator.model,
            version=narrator.version,
            severity="warning" if missing or retyped else "info",
            sentence=sentence(found),
            **what,
        )
    ]


def window(narrator: Narrator, states: Mapping[str, DriftState], **fields: object) -> list[Event]:
    """One more window of the champion, in which columns have these states."""
    narrator.calm(1)
    told = narrator.last_window
    columns: dict[str, ColumnDrift] = dict(told.columns)
    for name, state in states.items():
        drifted = state is DriftState.DRIFTED
        columns[name] = columns[name].model_copy(update={"state": state, "drifted": drifted})
    return [told.model_copy(update={"columns": columns, **fields})]


def everything(narrator: Narrator) -> list[Event]:
    """All of it at once, some of it over again."""
    told = parted(narrator, {("temperature", "pressure"): (0.72, 0.18), ("distance", "seats"): (0.61, 0.35)})
    pairs = told[-1]
    told += within(narrator, "carrier=UA", {"prior_delay": 0.9, "turnaround_minutes": 0.4}, share=0.174)
    told += within(narrator, "carrier=VX", {"distance": -0.5}, share=0.015)
    united = told[-3]
    narrator.at += STEP
    told += changed(narrator, missing=["seats"], extra=["gate_code", "fuel_price"])
    narrator.at += STEP
    told += changed(narrator, missing=["seats"], retyped=["plane_age"], extra=["gate_code", "fuel_price"])
    told += rejoined(narrator, pairs, ("distance", "seats")) + over(narrator, united, "turnaround_minutes")
    gone = within(narrator, "carrier=DL", {"wind_speed": 0.3}, share=0.143)
    told += gone + over(narrator, gone[-1], "wind_speed")
    states = {"visibility": DriftState.SUSPECTED, "precipitation": DriftState.RESOLVED}
    return told + window(narrator, states)


def _evidence(narrator: Narrator, *what: str) -> DriftMeasured:
    return DriftMeasured(
        id=ids.derive(narrator.model, narrator.version, narrator.at, *what),
        at=narrator.at,
        model=narrator.model,
        version=narrator.version,
        rows=512,
        since=narrator.at - STEP,
        until=narrator.at,
        spans=[],
        columns={},
        partial=True,
    )


def _detected(
    narrator: Narrator, evidence: DriftMeasured, columns: Sequence[str], said: str, **fields: object
) -> DriftDetected:
    severities = [one.severity for one in evidence.columns.values()]
    severities += [one.severity for one in evidence.pairs.values()]
    return DriftDetected.following(
        evidence,
        version=narrator.version,
        kind=DriftKind.FEATURE,
        columns=columns,
        severity=max(severities),
        changed_at=evidence.since,
        sentence=f"{said}: {', '.join(columns)}",
        **fields,
    )


def _resolved(narrator: Narrator, detected: Event, columns: Sequence[str]) -> DriftResolved:
    assert isinstance(detected, DriftDetected)
    return DriftResolved(
        id=ids.derive(detected.id, "over", *columns),
        at=narrator.at,
        model=narrator.model,
        caused_by=detected.id,
        version=detected.version,
        kind=DriftKind.FEATURE,
        columns=columns,
        segment=detected.segment,
    )

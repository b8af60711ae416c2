"""ModelMonitor: what the agents measured, in one answer, and an alert where somebody should know."""

from collections.abc import Callable, Sequence

import pytest

from driftloop.mlops_core.monitor import (
    AlertManager,
    DriftDetector,
    MetricCollector,
    ModelMonitor,
    PerformanceAnalyzer,
)
from driftloop.schemas.events import (
    AlertRaised,
    ColumnDrift,
    DeployRequested,
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    Event,
    Outcome,
    PerformanceEstimated,
    PerformanceMeasured,
    Range,
)


class MemoryLog:
    """`ports.EventLog` in a list."""

    def __init__(self, *events: Event) -> None:
        self.events = list(events)
        self.reads = 0

    async def publish(self, event: Event) -> None:
        self.events.append(event)

    async def first(self, wanted: Callable[[Event], bool], seconds: float) -> Event | None:
        return next((event for event in self.events if wanted(event)), None)

    async def history(self, model: str, kinds: Sequence[type[Event]]) -> Sequence[Event]:
        self.reads += 1
        return [event for event in self.events if isinstance(event, tuple(kinds)) and event.model == model]

    @property
    def alerts(self) -> list[str]:
        return [event.sentence for event in self.events if isinstance(event, AlertRaised)]


def column(*, drifted: bool, kind: DriftKind = DriftKind.FEATURE) -> ColumnDrift:
    return ColumnDrift(
        severity=0.5, channel="location", drifted=drifted, kind=kind, reference=[1, 0], current=[1, 0]
    )


def measured(**columns: ColumnDrift) -> DriftMeasured:
    fields = {"version": "1", "rows": 1024, "since": 0, "until": 9, "spans": [], "columns": columns}
    return DriftMeasured.model_validate({"id": "w", "at": 9, "model": "m", **fields})


LABELS = PerformanceMeasured(
    id="p", at=9, model="m", since=0, until=9, rows=4, labelled=40, versions={"1": Outcome(rows=4, errors=1)}
)
CONCEPT = DriftDetected(
    id="c",
    at=9,
    model="m",
    version="1",
    kind=DriftKind.CONCEPT,
    columns=[],
    severity=1,
    changed_at=8,
    sentence="wrong answers went from 10 % to 25 %",
)


def monitor(log: MemoryLog) -> ModelMonitor:
    return ModelMonitor(MetricCollector(log), DriftDetector(), PerformanceAnalyzer(), AlertManager(log))


async def test_a_drifted_feature_is_answered_and_alerted_once_a_window() -> None:
    log = MemoryLog(measured(x=column(drifted=True), y=column(drifted=False)), LABELS)
    result = await monitor(log).monitor_model("m:1")
    await monitor(log).monitor_model("m:1")
    assert result.drift is not None
    assert result.metrics["error_rate"] == 0.25
    assert log.alerts == ["m:1: x drifted"] * 2
    assert len({event.id for event in log.events if isinstance(event, AlertRaised)}) == 1


async def test_the_evidence_of_an_alarm_is_no_window_of_all_columns() -> None:
    partial = measured().model_copy(update={"partial": True})
    log = MemoryLog(measured(x=column(drifted=True)), partial)
    result = await monitor(log).monitor_model("m:1")
    assert result.drift is not None
    assert list(result.drift.columns) == ["x"]


async def test_where_nothing_drifts_nobody_is_told() -> None:
    log = MemoryLog(measured(x=column(drifted=False)))
    await monitor(log).monitor_model("m:1")
    assert log.alerts == []


async def test_concept_drift_is_told_in_words_though_no_column_drifted() -> None:
    log = MemoryLog(measured(x=column(drifted=False)), CONCEPT)
    await monitor(log).monitor_model("m:1")
    assert log.alerts == ["m:1: the relation of scores to labels (concept) drifted"]


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_kind_that_was_muted_alerts_nobody_whichever_version_serves(version: str) -> None:
    mute = DeployRequested(id="r", at=1, model="m", version=version, muted=(DriftKind.FEATURE,))
    log = MemoryLog(mute, measured(x=column(drifted=True)))
    assert (await monitor(log).monitor_model("m:1")).drift is not None
    assert log.alerts == []


async def test_concept_drift_that_is_over_is_told_no_more() -> None:
    over = DriftResolved.following(CONCEPT, version="1", kind=DriftKind.CONCEPT, columns=[])
    log = MemoryLog(measured(x=column(drifted=False)), CONCEPT, over)
    await monitor(log).monitor_model("m:1")
    assert log.alerts == []


async def test_what_columns_do_meanwhile_neither_hides_nor_revives_concept_drift() -> None:
    fields = {"kind": DriftKind.FEATURE, "columns": ["x"]}
    column_drifted = CONCEPT.model_copy(update={"id": "f", **fields})
    column_back = DriftResolved.following(column_drifted, version="1", **fields)
    concept_over = DriftResolved.following(CONCEPT, version="1", kind=DriftKind.CONCEPT, columns=[])
    told = [measured(x=column(drifted=False)), CONCEPT, column_drifted]
    for log, alerts in ((MemoryLog(*told), 1), (MemoryLog(*told, concept_over, column_back), 0)):
        await monitor(log).monitor_model("m:1")
        assert len(log.alerts) == alerts


async def test_the_windows_of_another_version_are_not_those_of_this() -> None:
    windows = [measured(x=column(drifted=drifted)) for drifted in (True, False)]
    windows[1] = windows[1].model_copy(update={"version": "2"})
    log = MemoryLog(*windows)
    result = await monitor(log).monitor_model("m:1")
    assert result.drift == windows[0]


@pytest.mark.parametrize("version", ["1", "2"])
async def test_what_labels_will_say_of_the_deployment_is_answered_with_its_trust(version: str) -> None:
    fields = {"version": version, "rows": 1024, "since": 0, "until": 9, "labelled": 900, "trusted": True}
    estimated = PerformanceEstimated.model_validate(
        {
            "id": "e",
            "at": 9,
            "model": "m",
            "sentence": "about 12 % wrong answers",
            **fields,
            "error_rate": Range(value=0.12, low=0.1, high=0.14),
            "loss": Range(value=0.09, low=0.08, high=0.1),
        }
    )
    result = await monitor(MemoryLog(estimated)).monitor_model("m:1")
    expected = {"estimated_error_rate": 0.12, "estimated_loss": 0.09, "estimate_trusted": 1.0}
    assert result.metrics == (expected if version == "1" else {})
    assert result.estimated == (estimated if version == "1" else None)


async def test_one_look_at_a_deployment_reads_the_log_once() -> None:
    log = MemoryLog(measured(size=column(drifted=False)), LABELS, CONCEPT)
    await monitor(log).monitor_model("m:1")
    assert log.reads == 1

"""The benchmark measures what it says: every row is met, counted, and on the page."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from benchmarks.speed import (
    agents,
    bare_replica,
    consumers,
    growth,
    latency,
    peers,
    serving,
    shortfalls,
    traffic,
)
from benchmarks.speed.latency import Alarm, Browser
from benchmarks.speed.memory import Memory
from benchmarks.speed.table import Row, environment, figures, markdown, missed_goals
from driftloop.infra.adapters import folder_reader
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer
from driftloop.schemas.events import DriftDetected, DriftKind
from driftloop.schemas.records import PredictionBatch
from driftloop.streams.wire import codec
from driftloop.streams.wire.blocks import Block

MEASURED = [
    (
        "Speed",
        [
            Row("a", 1234.5, "rows", ">= 1,000", True),
            Row.at_least("b", 0.456, "x", 0.5),
            Row.at_most("c", 12.34, "us", 100_000),
            Row("d", 5.0, "s"),
            Row.missing("e", "not measured: it isn't there"),
        ],
    )
]


def test_the_page_says_which_goals_were_missed() -> None:
    page = markdown(MEASURED, environment())
    assert "| a | 1,234 rows | >= 1,000 | yes |" in page
    assert "| b | 0.46 x | >= 0.5 | **no** |" in page
    assert "| c | 12.3 us | <= 100,000 | yes |" in page
    assert "| d | 5.00 s |  |  |" in page
    assert "| e | not measured: it isn't there |  |  |" in page
    assert missed_goals(MEASURED) == ["b"]


def test_programs_read_the_same_figures_and_what_they_were_taken_with() -> None:
    told = orjson.loads(figures(MEASURED, environment()))
    assert [row["figure"] for row in told["sections"][0]["rows"]] == [1234.5, 0.456, 12.34, 5.0, None]
    assert told["cores"] >= 1
    assert {"Python", "Apache Kafka", "river", "faust-streaming"} <= set(told["versions"])


def test_a_missed_goal_is_explained_or_said_to_be_unexplained() -> None:
    told = shortfalls.explain(["label join, decoding and encoding included", "flying"])
    assert "**Label join**" in told
    assert "Not explained yet: flying." in told
    assert "**Drift**" not in told
    assert shortfalls.explain([]) == ""


def test_the_others_count_the_rows_of_single_events_and_of_batches() -> None:
    singles = [codec.encode(one) for one in traffic.singles(10)]
    batches = [Block.from_batch(one).encode() for one in traffic.batches(1000, 250)]
    assert (consumers.matrix(singles), consumers.matrix(batches)) == (10, 1000)


def test_traffic_has_as_many_rows_as_it_says_its_models_in_turn() -> None:
    said = traffic.columnar(2_500, partitions=1, models=("a", "b"))
    batches = [one for one in said.records if isinstance(one, PredictionBatch)]
    assert [(one.model, len(one.ids)) for one in batches] == [(m, 500) for m in "ababa"]
    assert (said.rows, said.models) == (2_500, 2)


def test_a_single_event_is_of_the_size_that_the_goals_are_for() -> None:
    sizes = [len(codec.encode(one)) for one in traffic.singles(100)]
    assert 250 < sum(sizes) / len(sizes) < 450


def test_every_agent_of_the_data_plane_is_measured() -> None:
    measured = agents.measure(rows=4_000, single_rows=1_000)
    assert {row.what.split(",")[0].split(" (")[0] for row in measured} >= {
        "summarising",
        "drift",
        "joining",
        "performance",
        "storing",
    }
    assert all(row.figure is not None and row.figure > 0 for row in measured)


def test_an_alarm_that_never_comes_is_late_for_ever() -> None:
    alarms = [Alarm(at=1_000, published=1_000 + 10 * n, seen=1_000 + 100 * n) for n in range(1, 20)]
    rows = {row.what: row for row in latency.latency_rows(5_000, 20, alarms)}
    assert rows["— p50"].figure == 1.0
    assert rows["from the row that made it sure to the page, p95"].met is False
    assert math.isclose(rows["from the row that made it sure to the page, p95"].figure or 0, 1.9)
    rows = {row.what: row for row in latency.latency_rows(5_000, 21, alarms)}
    assert rows["from the row that made it sure to the page, p95"].figure == math.inf


def test_each_alarm_counts_from_when_the_page_first_showed_it() -> None:
    def news(*marks: str) -> Mapping[str, object]:
        return {"models": {"m": {"parts": {}, "added": {"marks": [{"id": one, "at": 1} for one in marks]}}}}

    browser = Browser(port=0)
    browser.take({"models": {}}, 1.0)
    browser.take(news("a"), 2.0)
    browser.take(news("a", "b"), 3.0)
    assert browser.seen == {"a": 2.0, "b": 3.0}


def test_an_alarm_that_names_two_columns_counts_for_both_and_later_ones_for_neither() -> None:
    first, second, third = latency.schedule(traffic.columns(1))[::2][:3]

    def said(name: str, at: int, *columns: str) -> latency.Said:
        event = DriftDetected(
            id=name,
            at=at,
            model=first.model,
            version="1",
            kind=DriftKind.FEATURE,
            columns=columns,
            severity=1.0,
            changed_at=at,
            sentence="it drifted",
        )
        return event, at + 1.0

    events = [
        said("a", 10, first.column, second.column),
        said("b", 20, first.column),
        said("c", 30, third.column),
    ]
    found = latency.match_alarms([first, second, third], events, {"a": 12.0, "b": 22.0})
    assert found == [Alarm(10, 11.0, 12.0)] * 2


def test_twenty_alarms_at_least_are_provoked_each_in_a_column_of_its_own() -> None:
    shifts = latency.schedule(traffic.columns(1))
    assert len({(one.model, one.column) for one in shifts}) == len(shifts) >= 20
    assert len({one.second for one in shifts}) == len(shifts)


def test_columns_shift_when_their_second_has_come_and_nothing_else_does() -> None:
    [column] = [one for one in latency.schedule(traffic.columns(1)) if one.model == "left"][:1]
    rows = [one for one in latency.rows(20_000, [column]) if one.model == "left"]
    since = int(column.second * latency.RATE) // len(latency.MODELS)
    values = {name: np.array([row.features[name] for row in rows]) for name in ("n0", "n1")}
    moved = {name: float(v[since:].mean() - v[:since].mean()) for name, v in values.items()}
    assert column.column == "n0"
    assert abs(moved["n0"] - 1.0) < 0.2
    assert abs(moved["n1"]) < 0.2


def test_the_busier_of_two_workers_decides_how_much_two_are_worth() -> None:
    [speedup, together] = growth.worker_rows([3.0], [2.0, 1.0])
    assert (speedup.figure, speedup.met) == (1.5, False)
    assert together.figure == 1.0
    assert growth.worker_rows([3.0], [1.6, 1.6])[0].met


def test_more_partitions_must_not_cost_more_a_row() -> None:
    assert [row.met for row in growth.partition_rows(one=5.0, four=5.0, eight=5.5)] == [
        None,
        None,
        None,
        True,
    ]
    assert growth.partition_rows(one=5.0, four=5.0, eight=6.0)[-1].met is False


def test_memory_is_flat_if_the_second_half_needs_no_more_than_the_second_tenth() -> None:
    flat = Memory.of([(1, 10), (15, 100), (19, 90), (50, 105), (100, 100)])
    growing = Memory.of([(rows, 50 + rows) for rows in range(1, 101)])
    assert [row.met for row in growth.memory_rows("it", 100, flat)] == [None, True]
    assert [row.met for row in growth.memory_rows("it", 100, growing)] == [None, False]


def test_what_fills_for_a_third_of_the_rows_and_is_flat_then_does_not_grow() -> None:
    filling = [(rows, min(rows, 33)) for rows in range(1, 101)]
    assert Memory.of(filling).growth > 2
    assert Memory.of(filling, full=0.33).growth == 1


def test_lasting_traffic_repeats_values_but_never_an_id() -> None:
    said = traffic.lasting(2 * traffic.BASE_ROWS, partitions=4)
    batches = [one for one in said.records if isinstance(one, PredictionBatch)]
    ids = [name for one in batches for name in one.ids]
    assert len(set(ids)) == len(ids) == said.rows
    assert batches[0].features == batches[len(batches) // 2].features


def test_the_join_keeps_no_more_than_its_horizon_allows() -> None:
    rows = {row.what: row for row in growth.label_join_rows(300_000)}
    assert rows["— rows that it keeps"].met
    assert (rows["label join over 300,000 events"].figure or 0) > 0


def test_a_replica_is_held_against_an_app_that_only_scores() -> None:
    rows = serving.serving_rows(bare=400.0, ours=430.0, rollbacks=[0.1, 0.3, 0.2])
    assert [(row.figure, row.met) for row in rows[2:]] == [(1.075, True), (0.3, True)]
    assert serving.serving_rows(400.0, 450.0, [2.5])[2].met is False
    assert serving.serving_rows(400.0, 450.0, [2.5])[3].met is False


async def test_the_app_that_only_scores_gives_the_score_of_the_replica(tmp_path: Path) -> None:
    model = serving.measured_model()
    folder_reader.save(tmp_path, traffic.MODEL, "1", model)
    app, [body, *_] = bare_replica.application(tmp_path, traffic.MODEL, "1"), serving.bodies()
    sent: list[Any] = []

    async def receive() -> Mapping[str, object]:
        return {"body": body}

    async def send(message: Mapping[str, object]) -> None:
        sent.append(message)

    await app({}, receive, send)
    asked = orjson.loads(body)["rows"][0]
    scored = XGBoostScorer(model)({name: [value] for name, value in asked["features"].items()}, 1)
    [said] = orjson.loads(sent[1]["body"])["predictions"]
    assert said == {"id": asked["id"], "version": "1", "score": pytest.approx(scored[0])}


def test_a_peer_that_can_not_be_installed_is_a_row_that_says_so(tmp_path: Path) -> None:
    nobody = peers.Peer("nobody", "Nobody, at all", ("what is no requirement",), 1_000, 300)
    [row] = peers.compare(nobody, tmp_path / "rows.npz", 1.0, environments=tmp_path)
    assert row.figure is None
    assert row.unit.startswith("not measured: ")


def test_our_own_path_is_measured_over_the_rows_that_peers_get() -> None:
    assert peers.in_process(2_000) > 0

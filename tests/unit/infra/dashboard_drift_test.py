"""Promises of what the board shows of pairs, segments, states and columns that are not as in training."""

from typing import Any

import orjson
import pytest

from driftloop.infra.dashboard.app import encode_json
from driftloop.infra.dashboard.board import Board
from driftloop.infra.dashboard.evidence import COLUMNS, EVIDENCE, ROWS
from driftloop.infra.dashboard.metrics import families
from driftloop.schemas.events import DriftDetected, DriftMeasured, DriftState, Event
from tests.support import drift_events
from tests.support.drift_events import changed, over, parted, rejoined, within
from tests.support.event_sequence import Narrator

PARTED = {("temperature", "pressure"): (0.7, 0.1), ("distance", "seats"): (0.6, 0.3)}


@pytest.fixture
def narrator() -> Narrator:
    return Narrator()


@pytest.fixture
def calm(narrator: Narrator) -> list[Event]:
    return narrator.first_version() + narrator.calm(2)


def board_of(events: list[Event]) -> Board:
    board = Board()
    for written, event in enumerate(events):
        board.apply(event, written)
    return board


def parts(events: list[Event]) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(encode_json(board_of(events).news()))["models"]["flights"]["parts"]
    return told


def test_a_pair_that_parted_is_listed_with_both_correlations(narrator: Narrator, calm: list[Event]) -> None:
    rows = parts(calm + parted(narrator, PARTED))["pairs"]["rows"]
    assert [tuple(row["columns"]) for row in rows] == list(PARTED)
    assert (rows[0]["reference"], rows[0]["current"], rows[0]["at"]) == (0.7, 0.1, narrator.at)


def test_a_pair_that_moves_together_again_leaves_and_the_other_stays(
    narrator: Narrator, calm: list[Event]
) -> None:
    told = calm + parted(narrator, PARTED)
    first, second = PARTED
    after_one = told + rejoined(narrator, told[-1], first)
    assert [tuple(row["columns"]) for row in parts(after_one)["pairs"]["rows"]] == [second]
    after_both = parts(after_one + rejoined(narrator, told[-1], second))
    assert after_both["pairs"]["rows"] == []
    assert after_both["status"]["word"] == "OK"


def test_of_pairs_that_share_columns_each_leaves_by_itself(narrator: Narrator, calm: list[Event]) -> None:
    triangle = dict.fromkeys([("a", "b"), ("b", "c"), ("a", "c")], (0.7, 0.1))
    told = calm + parted(narrator, triangle)
    detected, waiting = told[-1], list(triangle)
    while waiting:
        told += rejoined(narrator, detected, waiting.pop(0))
        assert sorted(tuple(row["columns"]) for row in parts(told)["pairs"]["rows"]) == sorted(waiting)
    assert parts(told)["status"]["word"] == "OK"


def test_pairs_of_a_detection_that_ends_as_one_leave_together(narrator: Narrator, calm: list[Event]) -> None:
    told = calm + parted(narrator, {**PARTED, ("a", "b"): (0.5, 0.1)})
    detected = told[-1]
    told += rejoined(narrator, detected, ("a", "b"))
    [ended] = rejoined(narrator, detected, ("temperature", "distance"))
    columns = ["temperature", "pressure", "distance", "seats"]
    told.append(ended.model_copy(update={"columns": columns, "sentence": "version 2 answers no more"}))
    assert parts(told)["pairs"]["rows"] == []
    assert parts(told)["status"]["word"] == "OK"


def test_a_pairs_correlation_is_that_of_the_newest_window(narrator: Narrator, calm: list[Event]) -> None:
    told = calm + parted(narrator, PARTED)
    names = ("temperature", "pressure")
    pairs = {"temperature ~ pressure": drift_events.pair_drift(names, 0.7, -0.2)}
    row = parts(told + drift_events.window(narrator, {}, pairs=pairs))["pairs"]["rows"][0]
    assert (row["columns"], row["current"]) == (list(names), -0.2)


def test_pairs_and_segments_are_counted_apart_from_columns(narrator: Narrator, calm: list[Event]) -> None:
    told = calm + parted(narrator, PARTED)
    assert parts(told)["status"]["detail"] == "2 pairs"
    told += within(narrator, "carrier=UA", {"distance": 0.5})
    assert parts(told)["status"]["detail"] == "2 pairs, 1 segment"
    told += narrator.drift({"prior_delay": 0.5}, error=0.062, windows=2)
    assert parts(told)["status"]["detail"] == "1 of 14 columns, 2 pairs, 1 segment"


def test_a_model_without_segments_shows_none(calm: list[Event]) -> None:
    assert parts(calm)["segments"] == {"rows": [], "more": 0}


def test_a_segment_names_its_worst_column_and_has_its_evidence(narrator: Narrator, calm: list[Event]) -> None:
    moved = {"distance": 0.4, "prior_delay": 0.9}
    [row] = parts(calm + within(narrator, "carrier=UA", moved, share=0.174))["segments"]["rows"]
    assert (row["name"], row["share"], row["state"]) == ("carrier=UA", 0.174, "drifted")
    assert [one["name"] for one in row["columns"]] == ["prior_delay", "distance"]
    assert row["severity"] == row["columns"][0]["severity"] > 0.8
    assert len(row["columns"][0]["reference"]["shares"]) == len(row["columns"][0]["current"]["shares"])


def test_segments_that_drift_come_first_and_those_that_are_over_say_since_when(
    narrator: Narrator, calm: list[Event]
) -> None:
    told = calm + within(narrator, "carrier=VX", {"distance": 0.9})
    told += over(narrator, told[-1], "distance")
    told += within(narrator, "carrier=UA", {"distance": 0.3})
    first, second = parts(told)["segments"]["rows"]
    assert (first["name"], first["until"]) == ("carrier=UA", None)
    assert (second["name"], second["state"], second["until"]) == ("carrier=VX", "resolved", narrator.at)
    [column] = second["columns"]
    assert (column["name"], column["state"]) == ("distance", "resolved")
    assert column["current"]["severity"] > 0.8


def test_a_segment_of_two_columns_is_over_when_both_are(narrator: Narrator, calm: list[Event]) -> None:
    told = calm + within(narrator, "carrier=UA", {"distance": 0.9, "seats": 0.5})
    half = told + over(narrator, told[-1], "distance")
    [row] = parts(half)["segments"]["rows"]
    assert [(one["name"], one["state"]) for one in row["columns"]] == [
        ("seats", "drifted"),
        ("distance", "resolved"),
    ]
    assert parts(half + over(narrator, told[-1], "seats"))["segments"]["rows"][0]["state"] == "resolved"


def test_a_segment_whose_evidence_is_gone_still_has_its_row(narrator: Narrator, calm: list[Event]) -> None:
    told = calm + within(narrator, "carrier=UA", {"distance": 0.5})
    without = [one for one in told if not (isinstance(one, DriftMeasured) and one.partial)]
    [row] = parts(without)["segments"]["rows"]
    assert row["columns"][0]["name"] == "distance"
    assert row["columns"][0]["current"] is None
    assert row["severity"] > 0.4


def test_of_many_segments_the_worst_are_sent_and_the_others_counted(
    narrator: Narrator, calm: list[Event]
) -> None:
    told = list(calm)
    for n in range(ROWS + 40):
        told += within(narrator, f"device={n}", {"distance": 0.3 + n / 100})
    shown = parts(told)["segments"]
    assert len(shown["rows"]) == ROWS
    assert shown["rows"][0]["name"] == f"device={ROWS + 39}"
    assert shown["more"] == 40


def test_thousands_of_segments_fill_no_memory(narrator: Narrator, calm: list[Event]) -> None:
    wide = dict.fromkeys(list(narrator.last_window.columns)[1 : COLUMNS + 4], 0.5)
    once = within(narrator, "device=0", wide)
    told = list(calm)
    for n in range(3000):
        seen, found = (
            one.model_copy(update={"id": f"{one.id} {n}", "segment": f"device={n}"}) for one in once
        )
        told += [seen, found.model_copy(update={"caused_by": seen.id})]
    board = board_of(told)
    assert len(encode_json(board.news())) < 600_000
    evidence = board.models["flights"]._evidence._seen
    assert len(evidence) == EVIDENCE
    assert all(len(one.columns) <= COLUMNS for one in evidence.values())


def test_drift_of_a_version_that_serves_no_more_is_not_shown(narrator: Narrator, calm: list[Event]) -> None:
    told = calm + narrator.retraining("2", "manual", error=0.06) + narrator.rollout(error=0.05)
    straggler = [
        one.model_copy(update={"version": "1"})
        for one in parted(narrator, PARTED) + within(narrator, "carrier=UA", {"distance": 0.5})
    ]
    shown = parts(told + straggler)
    assert (shown["status"]["word"], shown["pairs"]["rows"], shown["segments"]["rows"]) == ("OK", [], [])


def test_columns_that_are_not_as_in_training_keep_since_when(narrator: Narrator, calm: list[Event]) -> None:
    told = calm + changed(narrator, missing=["seats"])
    began = narrator.at
    told += narrator.calm(1) + changed(narrator, missing=["seats"], retyped=["temperature"], extra=["gate"])
    [version] = parts(told)["deviations"]
    assert [(one["column"], one["what"], one["since"]) for one in version["columns"]] == [
        ("seats", "missing", began),
        ("temperature", "retyped", narrator.at),
        ("gate", "extra", narrator.at),
    ]


def test_columns_that_are_as_in_training_again_leave(narrator: Narrator, calm: list[Event]) -> None:
    told = calm + changed(narrator, missing=["seats"]) + narrator.calm(1) + changed(narrator)
    assert parts(told)["deviations"] == []


def test_a_columns_state_is_that_of_the_newest_window(narrator: Narrator, calm: list[Event]) -> None:
    states = {"distance": DriftState.SUSPECTED, "seats": DriftState.RESOLVED}
    current = parts(calm + drift_events.window(narrator, states))["current"]
    assert {name: current[name]["state"] for name in ("distance", "seats", "carrier")} == {
        "distance": "suspected",
        "seats": "resolved",
        "carrier": "stable",
    }


def test_prometheus_counts_what_drifts(narrator: Narrator, calm: list[Event]) -> None:
    board = board_of(calm + drift_events.everything(narrator))
    [family] = [one for one in families(board) if one.name == "driftloop_drift_open"]
    counted = {one.labels["of"]: one.value for one in family.samples}
    assert counted == {"column": 0, "pair": 1, "segment": 2, "concept": 0, "deviating column": 4}


def test_no_two_samples_of_a_family_have_the_same_labels(narrator: Narrator, calm: list[Event]) -> None:
    for family in families(board_of(calm + drift_events.everything(narrator))):
        labels = [tuple(sorted(one.labels.items())) for one in family.samples]
        assert len(labels) == len(set(labels)), family.name


def test_a_detection_says_what_it_is_of_even_if_it_is_read_before_its_evidence(
    narrator: Narrator, calm: list[Event]
) -> None:
    told = parted(narrator, PARTED)
    assert isinstance(told[-1], DriftDetected)
    assert parts(calm + told[::-1])["pairs"] == parts(calm + told)["pairs"]

"""Promises of the board: what the page shows follows from the events, in whatever order windows come."""

from typing import Any

import orjson
import pytest

from driftloop.infra.dashboard.app import encode_json
from driftloop.infra.dashboard.board import MODELS, SILENT_MS, Board
from driftloop.infra.dashboard.model_board import WINDOWS
from driftloop.schemas.events import (
    EVERY_MODEL,
    AgreementMeasured,
    AlertRaised,
    DriftDetected,
    DriftMeasured,
    DriftResolved,
    Event,
    EvidenceMeasured,
    ModelRegistered,
    PerformanceEstimated,
    PerformanceMeasured,
    PostStratified,
    RetrainRefused,
    RolloutRolledBack,
    TrafficMeasured,
    TrainingFailed,
    TrainingStarted,
)
from tests.support.event_sequence import STEP, Narrator, dead_letter

MEASURED = (
    DriftMeasured,
    PerformanceMeasured,
    PerformanceEstimated,
    EvidenceMeasured,
    AgreementMeasured,
    TrafficMeasured,
)
"""What comes with every window, and is no decision."""


def board_of(events: list[Event]) -> Board:
    board = Board()
    for written, event in enumerate(events):
        board.apply(event, written)
    return board


def news(board: Board, since: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(encode_json(board.news(since)))
    return told


def shown(board: Board, model: str = "flights") -> dict[str, Any]:
    whole: dict[str, Any] = news(board)["models"][model]
    return whole


def until(events: list[Event], kind: type) -> list[Event]:
    """The story up to the first event of a kind, that one included."""
    return events[: next(n for n, event in enumerate(events) if isinstance(event, kind)) + 1]


@pytest.fixture
def story() -> list[Event]:
    return Narrator().whole_story()


def test_a_model_without_drift_is_ok() -> None:
    narrator = Narrator()
    parts = shown(board_of(narrator.first_version() + narrator.calm(3)))["parts"]
    assert (parts["status"]["word"], parts["figures"]["champion"]) == ("OK", "1")


def test_an_open_episode_is_the_status_and_says_since_when(story: list[Event]) -> None:
    before = until(story, DriftDetected)
    status = shown(board_of(before))["parts"]["status"]
    assert (status["word"], status["since"]) == ("Drift", before[-1].at)


def test_a_resolved_episode_is_no_longer_the_status() -> None:
    narrator = Narrator()
    told = narrator.first_version() + narrator.calm(2)
    told += narrator.drift({"prior_delay": 0.5}, error=0.065, windows=4)
    detected = next(event for event in told if isinstance(event, DriftDetected))
    told += narrator.resolution(detected)
    assert shown(board_of(told))["parts"]["status"]["word"] == "OK"


def test_an_episode_of_two_columns_is_over_when_both_are() -> None:
    narrator = Narrator()
    told = narrator.first_version() + narrator.calm(2)
    told += narrator.drift({"prior_delay": 0.5, "temp": 0.4}, error=0.065, windows=4)
    detected = next(event for event in told if isinstance(event, DriftDetected))
    for column, word in zip(detected.columns, ("Drift", "OK"), strict=True):
        told += narrator.resolution(detected.model_copy(update={"columns": [column]}))
        assert shown(board_of(told))["parts"]["status"]["word"] == word


def test_the_same_event_again_changes_nothing(story: list[Event]) -> None:
    once, twice = board_of(story), board_of([event for event in story for _ in range(2)])
    assert encode_json(once.news()) == encode_json(twice.news())


def test_windows_may_come_before_the_decisions_they_led_to(story: list[Event]) -> None:
    metrics = [event for event in story if isinstance(event, MEASURED)]
    decisions = [event for event in story if event not in metrics]
    mixed, apart = shown(board_of(story)), shown(board_of(metrics + decisions))
    assert mixed["parts"] == apart["parts"]


def test_a_browser_that_merges_deltas_has_what_a_snapshot_has(story: list[Event]) -> None:
    board, known, parts, added = Board(), 0, {}, {}  # type: ignore[var-annotated]
    for n, event in enumerate(story):
        board.apply(event, n)
        if n % 7 == 0 or event is story[-1]:
            delta = news(board, known)
            known = delta["sequence"]
            for model in delta["models"].values():
                parts.update(model["parts"])
                for name, items in model["added"].items():
                    added.setdefault(name, []).extend(items)
    assert {"parts": parts, "added": added} == shown(board)


def test_no_news_is_an_empty_delta(story: list[Event]) -> None:
    board = board_of(story)
    seen = news(board)["sequence"]
    assert news(board, seen)["models"] == {}


def test_what_is_kept_is_bounded() -> None:
    narrator = Narrator()
    board = board_of(narrator.first_version() + narrator.calm(WINDOWS + 30))
    assert len(shown(board)["added"]["windows"]) == WINDOWS


def test_a_rollout_shows_its_share_and_its_newest_verdict() -> None:
    narrator = Narrator()
    told = narrator.first_version() + narrator.calm(5) + narrator.retraining("2", "concept", error=0.05)
    rolled = narrator.rollout(error=0.05)
    at_ten = next(n for n, event in enumerate(rolled) if getattr(event, "weight", 0) == 10)
    rollout = shown(board_of(told + rolled[: at_ten + 1]))["parts"]["rollout"]
    assert (rollout["weight"], rollout["phase"], rollout["verdict"]["outcome"]) == (10, "canary", "pass")


def test_a_rollback_names_where_it_stopped_and_the_champion_stays(story: list[Event]) -> None:
    parts = shown(board_of(until(story, RolloutRolledBack)))["parts"]
    assert (parts["rollout"]["phase"], parts["rollout"]["label"]) == ("reverted", "rolled back")
    assert (parts["rollout"]["reached"], parts["rollout"]["weight"]) == (10, 0)
    assert parts["figures"]["champion"] == "2"


def test_the_table_says_what_became_of_each_version_and_why_it_was_trained(story: list[Event]) -> None:
    rows = shown(board_of(story))["parts"]["versions"]
    told = [(row["version"], row["state"], row["trigger"]) for row in rows]
    assert told == [
        ("4", "registered", "follow-up"),
        ("3", "rolled back", "follow-up"),
        ("2", "champion", "concept"),
        ("1", "previous", "by hand"),
    ]


def test_the_error_rate_is_the_champions_and_its_reference_its_first_labels(story: list[Event]) -> None:
    figures = shown(board_of(until(story, TrainingStarted)))["parts"]["figures"]
    assert figures["champion"] == "1"
    assert figures["value"] > 0.09
    assert figures["reference"] < 0.08


def test_a_refused_retraining_does_not_hide_the_one_that_runs(story: list[Event]) -> None:
    running = until(story, TrainingStarted)
    refused = RetrainRefused.following(running[-1], reason="one is in flight")
    assert shown(board_of([*running, refused]))["parts"]["pipeline"]["word"] == "Training"


def test_a_cause_that_comes_after_its_effect_does_not_turn_the_clock_back(story: list[Event]) -> None:
    told = until(story, TrainingStarted)
    failed = TrainingFailed.following(told[-1], error="out of memory")
    late = [*told[:-1], failed, told[-1]]
    assert shown(board_of(late))["parts"]["pipeline"]["word"] == "Failed"


def test_a_rollback_leads_back_to_the_window_that_began_it(story: list[Event]) -> None:
    narrator = Narrator()
    told = narrator.first_version() + narrator.calm(3)
    told += narrator.drift({"prior_delay": 0.6}, error=0.1, windows=5)
    told += narrator.retraining("2", "concept", error=0.09) + narrator.rollout(error=0.15, until=5)
    rolled_back = next(event for event in told if isinstance(event, RolloutRolledBack))
    chain = board_of(told).chain(rolled_back.id)
    assert (chain[0].type, chain[-1].type) == ("RolloutRolledBack", "PerformanceMeasured")


def test_an_unknown_event_has_no_chain(story: list[Event]) -> None:
    assert board_of(story).chain("nobody knows this") == []


def test_every_decision_has_one_line_in_the_log(story: list[Event]) -> None:
    log = shown(board_of(story))["added"]["log"]
    decided = [e.id for e in story if not isinstance(e, MEASURED)]
    assert [entry["id"] for entry in log] == decided
    assert all(entry["text"] and entry["badge"] for entry in log)


def test_dead_letters_are_counted_by_reason_and_once() -> None:
    board = Board()
    for letter in (dead_letter(1), dead_letter(1), dead_letter(2, "unknown model")):
        board.park(letter)
    assert news(board)["letters"]["reasons"] == {"malformed": 1, "unknown model": 1}


def test_several_models_do_not_mix() -> None:
    flights, fraud = Narrator("flights"), Narrator("fraud", seed=8)
    told = flights.first_version() + fraud.first_version() + flights.calm(2) + fraud.calm(4)
    models = news(board_of(told))["models"]
    assert [len(models[name]["added"]["windows"]) for name in ("flights", "fraud")] == [2, 4]


def test_a_version_that_waits_for_a_person_says_so() -> None:
    registered = ModelRegistered(id="r", at=1, model="flights", version="9", run_id="x", rollout="manual")
    assert shown(board_of([registered]))["parts"]["versions"][0]["state"] == "waiting"


def test_an_alert_about_every_model_is_shown_with_each_and_makes_no_model_of_its_own(
    story: list[Event],
) -> None:
    behind = AlertRaised(id="lag", at=1, model=EVERY_MODEL, severity="warning", sentence="joining is behind")
    board = board_of([*story, behind])
    assert EVERY_MODEL not in news(board)["models"]
    assert "warning: joining is behind" in [one["text"] for one in shown(board)["added"]["alerts"]]


def test_what_labels_will_say_of_the_champion_is_a_figure_with_its_trust() -> None:
    narrator = Narrator()
    calm = narrator.first_version() + narrator.calm(30)
    before = shown(board_of(calm))
    assert abs(before["parts"]["figures"]["expected"]["error"] - 0.061) < 0.002
    assert before["parts"]["figures"]["expected"]["trusted"] is True
    assert len(before["added"]["estimates"]) == 30
    after = shown(board_of([*calm, *narrator.drift({"prior_delay": 0.5}, error=0.2, windows=4)]))
    assert after["parts"]["figures"]["expected"]["trusted"] is False


def test_concept_drift_that_is_over_is_no_longer_the_status() -> None:
    narrator = Narrator()
    told = narrator.first_version() + narrator.calm(3)
    assert narrator.performance is not None
    fields = {"version": "1", "kind": "concept", "columns": []}
    found = DriftDetected.following(
        narrator.performance, **fields, severity=0.5, changed_at=narrator.at, sentence="wrong answers rose"
    )
    assert shown(board_of([*told, found]))["parts"]["status"]["detail"] == "concept"
    over = DriftResolved.following(found, **fields, sentence="wrong answers are about 6 % again")
    board = board_of([*told, found, over])
    assert shown(board)["parts"]["status"]["word"] == "OK"
    assert (
        shown(board)["added"]["log"][-1]["text"] == "concept drift is over: wrong answers are about 6 % again"
    )


def test_who_looks_at_one_model_is_told_no_more_than_the_status_of_the_others() -> None:
    flights, fraud = Narrator("flights"), Narrator("fraud", seed=8)
    board = board_of(flights.first_version() + fraud.first_version() + flights.calm(2) + fraud.calm(2))
    for asked, model, other in (("fraud", "fraud", "flights"), ("", "flights", "fraud")):
        told = orjson.loads(encode_json(board.news(0, asked)))
        assert told["model"] == model
        assert told["models"][model] == shown(board, model)
        assert told["models"][other] == {
            "parts": {"status": shown(board, other)["parts"]["status"]},
            "added": {},
        }


def test_the_status_of_another_model_is_news_when_it_changes() -> None:
    flights, fraud = Narrator("flights"), Narrator("fraud", seed=8)
    board = board_of(flights.first_version() + fraud.first_version() + fraud.calm(2))
    seen = orjson.loads(encode_json(board.news(0, "flights")))["sequence"]
    for event in fraud.drift({"prior_delay": 0.5}, error=0.065, windows=4):
        board.apply(event, 10_000)
    news = orjson.loads(encode_json(board.news(seen, "flights")))["models"]
    assert news["fraud"]["parts"]["status"]["word"] == "Drift"
    assert list(news) == ["fraud"]


def test_of_thousands_of_models_some_are_kept_and_the_others_counted() -> None:
    board = Board()
    for n in range(1000):
        for event in Narrator(f"model-{n}").first_version():
            board.apply(event, n)
    assert len(board.models) == MODELS
    assert news(board)["more_models"] == 1000 - MODELS


def test_a_model_that_has_long_been_silent_makes_room() -> None:
    board = Board()
    for n in range(MODELS):
        board.apply(Narrator(f"model-{n}").registered, 1000 + n)
    board.apply(Narrator("soon").registered, 2000)
    assert "soon" not in board.models
    board.apply(Narrator("late").registered, 1000 + SILENT_MS)
    assert "late" in board.models
    assert "model-0" not in board.models
    assert news(board)["more_models"] == 2


def test_a_reference_is_the_first_labels_of_a_version_or_none_if_they_were_not_read() -> None:
    narrator = Narrator()
    told = narrator.first_version() + narrator.calm(6)
    late = [
        event for event in told if not (isinstance(event, MEASURED) and event.at < narrator.at - 3 * STEP)
    ]
    assert shown(board_of(told))["parts"]["figures"]["reference"] is not None
    assert shown(board_of(late))["parts"]["figures"]["reference"] is None
    promoted = narrator.retraining("2", "manual", error=0.05) + narrator.rollout(error=0.05)
    assert shown(board_of(late + promoted))["parts"]["figures"]["reference"] is not None


def test_labels_that_were_weighted_to_all_predictions_stand_beside_them() -> None:
    narrator = Narrator()
    told = narrator.first_version() + narrator.calm(1)
    figures = PostStratified(error_rate=0.07, loss=0.05, covered=0.9)
    weighted = [
        one.model_copy(update={"poststratified": {"1": figures}})
        if isinstance(one, PerformanceMeasured)
        else one
        for one in told
    ]
    [point] = shown(board_of(weighted))["added"]["points"]
    assert point["weighted"] == {"1": {"error": 0.07, "loss": 0.05, "covered": 0.9}}

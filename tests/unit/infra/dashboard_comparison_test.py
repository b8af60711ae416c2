"""Promises of the page about versions: who leads, what a challenger waits for, how a canary's requests go."""

from collections.abc import Sequence
from typing import Any

import orjson

from driftloop.infra.dashboard.app import encode_json
from driftloop.infra.dashboard.board import Board
from driftloop.infra.dashboard.comparison import LOOKS
from driftloop.infra.dashboard.request_counts import SPANS
from driftloop.schemas.events import (
    ChallengerPassedOver,
    ChallengerProven,
    Event,
    EvidenceMeasured,
    RolloutPerformed,
    Traffic,
    TrafficMeasured,
)
from tests.support.event_sequence import START, Narrator

LATENCY = [0] * 16 + [100]
"""A hundred calls of about 4 ms."""


def board_of(events: Sequence[Event]) -> Board:
    board = Board()
    for written, event in enumerate(events):
        board.apply(event, written)
    return board


def news(board: Board, since: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(encode_json(board.news(since)))
    return told


def shown(events: Sequence[Event]) -> dict[str, Any]:
    parts: dict[str, Any] = news(board_of(events))["models"]["flights"]["parts"]
    return parts


def compared(narrator: Narrator, windows: int, gain: float) -> list[Event]:
    """A second version is registered, and labels compare it with the first."""
    told = narrator.first_version() + narrator.calm(2) + narrator.retraining("2", "concept", error=0.058)
    narrator.gains["2"] = gain
    return told + narrator.calm(windows)


def answered_by(strategy: str, told: Sequence[Event]) -> list[Event]:
    """The same story, where the champion or a blend answers."""
    update = {"strategy": strategy}
    return [one.model_copy(update=update) if isinstance(one, EvidenceMeasured) else one for one in told]


def row(parts: dict[str, Any], version: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in parts["pool"]["versions"] if one["version"] == version)
    return found


def test_before_anything_is_compared_the_page_says_nothing_of_it() -> None:
    narrator = Narrator()
    assert shown(narrator.first_version() + narrator.calm(3))["pool"] is None


def test_the_headline_says_who_serves_who_leads_and_how_far_the_proof_is() -> None:
    parts = shown(answered_by("champion", compared(Narrator(), 6, gain=0.01)))
    assert parts["pool"]["leader"] == "2"
    assert parts["pool"]["headline"].startswith("v1 serves; v2 leads with ")
    assert parts["pool"]["headline"].endswith(" to a proof")
    assert row(parts, "2")["waits_for"].startswith("about ")


def test_labels_that_are_missing_are_also_said_as_time() -> None:
    told = compared(Narrator(), 6, gain=0.01)
    evidence = [event for event in told if isinstance(event, EvidenceMeasured)][-1]
    needed = evidence.pairs["2"].needed
    assert needed
    minutes = needed / 10  # the story compares 100 labels in 10 minutes
    assert f"{minutes:.0f} minutes at today's rate" in shown(told)["pool"]["sentence"]


def test_a_worse_challenger_loses_its_weight_and_waits_for_a_gain() -> None:
    parts = shown(compared(Narrator(), 10, gain=-0.03))
    assert parts["pool"]["headline"] == "v1 serves and leads with 99 % of the weight"
    worse = row(parts, "2")
    assert worse["weight"] < 0.02
    assert worse["waits_for"].startswith(("a gain", "a change of the data"))


def test_a_version_that_cannot_be_scored_says_why() -> None:
    told = compared(Narrator(), 4, gain=0.0)
    last = next(n for n in reversed(range(len(told))) if isinstance(told[n], EvidenceMeasured))
    told[last] = told[last].model_copy(update={"unscored": {"2": "it can't be read"}})
    assert row(shown(told), "2")["waits_for"] == "not scored: it can't be read"


def test_of_a_blend_the_number_of_versions_that_answer_is_said() -> None:
    told = compared(Narrator(), 4, gain=0.0)
    members = next(one for one in reversed(told) if isinstance(one, EvidenceMeasured)).members.values()
    assert all(one.weight > 0.01 for one in members)
    parts = shown(answered_by("blend", told))
    assert parts["pool"]["headline"].startswith("a blend of 2 versions answers; v")
    assert row(parts, "1")["waits_for"] == "champion"


def test_a_canary_is_shown_with_the_requests_of_its_step_and_the_scores_that_agree() -> None:
    narrator = Narrator()
    told = compared(narrator, 2, gain=0.02) + narrator.proof(gain=0.02)
    told += narrator.proven_rollout(error=0.05, until=14)
    counted = [one.versions["2"].predictions for one in told if isinstance(one, TrafficMeasured)]
    parts = shown(told)
    assert parts["rollout"]["evidence"] == "paired"
    assert parts["rollout"]["because"].startswith("v2 predicts better than champion v1")
    assert parts["running"]["requests"]["2"]["predictions"] == sum(counted)
    assert parts["running"]["requests"]["2"]["failed"] == 0
    assert parts["running"]["agreement"] == {"rows": 90, "disagreeing": 0, "largest": 0}
    assert row(parts, "2")["waits_for"] == "requests: canary at 10 %"
    assert parts["pool"]["headline"].endswith("; v2 is canary at 10 %")


def test_requests_of_an_earlier_step_and_after_the_rollout_are_not_the_newest_steps() -> None:
    narrator = Narrator()
    told = compared(narrator, 2, gain=0.02) + narrator.proof(gain=0.02) + narrator.proven_rollout(0.05)
    steps = [one for one in told if isinstance(one, RolloutPerformed) and one.phase == "canary"]
    after = [one for one in told if isinstance(one, TrafficMeasured) and one.since >= steps[1].performed_at]
    assert len(steps) == 2
    counted = sum(one.versions["2"].predictions for one in after)
    assert shown(told)["running"]["requests"]["2"]["predictions"] == counted
    promoted = RolloutPerformed.following(
        told[-1],
        rollout=steps[1].rollout,
        version="2",
        stable="1",
        phase="promoted",
        step=2,
        performed_at=narrator.clock,
    )
    later = [traffic(narrator.clock + 1000 * n, "2") for n in range(1, 50)]
    assert shown([*told, promoted, *later])["running"]["requests"]["2"]["predictions"] == counted


def test_a_canary_that_its_own_labels_judge_says_so_and_why() -> None:
    narrator = Narrator()
    told = compared(narrator, 2, gain=0.0) + narrator.unscored("its features don't travel")
    told += narrator.rollout(error=0.05, until=5)
    rollout = shown(told)["rollout"]
    assert rollout["evidence"] == "canary"
    assert rollout["because"] == "v2 is judged by the labels of its own requests: its features don't travel"


def test_a_proof_and_a_passing_over_are_states_of_a_version() -> None:
    narrator = Narrator()
    told = compared(narrator, 2, gain=0.02)
    proven = told + narrator.proof(gain=0.02)
    assert shown(proven)["versions"][0]["state"] == "proven"
    passed = ChallengerPassedOver.following(proven[-1], version="2", by="3", sentence="v3 is newer")
    assert shown([*proven, passed])["versions"][0]["state"] == "passed over"


def traffic(since: int, version: str = "1") -> TrafficMeasured:
    """A second with a hundred calls of one version, one of which failed."""
    counts = Traffic(predictions=100, calls=100, errors=1, latency=LATENCY)
    fields = {"since": since, "until": since + 1000, "versions": {version: counts}}
    return TrafficMeasured(id=f"{version} {since}", at=since + 1000, model="flights", **fields)


def test_requests_of_the_newest_minute_are_a_rate_with_failures_and_latency() -> None:
    told = [traffic(START + 1000 * n) for n in range(200)]
    now = shown(told)["running"]["now"]
    assert now["seconds"] == 60
    assert now["versions"]["1"]["predictions"] == 6000
    assert now["versions"]["1"]["failed"] == 0.01
    assert 3.3 < now["versions"]["1"]["p95"] < 4.1


def test_counts_of_requests_push_no_decision_out_of_the_log_or_the_chains() -> None:
    narrator = Narrator()
    told = compared(narrator, 2, gain=0.02) + narrator.proof(gain=0.02)
    proven = next(one for one in told if isinstance(one, ChallengerProven))
    board = board_of(told)
    before = news(board)["models"]["flights"]["added"]["log"]
    for n in range(25_000):
        board.apply(traffic(START + 1000 * n), 10_000 + n)
    assert news(board)["models"]["flights"]["added"]["log"] == before
    assert board.chain(proven.id)[0].type == "ChallengerProven"


def test_no_request_is_lost_when_old_spans_add_up_to_minutes() -> None:
    narrator = Narrator()
    told = compared(narrator, 2, gain=0.02) + narrator.proof(gain=0.02)
    started = narrator.proven_rollout(error=0.05, until=1)
    told += [one for one in started if not isinstance(one, TrafficMeasured)]
    seconds = 3 * SPANS
    parts = shown([*told, *(traffic(narrator.clock + 1000 * n, "2") for n in range(seconds))])
    assert parts["running"]["requests"]["2"]["predictions"] == 100 * seconds


def test_the_history_of_the_weights_is_bounded_and_goes_back_to_its_beginning() -> None:
    evidence = [one for one in compared(Narrator(), 4, 0.0) if isinstance(one, EvidenceMeasured)][-1]
    board, known, browser = Board(), 0, list[dict[str, Any]]()
    for n in range(3 * LOOKS):
        board.apply(evidence.model_copy(update={"id": str(n), "labelled": 100 * (n + 1)}), n)
        if n % 17 == 0 or n == 3 * LOOKS - 1:
            delta = news(board, known)
            known, model = delta["sequence"], delta["models"]["flights"]
            browser = [] if "looks" in model.get("whole", []) else browser
            browser += model["added"].get("looks", [])
    looks = news(board)["models"]["flights"]["added"]["looks"]
    assert len(looks) <= LOOKS
    assert (looks[0]["labelled"], looks[-1]["labelled"]) == (100, 300 * LOOKS)
    assert browser == looks

"""Promises of a page that reads many topics: in whichever order they come, it shows the same.

Seeds differ from run to run; a failure names its own.
"""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import orjson
import pytest

from driftloop.infra.dashboard.app import encode_json
from driftloop.infra.dashboard.board import Board
from driftloop.infra.dashboard.event_lines import line
from driftloop.infra.dashboard.replay import KEPT, Decision, in_order
from driftloop.schemas import ids
from driftloop.schemas.events import (
    EVERY_MODEL,
    AlertRaised,
    DriftDetected,
    Event,
    ModelRegistered,
    RetrainRefused,
    RetrainRequested,
    RolloutPromoted,
)
from tests.support.drift_events import everything
from tests.support.event_sequence import Narrator, dead_letter

Written = tuple[Event, int]
"""An event and when the broker got it (ms)."""
ORDERS = range(25)


@cache
def told() -> list[Event]:
    """Two models' stories, one after the other by halves, and alerts that concern both."""
    narrator = Narrator("flights")
    flights, fraud = narrator.whole_story(), Narrator("fraud", seed=8).whole_story()
    flights += everything(narrator) + narrator.calm(1)
    half = len(flights) // 2
    behind = [
        AlertRaised(id=f"lag {n}", at=n, model=EVERY_MODEL, severity="info", sentence=f"behind: {n}")
        for n in range(2)
    ]
    return [behind[0], *flights[:half], *fraud[:half], behind[1], *flights[half:], *fraud[half:]]


def written(events: Sequence[Event], rng: random.Random) -> list[Written]:
    """Milliseconds that never go back, and often are those of the event before."""
    now, stamped = 1_000, []
    for event in events:
        now += rng.choice((0, 0, 1, 400))
        stamped.append((event, now))
    return stamped


def interleaved(stamped: Sequence[Written], rng: random.Random) -> Iterator[Written]:
    """Each partition in its own order (a model's events of a topic are in one), bursts of one at a time."""
    partitions: dict[tuple[str, str], list[Written]] = {}
    for event, at in stamped:
        partitions.setdefault((event.kafka_topic.name, event.model), []).append((event, at))
    while partitions:
        one = rng.choice(list(partitions))
        burst = rng.choice((1, 3, 50, 10_000))
        yield from partitions[one][:burst]
        partitions[one] = partitions[one][burst:]
        if not partitions[one]:
            del partitions[one]


def board_of(stamped: Sequence[Written] | Iterator[Written]) -> Board:
    board = Board()
    for event, at in stamped:
        board.apply(event, at)
    return board


def shown(board: Board) -> dict[str, Any]:
    seen: dict[str, Any] = orjson.loads(encode_json(board.news()))
    return seen


@pytest.mark.parametrize("order", ORDERS)
def test_topics_may_be_read_in_any_order(order: int, seed: int) -> None:
    rng = random.Random(seed + order)  # noqa: S311  # a test, not a secret
    stamped = written(told(), rng)
    as_it_happened = shown(board_of(stamped))
    for _ in range(2):
        assert shown(board_of(interleaved(stamped, rng))) == as_it_happened


@pytest.mark.parametrize("order", ORDERS[:8])
def test_a_browser_that_looks_on_meanwhile_ends_with_the_same(order: int, seed: int) -> None:
    rng = random.Random(seed + order)  # noqa: S311  # a test, not a secret
    stamped = written(told(), rng)
    board, browser = Board(), Browser()
    for event, at in interleaved(stamped, rng):
        board.apply(event, at)
        if rng.random() < 0.1:
            browser.merge(orjson.loads(encode_json(board.news(browser.known))))
    browser.merge(orjson.loads(encode_json(board.news(browser.known))))
    as_it_happened = shown(board_of(stamped))["models"]
    assert browser.parts == {name: model["parts"] for name, model in as_it_happened.items()}
    assert browser.series == {name: model["added"] for name, model in as_it_happened.items()}


class Browser:
    """Merges news as `static/store.js` does."""

    def __init__(self) -> None:
        self.known = 0
        self.parts: dict[str, dict[str, Any]] = {}
        self.series: dict[str, dict[str, list[Any]]] = {}

    def merge(self, news: dict[str, Any]) -> None:
        """Parts replace, series grow; those that are told whole begin anew."""
        self.known = news["sequence"]
        for name, model in news["models"].items():
            parts = self.parts.setdefault(name, {})
            parts.update(model["parts"])
            series = self.series.setdefault(name, {})
            for one in model.get("whole", []):
                series.pop(one, None)
            for one, items in model["added"].items():
                kept = [*series.get(one, []), *items]
                series[one] = kept[-parts["limits"].get(one, 500) :]


def test_a_request_that_is_read_after_its_version_still_names_the_trigger() -> None:
    story = Narrator().whole_story()
    requests = [one for one in story if isinstance(one, RetrainRequested)]
    late = [*(one for one in story if one not in requests), *requests]
    board = board_of([(one, story.index(one)) for one in late])
    rows = shown(board)["models"]["flights"]["parts"]["versions"]
    assert [row["trigger"] for row in rows] == ["follow-up", "follow-up", "concept", "by hand"]


def test_what_was_settled_long_ago_stays_when_later_topics_come_late() -> None:
    narrator = Narrator()
    long_ago = narrator.first_version() + narrator.calm(2)
    refused = [
        RetrainRefused.following(
            narrator.evidence, id=ids.derive("refused", n), at=narrator.at + n, reason=str(n)
        )
        for n in range(3 * KEPT)
    ]
    newest = narrator.drift({"temp": 0.5}, error=0.07, windows=2)
    stamped = [(event, n) for n, event in enumerate([*long_ago, *refused, *newest])]
    detected = next(one for one in stamped if isinstance(one[0], DriftDetected))
    late = [*(one for one in stamped if one != detected), detected]
    assert shown(board_of(late)) == shown(board_of(stamped))


def test_a_model_that_appears_later_has_what_was_said_of_every_model() -> None:
    behind = AlertRaised(id="lag", at=1, model=EVERY_MODEL, severity="warning", sentence="joining is behind")
    registered = ModelRegistered(id="r", at=2, model="flights", version="1", run_id="x")
    first, last = (shown(board_of([(a, 1), (b, 2)])) for a, b in ((behind, registered), (registered, behind)))
    assert first["models"]["flights"]["added"]["alerts"] == last["models"]["flights"]["added"]["alerts"]


def test_dead_letters_of_several_partitions_may_be_read_in_any_order() -> None:
    letters = [dead_letter(n, f"reason {n % 3}") for n in range(70)]
    boards = Board(), Board()
    for board, order in zip(boards, (letters, letters[35:] + letters[:35]), strict=True):
        for letter in order:
            board.park(letter)
    assert encode_json(boards[0].news()) == encode_json(boards[1].news())


def test_events_of_one_millisecond_are_told_cause_first() -> None:
    story = Narrator().whole_story()
    mixed = random.Random(3).sample(story, len(story))  # noqa: S311  # a test, not a secret
    ordered = in_order(Decision(event, line(event), (5, 0, 0, "flights", n)) for n, event in enumerate(mixed))
    place = {one.event.id: n for n, one in enumerate(ordered)}
    known = [one.event for one in ordered if one.event.caused_by in place]
    assert len(ordered) == len(story)
    assert all(place[event.caused_by or ""] < place[event.id] for event in known)


def test_a_promotion_outlives_a_later_clock_that_went_back() -> None:
    story = Narrator().whole_story()
    promoted = next(
        n for n, one in enumerate(story) if isinstance(one, RolloutPromoted) and one.version == "2"
    )
    stamped = [(one, 10_000 - n if n == promoted else n) for n, one in enumerate(story)]
    board = board_of(stamped)
    assert shown(board)["models"]["flights"]["parts"]["figures"]["champion"] == "2"

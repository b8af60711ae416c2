"""From any event back to what began it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.errors import NotFound
from driftloop.mlops_core.lineage import Lineage
from driftloop.schemas.events import (
    AlertRaised,
    DriftDetected,
    DriftKind,
    Event,
    RetrainRequested,
    TrainingStarted,
)

DRIFT = DriftDetected(
    id="drift-1",
    at=5,
    model="m",
    caused_by="window-0",
    version="1",
    kind=DriftKind.FEATURE,
    columns=["x"],
    severity=1,
    changed_at=4,
    sentence="x rose",
)
REQUEST = RetrainRequested.following(DRIFT, reason="x rose", trigger="feature", rows=10)
STARTED = TrainingStarted.following(REQUEST)


@given(st.permutations([DRIFT, REQUEST, STARTED, STARTED, DRIFT]))
def test_the_chain_is_the_same_in_whatever_order_and_however_often_events_come(events: list[Event]) -> None:
    assert list(Lineage(events).back(STARTED)) == [STARTED, REQUEST, DRIFT]


def test_an_event_is_found_by_the_beginning_of_its_id() -> None:
    assert Lineage([DRIFT, REQUEST]).find(REQUEST.id[:8]) == REQUEST


def test_an_unknown_id_says_so() -> None:
    with pytest.raises(NotFound, match="no event has an id that begins with 'nope'"):
        Lineage([DRIFT]).find("nope")


def test_effects_are_what_followed_directly() -> None:
    assert list(Lineage([STARTED, DRIFT, REQUEST]).effects(DRIFT)) == [REQUEST]


def test_a_circle_of_causes_does_not_hang() -> None:
    a = AlertRaised(id="a", at=1, model="m", caused_by="b", severity="info", sentence="a")
    b = AlertRaised(id="b", at=1, model="m", caused_by="a", severity="info", sentence="b")
    assert list(Lineage([a, b]).back(a)) == [a, b]


def test_the_same_cause_gives_the_same_id() -> None:
    assert RetrainRequested.following(DRIFT, reason="x", trigger="feature", rows=1).id == REQUEST.id

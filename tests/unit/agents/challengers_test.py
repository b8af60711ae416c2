"""Which versions are compared, which are proposed for a rollout, and what a restart or a replay changes."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.agents.selection import SelectionAgent
from driftloop.mlops_core.rollout import challengers
from driftloop.mlops_core.rollout.challengers import Challengers
from driftloop.schemas import topics
from driftloop.schemas.events import (
    Agreement,
    AgreementMeasured,
    ChallengerPassedOver,
    ChallengerProven,
    Event,
    EvidenceMeasured,
    GateEvidence,
    ModelRegistered,
    PoolChanged,
    RolloutPromoted,
    RolloutRolledBack,
    RolloutStarted,
    Span,
)
from driftloop.schemas.settings import RolloutSettings
from driftloop.schemas.summaries import PairedLosses
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from tests.support.handling import handle

MODEL = "flights"
AUTO = RolloutSettings(pool=4)
PAIRED = RolloutSettings(pool=4, evidence="paired")
CANARY = RolloutSettings(pool=4, evidence="canary")
SPREAD = 0.1


def registered(version: str, rollout: str = "automatic", number: int = 0) -> ModelRegistered:
    fields = {"id": f"registered-{version}-{number}", "at": 1, "model": MODEL, "version": version}
    return ModelRegistered.model_validate({**fields, "run_id": "r", "rollout": rollout})


def rolled(kind: type[Event], version: str, **fields: object) -> Event:
    """A rollout's event about a version."""
    common = {"id": f"{kind.__name__}-{version}", "at": 2, "model": MODEL, "version": version}
    return kind.model_validate({**common, "rollout": f"rollout-{version}", **fields})


def started(version: str) -> Event:
    return rolled(RolloutStarted, version, steps=[10, 50])


def promoted(version: str) -> Event:
    return rolled(RolloutPromoted, version)


def reverted(version: str) -> Event:
    return rolled(RolloutRolledBack, version, sentence="it failed its requests")


def losses(
    number: int,
    means: dict[str, float],
    rows: int = 100,
    partition: int = 0,
    **changes: object,
) -> PairedLosses:
    """Rows of one partition on which the versions lose so much on the mean."""
    rng = np.random.default_rng((number, partition))
    each = rng.uniform(0, SPREAD, rows) + np.array(list(means.values())).reshape(-1, 1)
    each = each + rng.normal(0, SPREAD / 10, each.shape)
    return PairedLosses.model_validate(
        {
            "model": MODEL,
            "span": Span(topic="examples", partition=partition, first=number, last=number),
            "loss": "squared error",
            "versions": list(means),
            "rows": rows,
            "sums": each.sum(axis=1).tolist(),
            "products": (each @ each.T).ravel().tolist(),
            "since": number,
            "until": number + 1,
            **changes,
        }
    )


def unscored(number: int, why: dict[str, str]) -> PairedLosses:
    """Rows on which no version could be scored."""
    return losses(number, {}, rows=0, sums=[], products=[], unscored=why)


def known(*versions: str, champion: str = "1") -> Challengers:
    """These versions were registered; one of them is champion."""
    made = Challengers(MODEL)
    tell(made, registered(champion), promoted(champion))
    tell(made, *(registered(version) for version in versions if version != champion))
    return made


def tell(made: Challengers, *events: Event, settings: RolloutSettings = AUTO) -> list[Event]:
    """What follows from events."""
    return [follow for event in events for follow in challengers.handle(made, event, settings)]


def observe(
    made: Challengers, messages: Iterable[PairedLosses], settings: RolloutSettings = AUTO
) -> list[Event]:
    return [follow for message in messages for follow in challengers.observe(made, message, settings)]


def proposals(events: Iterable[Event]) -> list[str]:
    return [event.version for event in events if isinstance(event, ChallengerProven)]


def better(count: int, means: dict[str, float], first: int = 0) -> list[PairedLosses]:
    return [losses(first + number, means) for number in range(count)]


def test_a_version_joins_the_pool_when_it_is_registered_and_everybody_hears_of_it() -> None:
    made = known("1")
    (pool,) = tell(made, registered("2"))
    assert isinstance(pool, PoolChanged)
    assert (list(pool.versions), pool.champion, pool.canary) == (["1", "2"], "1", None)
    assert tell(made, registered("2", number=1)) == [], "a second registration is no news"


def test_the_weakest_makes_room() -> None:
    made = known("1", "2", "3", "4")
    observe(made, better(3, {"1": 0.1, "2": 0.1, "3": 0.5, "4": 0.1}))
    over, pool = tell(made, registered("5"))
    assert isinstance(over, ChallengerPassedOver)
    assert (over.version, over.by) == ("3", "5")
    assert "the pool holds 4 versions (rollout.pool), and" in over.sentence
    assert isinstance(pool, PoolChanged)
    assert list(pool.versions) == ["1", "2", "4", "5"]


def test_champion_predecessor_canary_and_newest_never_make_room() -> None:
    made = known("1", "2", "3", "4")
    tell(made, started("2"), promoted("2"), started("3"))
    observe(made, better(3, {"1": 0.9, "2": 0.8, "3": 0.7, "4": 0.1}), CANARY)
    (over, _) = tell(made, registered("5"))
    assert isinstance(over, ChallengerPassedOver)
    assert over.version == "4", "the best of all, and the only one that nobody needs"


def test_a_better_version_is_proposed_once() -> None:
    made = known("1", "2")
    follows = observe(made, better(40, {"1": 0.2, "2": 0.1}))
    (proven,) = [event for event in follows if isinstance(event, ChallengerProven)]
    assert (proven.version, proven.champion, proven.evidence) == ("2", "1", "paired")
    assert proven.caused_by == "registered-2-0"
    assert proven.sentence.startswith("v2 predicts better than champion v1: loss 0.1")


def test_a_version_that_is_much_better_than_the_proposed_one_takes_its_place() -> None:
    made = known("1", "2")
    follows = observe(made, better(20, {"1": 0.2, "2": 0.1}))
    tell(made, registered("3"))
    follows += observe(made, better(60, {"1": 0.2, "2": 0.1, "3": 0.02}, first=20))
    assert proposals(follows) == ["2", "3"]


def test_an_equal_version_does_not_take_the_place_of_the_proposed_one() -> None:
    made = known("1", "2", "3")
    assert len(proposals(observe(made, better(40, {"1": 0.2, "2": 0.1, "3": 0.1})))) == 1


def test_the_end_of_another_rollout_does_not_propose_the_one_that_waits_again() -> None:
    made = known("1", "2", "3")
    tell(made, started("3"))
    assert proposals(observe(made, better(20, {"1": 0.2, "2": 0.1, "3": 0.25}))) == ["2"]
    tell(made, reverted("3"))
    assert proposals(observe(made, better(20, {"1": 0.2, "2": 0.1}, first=20))) == []


def test_after_a_promotion_proofs_are_against_the_new_champion() -> None:
    made = known("1", "2", "3")
    means = {"1": 0.3, "2": 0.2, "3": 0.1}
    observe(made, better(20, {"1": 0.3, "2": 0.2, "3": 0.31}))
    tell(made, started("2"), promoted("2"))
    follows = observe(made, better(40, means, first=20))
    (proven,) = [event for event in follows if isinstance(event, ChallengerProven)]
    assert (proven.version, proven.champion) == ("3", "2")


def test_the_previous_champion_is_proposed_when_it_is_right_again() -> None:
    made = known("1", "2")
    tell(made, started("2"), promoted("2"))
    assert proposals(observe(made, better(40, {"1": 0.1, "2": 0.2}))) == ["1"]


def test_a_version_that_a_person_deploys_is_scored_and_never_proposed() -> None:
    made = known("1")
    tell(made, registered("2", "manual"), registered("3"))
    follows = observe(made, better(60, {"1": 0.3, "2": 0.02, "3": 0.1}))
    measured = [event for event in follows if isinstance(event, EvidenceMeasured)]
    assert measured[-1].leader == "2"
    assert proposals(follows) == ["3"], "it doesn't stand in the way of others"


def test_a_version_that_was_rolled_back_leaves_the_pool_and_is_never_proposed() -> None:
    made = known("1", "2")
    observe(made, better(20, {"1": 0.2, "2": 0.1}))
    (pool,) = tell(made, started("2"))
    assert isinstance(pool, PoolChanged)
    assert pool.canary == "2"
    (pool,) = tell(made, reverted("2"))
    assert isinstance(pool, PoolChanged)
    assert (list(pool.versions), pool.canary) == (["1"], None)
    assert pool.sentence == "v2 left: it failed its requests"
    late = better(20, {"1": 0.2, "2": 0.1}, first=20)
    assert proposals(observe(made, late)) == [], "rows scored before the pool changed may still come"


def test_a_registration_that_comes_after_the_rollback_brings_nobody_back() -> None:
    """Registrations and rollouts are on two topics, which have no order between them."""
    made = known("1")
    tell(made, reverted("2"), registered("2"))
    assert made.pool.versions == ("1",)


def test_a_version_that_cannot_be_scored_is_proposed_once_for_a_canary() -> None:
    made = known("1", "2", "3")
    follows = observe(made, [unscored(number, {"2": "it is gone", "3": "it is gone"}) for number in range(9)])
    (proven,) = [event for event in follows if isinstance(event, ChallengerProven)]
    assert (proven.version, proven.evidence, proven.pair) == ("3", "canary", None)
    assert proven.sentence == "v3 is judged by the labels of its own requests: it is gone"


def test_where_the_champion_cannot_be_scored_the_newest_version_gets_a_canary() -> None:
    made = known("1", "2")
    assert proposals(observe(made, [unscored(0, {"1": "it is gone"})])) == ["2"]


def test_a_version_that_cannot_be_scored_is_proposed_again_after_a_promotion_with_another_id() -> None:
    made = known("1", "2", "3")
    why = {"3": "it is gone"}
    first = observe(made, [unscored(0, why)])
    tell(made, started("2"), promoted("2"))
    again = observe(made, [unscored(1, why)])
    assert proposals(first) == proposals(again) == ["3"]
    assert first[0].id != again[0].id


@pytest.mark.parametrize("settings", [PAIRED, CANARY])
def test_without_auto_nothing_that_cannot_be_scored_is_proposed(settings: RolloutSettings) -> None:
    made = known("1", "2")
    assert observe(made, [unscored(0, {"2": "it is gone"})], settings) == []


def test_where_canaries_judge_no_version_is_proposed_for_its_losses() -> None:
    follows = observe(known("1", "2"), better(40, {"1": 0.2, "2": 0.1}), CANARY)
    assert {type(event) for event in follows} == {EvidenceMeasured}


def test_served_scores_that_were_compared_are_published_and_change_nothing_else() -> None:
    made = known("1", "2")
    observe(made, [unscored(0, {"2": "it is gone"})], PAIRED)
    compared = Agreement(rows=9, disagreeing=2, largest=0.5)
    two = [losses(n, {}, rows=0, sums=[], products=[], agreement={"2": compared}) for n in (1, 2)]
    first, second = observe(made, two, PAIRED)
    assert isinstance(first, AgreementMeasured)
    assert (first.version, first.agreement) == ("2", compared)
    assert first.id != second.id
    assert made.unscored == {"2": "it is gone"}


def test_evidence_is_published_once_a_span_whatever_the_messages() -> None:
    made = known("1", "2")
    tens = [losses(number, {"1": 0.2, "2": 0.1}, rows=10, partition=number % 3) for number in range(30)]
    measured = [event for event in observe(made, tens) if isinstance(event, EvidenceMeasured)]
    assert [(event.rows, event.labelled) for event in measured] == [(100, 100), (100, 200), (100, 300)]


def test_rows_of_a_pool_that_changed_are_a_span_of_their_own() -> None:
    made = known("1", "2")
    observe(made, [losses(0, {"1": 0.2, "2": 0.1}, rows=60)])
    tell(made, registered("3"))
    (measured,) = observe(made, [losses(1, {"1": 0.2, "2": 0.1, "3": 0.1}, rows=60)])
    assert isinstance(measured, EvidenceMeasured)
    assert (measured.rows, measured.members["3"].rows) == (60, 0)


def test_a_champion_from_before_anything_could_be_read_is_known_from_the_gate() -> None:
    gate = GateEvidence(passed=True, sentence="better", rows=9, champion="6", challenger_loss=0.1)
    made = Challengers(MODEL)
    (pool,) = tell(made, registered("7").model_copy(update={"gate": gate}))
    assert isinstance(pool, PoolChanged)
    assert (list(pool.versions), pool.champion) == (["6", "7"], "6")
    tell(made, promoted("6"))
    assert (made.champion, made.previous) == ("6", None)


def test_rows_of_the_gate_count_for_no_more_than_a_proof() -> None:
    """So a version that won by much at the gate still needs weight from labels that came after."""
    losses_of = {"champion_loss": 0.2, "challenger_loss": 0.1, "squares": 100.0}
    gate = GateEvidence(passed=True, sentence="better", rows=4000, champion="1", **losses_of)
    made, plain = known("1"), known("1")
    tell(made, registered("2").model_copy(update={"gate": gate}))
    tell(plain, registered("2"))
    assert plain.pool.proof("1", "2") == 1
    assert made.pool.proof("1", "2") == pytest.approx(AUTO.proof)
    assert made.pool.proof("2", "1") == 1
    means = {"1": 0.2, "2": 0.15}
    spans = [
        next(n for n in range(99) if proposals(observe(one, [losses(n, means)]))) for one in (made, plain)
    ]
    assert spans[0] <= spans[1]


def test_rows_of_a_model_without_a_champion_count_for_nothing() -> None:
    made = Challengers(MODEL)
    tell(made, registered("1"), registered("2"))
    assert observe(made, better(5, {"1": 0.2, "2": 0.1})) == []


def scene(rng: np.random.Generator) -> list[tuple[str, Event | PairedLosses]]:
    """Registrations, a promotion and labelled rows of three partitions, one after the other."""
    told: list[tuple[str, Event | PairedLosses]] = [
        (topics.MODELS.name, registered("1")),
        (topics.DEPLOYMENT.name, promoted("1")),
        (topics.MODELS.name, registered("2")),
    ]
    for number in range(30):
        if number == 12:
            told.append((topics.MODELS.name, registered("3")))
        if number == 20:
            told += [(topics.DEPLOYMENT.name, started("2")), (topics.DEPLOYMENT.name, promoted("2"))]
        means = {"1": 0.2, "2": 0.12} | ({"3": 0.1} if number >= 12 else {})
        message = losses(number, means, rows=int(rng.integers(1, 90)), partition=number % 3)
        told.append((topics.LOSSES.name, message))
    return told


SCENE = scene(np.random.default_rng(4))


def handled(cuts: Sequence[int], restarts: Sequence[int]) -> tuple[list[Event], bytes]:
    """The scene in chunks cut at some places, with restarts before some: events, and the last state."""
    agent = SelectionAgent(AUTO)
    state, follows, offset = agent.initial_state(), [], 0
    edges = sorted({0, len(SCENE), *cuts})
    for number, (first, last) in enumerate(pairwise(edges)):
        if number in restarts:
            state = agent.load(agent.dump(state))
        part = SCENE[first:last]
        while part:
            topic = part[0][0]
            same = [one for one in part if one[0] == topic][: _run(part)]
            records = [
                ConsumerRecord(offset + n, 1, None, _encoded(one), {}) for n, (_, one) in enumerate(same)
            ]
            follows += handle(agent, state, Chunk(topic, 0, records))
            part, offset = part[len(same) :], offset + len(same)
    return follows, agent.dump(state)  # type: ignore[return-value]  # all that the selection emits are events


def _encoded(message: Event | PairedLosses) -> bytes:
    return codec.encode(message)


def _run(part: Sequence[tuple[str, object]]) -> int:
    """How many messages of the first one's topic come one after the other."""
    return next((n for n, one in enumerate(part) if one[0] != part[0][0]), len(part))


@given(
    cuts=st.lists(st.integers(0, len(SCENE)), max_size=12),
    restarts=st.sets(st.integers(0, 12), max_size=6),
)
def test_the_same_messages_lead_to_the_same_events_whatever_the_chunks_and_restarts(
    cuts: list[int], restarts: set[int]
) -> None:
    """Guaranteed for one order of messages; another order of partitions may close spans at other rows."""
    events, state = handled(cuts, sorted(restarts))
    assert events == EXPECTED[0]
    assert orjson.loads(state) == orjson.loads(EXPECTED[1])


EXPECTED = handled([], [])


def test_the_scene_of_the_replays_has_proofs_and_evidence() -> None:
    kinds = {type(event) for event in EXPECTED[0]}
    assert kinds == {PoolChanged, EvidenceMeasured, ChallengerProven}
    ids = [event.id for event in EXPECTED[0]]
    assert len(set(ids)) == len(ids)


@given(order=st.permutations(range(6)))
def test_rows_of_one_span_count_the_same_in_whatever_order_partitions_come(order: list[int]) -> None:
    """Spans that close at the same rows have the same sums; that is all that other orders guarantee."""
    parts = [losses(number, {"1": 0.2, "2": 0.1}, rows=20, partition=number) for number in range(6)]
    made = known("1", "2")
    wide = RolloutSettings(span_labels=120)
    (measured, *_) = observe(made, [parts[place] for place in order], wide)
    assert isinstance(measured, EvidenceMeasured)
    straight = known("1", "2")
    (expected, *_) = observe(straight, parts, wide)
    assert isinstance(expected, EvidenceMeasured)
    assert measured.rows == expected.rows == 120
    for version, member in measured.members.items():
        assert member.weight == pytest.approx(expected.members[version].weight, abs=1e-6)

import pytest

from driftloop.mlops_core import errors
from driftloop.mlops_core.rollout import states
from driftloop.mlops_core.rollout.states import PHASES, SIGNALS, TABLE, TERMINAL, TRANSITIONS, Signal
from driftloop.schemas.events import RolloutPhase
from tests.support.paths import ROOT

DOCUMENT = ROOT / "docs" / "rollout-states.md"


def test_the_document_is_the_table() -> None:
    assert DOCUMENT.read_text() == states.document()


def test_every_phase_and_signal_is_in_the_table_and_explained() -> None:
    assert set(TABLE) == set(PHASES) == set(RolloutPhase)
    assert {signal for _, signal in TRANSITIONS} == set(SIGNALS) == set(Signal)


def test_only_promoted_reverted_and_failed_are_terminal() -> None:
    assert {RolloutPhase.PROMOTED, RolloutPhase.REVERTED, RolloutPhase.FAILED} == TERMINAL


def test_every_phase_can_be_reached_and_leads_to_an_end() -> None:
    def reachable(phase: RolloutPhase, found: frozenset[RolloutPhase]) -> frozenset[RolloutPhase]:
        for target in TABLE[phase].values():
            if target not in found:
                found |= reachable(target, found | {target})
        return found

    assert reachable(RolloutPhase.WARMING, frozenset({RolloutPhase.WARMING})) == set(RolloutPhase)
    assert all(reachable(phase, frozenset()) & TERMINAL for phase in set(RolloutPhase) - TERMINAL)


@pytest.mark.parametrize("phase", sorted(set(RolloutPhase) - TERMINAL - {RolloutPhase.REVERTING}))
def test_a_person_can_abort_until_the_way_back_began(phase: RolloutPhase) -> None:
    assert states.next_phase(phase, Signal.ABORTED, "flights:8") is RolloutPhase.REVERTING


@pytest.mark.parametrize("pair", [(phase, signal) for phase in RolloutPhase for signal in Signal])
def test_a_missing_row_says_who_where_and_what_was_possible(pair: tuple[RolloutPhase, Signal]) -> None:
    phase, signal = pair
    if pair in TRANSITIONS:
        assert states.next_phase(phase, signal, "flights:8") is TRANSITIONS[pair]
        return
    with pytest.raises(errors.Conflict) as caught:
        states.next_phase(phase, signal, "flights:8")
    possible = ", ".join(TABLE[phase])
    allowed = f"possible are {possible}" if possible else "no signal is possible any more"
    assert str(caught.value) == f"flights:8 is {phase}: got {signal}, {allowed}"

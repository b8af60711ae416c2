from pathlib import Path

import pytest

from driftloop.mlops_core import errors
from driftloop.mlops_core.rollout import states
from driftloop.mlops_core.rollout.states import PHASES, SIGNALS, TABLE, TERMINAL, TRANSITIONS, Phase, Signal

DOCUMENT = Path(__file__).parents[1] / "docs" / "rollout-states.md"


def test_the_document_is_the_table() -> None:
    assert DOCUMENT.read_text() == states.document()


def test_every_phase_and_signal_is_in_the_table_and_explained() -> None:
    assert set(TABLE) == set(PHASES) == set(Phase)
    assert {signal for _, signal in TRANSITIONS} == set(SIGNALS) == set(Signal)


def test_only_promoted_reverted_and_failed_are_terminal() -> None:
    assert {Phase.PROMOTED, Phase.REVERTED, Phase.FAILED} == TERMINAL


def test_every_phase_can_be_reached_and_leads_to_an_end() -> None:
    def reachable(phase: Phase, found: frozenset[Phase]) -> frozenset[Phase]:
        for target in TABLE[phase].values():
            if target not in found:
                found |= reachable(target, found | {target})
        return found

    assert reachable(Phase.WARMING, frozenset({Phase.WARMING})) == set(Phase)
    assert all(reachable(phase, frozenset()) & TERMINAL for phase in set(Phase) - TERMINAL)


@pytest.mark.parametrize("phase", sorted(set(Phase) - TERMINAL - {Phase.REVERTING}))
def test_a_person_can_abort_until_the_way_back_began(phase: Phase) -> None:
    assert states.after(phase, Signal.ABORTED, "flights:8") is Phase.REVERTING


@pytest.mark.parametrize("pair", [(phase, signal) for phase in Phase for signal in Signal])
def test_a_missing_row_says_who_where_and_what_was_possible(pair: tuple[Phase, Signal]) -> None:
    phase, signal = pair
    if pair in TRANSITIONS:
        assert states.after(phase, signal, "flights:8") is TRANSITIONS[pair]
        return
    with pytest.raises(errors.Conflict) as caught:
        states.after(phase, signal, "flights:8")
    possible = ", ".join(TABLE[phase])
    knows = f"only {possible}" if possible else "nothing any more"
    assert str(caught.value) == f"flights:8 is {phase}: got {signal}, knows {knows}"

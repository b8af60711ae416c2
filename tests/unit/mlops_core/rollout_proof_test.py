"""A rollout begins with a proof, and is judged by its requests; a blend follows the weights."""

import pytest

from driftloop.mlops_core.rollout.controller import blend_effect, steady_effects
from driftloop.mlops_core.rollout.controller_state import MOVED, RolloutController
from driftloop.mlops_core.rollout.effects import Blend, EnsureRevision, SetChampion, ShiftTraffic, effects
from driftloop.schemas.events import (
    AlertRaised,
    ChallengerPassedOver,
    Event,
    MemberEvidence,
    RolloutAction,
    RolloutAdvanced,
    RolloutPhase,
    RolloutRolledBack,
    RolloutStarted,
)
from driftloop.schemas.settings import RolloutSettings
from tests.support.rollout_events import (
    BAD,
    CANARY,
    MINUTE,
    MODEL,
    PAIRED,
    SERVING,
    Teller,
    agreement,
    asked,
    evidence,
    kinds,
    open_,
    pair,
    proven,
    registered,
    said,
    served,
    window,
)

told = Teller(PAIRED)
performed, canary, promoted = told.performed, told.canary, told.promoted
blending = Teller(RolloutSettings(steps=(10, 50)))
by_labels = Teller(CANARY)


def reason(events: list[Event]) -> str:
    (back,) = events
    assert isinstance(back, RolloutRolledBack)
    return back.sentence


def test_a_registered_version_waits_for_its_proof() -> None:
    controller, follows = told(SERVING, registered("8"))
    assert (controller.open, controller.queue, follows) == (None, (), [])
    _, (started,) = told(controller, proven("8"))
    assert isinstance(started, RolloutStarted)
    assert (started.version, started.stable, started.evidence) == ("8", "7", "paired")
    assert started.sentence.startswith("v8 predicts better than champion v7; v8 replaces v7 in steps")


def test_a_models_first_version_needs_no_proof() -> None:
    assert kinds(told(RolloutController(model=MODEL), registered("1"))[1]) == ["RolloutStarted"]


def test_a_proof_against_a_former_champion_is_passed_over() -> None:
    controller, (over,) = told(SERVING, proven("8", champion="6"))
    assert isinstance(over, ChallengerPassedOver)
    assert over.sentence == (
        "v8 is passed over for v7: it was proven against v6, which is no longer champion"
    )
    assert controller.open is None


def test_a_proof_that_waited_while_the_champion_changed_is_passed_over() -> None:
    controller, _ = told(canary(), proven("9"))
    controller, _ = told(controller, served(0))
    controller, _ = told(performed(controller)[0], served(1))
    controller, _ = performed(controller)
    controller, follows = performed(controller)
    assert [event.sentence for event in follows if isinstance(event, ChallengerPassedOver)] == [
        "v9 is passed over for v8: it was proven against v7, which is no longer champion"
    ]
    assert (controller.open, controller.champion, controller.queue) == (None, "8", ())


def test_the_newest_proven_version_takes_the_place_of_the_one_that_waits() -> None:
    controller, _ = told(canary(), proven("9"))
    controller, (over,) = told(controller, proven("10"))
    assert isinstance(over, ChallengerPassedOver)
    assert (over.version, over.by) == ("9", "10")
    assert [request.version for request in controller.queue] == ["10"]


def test_a_proof_of_the_champion_starts_nothing() -> None:
    controller, (note,) = told(SERVING, proven("7", champion="6"))
    assert isinstance(note, AlertRaised)
    assert (controller.open, note.sentence) == (None, "flights:7 is already champion")


def test_a_pin_lets_nothing_begin_but_what_a_person_asks_for() -> None:
    controller, follows = told(SERVING, said(RolloutAction.PIN), proven("8"))
    assert (controller.open, follows) == (None, [])
    controller, follows = told(controller, asked("9"))
    assert [event.version for event in follows if isinstance(event, RolloutStarted)] == ["9"]
    assert [request.version for request in controller.queue] == ["8"]


def test_an_unpin_lets_the_one_that_waits_begin() -> None:
    controller, _ = told(SERVING, said(RolloutAction.PIN), proven("8"))
    controller, (started,) = told(controller, said(RolloutAction.UNPIN))
    assert isinstance(started, RolloutStarted)
    assert (open_(controller).version, controller.queue) == ("8", ())


def test_a_pin_pauses_an_open_canary_and_an_unpin_lets_it_go_on() -> None:
    controller, _ = told(canary(), said(RolloutAction.PIN))
    assert open_(controller).phase is RolloutPhase.PAUSED
    controller, _ = told(controller, *(served(number) for number in range(5)))
    assert open_(controller).phase is RolloutPhase.PAUSED
    controller, _ = told(controller, said(RolloutAction.UNPIN))
    controller, _ = told(performed(controller)[0], served(5))
    assert (open_(controller).phase, open_(controller).step) == (RolloutPhase.CANARY, 2)


def test_a_pin_does_not_hold_what_a_person_asked_for() -> None:
    controller, _ = told(SERVING, asked("8"), said(RolloutAction.PIN))
    assert open_(controller).phase is RolloutPhase.WARMING


def test_an_unpin_does_not_resume_what_was_paused_by_another_word() -> None:
    controller, _ = told(
        canary(), said(RolloutAction.PAUSE), said(RolloutAction.PIN), said(RolloutAction.UNPIN)
    )
    assert open_(controller).phase is RolloutPhase.PAUSED


def test_the_previous_champion_proven_again_takes_over_without_steps() -> None:
    controller, _ = told(promoted(), proven("7", champion="8"))
    assert open_(controller).steps == ()
    controller, _ = performed(controller)
    assert effects(open_(controller)) == (
        EnsureRevision(MODEL, "7", 3),
        ShiftTraffic(MODEL, {"7": 100}),
        SetChampion(MODEL, "7"),
    )


def test_requests_alone_pass_the_steps_of_a_version_with_paired_proof() -> None:
    controller, follows = told(canary(), served(0))
    (advanced,) = follows
    assert isinstance(advanced, RolloutAdvanced)
    assert (advanced.weight, advanced.verdict and advanced.verdict.canary_rows) == (50, 300)
    controller, follows = told(performed(controller)[0], served(1))
    assert open_(controller).phase is RolloutPhase.PROMOTING


def test_a_version_without_paired_proof_needs_its_labels_too() -> None:
    controller, follows = told(canary(evidence="canary"), served(0))
    assert (open_(controller).step, follows) == (1, [])
    controller, follows = told(controller, window(0))
    assert (open_(controller).step, kinds(follows)) == (2, ["RolloutAdvanced"])


def test_labels_alone_promote_nobody() -> None:
    controller, _ = told(canary(evidence="canary"), *(window(number) for number in range(50)))
    assert open_(controller).step == 1


def test_a_verdict_that_became_doubtful_must_be_good_again() -> None:
    """Labels pass, then lose 0.02 more than stable (0.01 are allowed) before the requests have come."""
    controller, _ = by_labels(by_labels.canary(), window(0), window(1, loss=0.14), served(0))
    assert open_(controller).step == 1
    controller, _ = by_labels(controller, window(2, loss=0.1, rows=3000))
    assert open_(controller).step == 2


def test_too_few_requests_are_held_with_the_time_that_they_take() -> None:
    _, (held,) = told(canary(), served(0, answers=60))
    assert held.model_dump()["sentence"] == (
        "v8 has 60 of 150 requests at 10 %: about 90 more requests, 90 seconds at today's traffic"
    )


def test_failing_requests_roll_back() -> None:
    controller, _ = told(canary(), served(0, answers=20, errors=20))
    assert open_(controller).phase is RolloutPhase.REVERTING
    assert reason(performed(controller)[1]).startswith("v8 failed 20 of 40 calls (50.0%)")


def test_slow_answers_roll_back() -> None:
    controller, _ = told(canary(), served(0, bucket=30), served(1, bucket=30))
    assert open_(controller).phase is RolloutPhase.REVERTING
    assert "surely slower" in reason(performed(controller)[1])


def test_scores_that_disagree_roll_back_with_the_next_requests() -> None:
    controller, follows = told(canary(), agreement(60, 30))
    assert (open_(controller).phase, follows) == (RolloutPhase.CANARY, [])
    controller, _ = told(controller, served(0, answers=10))
    assert "30 of 60 differ, by up to 0.25" in reason(performed(controller)[1])


def test_scores_of_another_version_say_nothing_of_the_canary() -> None:
    controller, _ = told(canary(), agreement(60, 60, version="6"), served(0, answers=10))
    assert open_(controller).phase is RolloutPhase.CANARY


def test_pairs_that_are_surely_worse_roll_back() -> None:
    controller, _ = told(canary(), evidence(1, {"7": 0.9, "8": 0.1}, pairs={"8": pair(-0.02, against=200)}))
    assert reason(performed(controller)[1]) == (
        "v8 is surely worse than v7: its loss is 0.0200 higher per prediction on the same 500 labelled rows"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"pairs": {"8": pair(-0.02, against=99)}},
        {"pairs": {"8": pair(0.02, against=200)}},
        {"pairs": {}},
        {"champion": "6", "pairs": {"8": pair(-0.02, against=200)}},
    ],
    ids=["not sure", "better on the whole", "not compared", "another champion"],
)
def test_pairs_that_are_no_proof_against_the_canary_leave_it_alone(changes: dict[str, object]) -> None:
    controller, follows = told(canary(), evidence(1, {"7": 0.9, "8": 0.1}, **changes))
    assert (open_(controller).phase, follows) == (RolloutPhase.CANARY, [])


def test_labels_that_are_surely_worse_roll_back_in_spite_of_the_paired_proof() -> None:
    controller, _ = told(canary(), window(0, BAD))
    assert open_(controller).phase is RolloutPhase.REVERTING


def test_without_traffic_a_canary_is_held_and_one_alert_says_so() -> None:
    controller, follows = told(canary(), *(served(number, answers=0) for number in range(500)))
    (alert,) = [event for event in follows if isinstance(event, AlertRaised)]
    assert alert.severity == "warning"
    assert "the step has lasted longer than 60 minutes" in alert.sentence
    assert (open_(controller).phase, open_(controller).step) == (RolloutPhase.CANARY, 1)


def test_requests_from_before_the_shift_do_not_count() -> None:
    controller, _ = told(SERVING, proven("8"))
    controller, _ = performed(performed(controller)[0], clock=10 * MINUTE)
    controller, _ = told(controller, served(9), served(10, answers=20))
    assert open_(controller).requests[-1].canary.calls == 20


def test_requests_between_two_steps_count_for_neither() -> None:
    controller, _ = told(canary(), served(0), served(1, errors=50))
    assert (open_(controller).step, open_(controller).phase) == (2, RolloutPhase.CANARY)
    assert [step.canary.calls for step in open_(controller).requests] == [300]


def test_a_paused_rollout_counts_its_requests_and_judges_nothing() -> None:
    controller, _ = told(canary(), served(0, answers=100), said(RolloutAction.PAUSE))
    controller, follows = told(controller, served(1, answers=20, errors=20))
    assert (open_(controller).phase, follows) == (RolloutPhase.PAUSED, [])
    controller, _ = told(controller, said(RolloutAction.RESUME))
    controller, _ = performed(controller, clock=5 * MINUTE)
    assert open_(controller).requests[-1].canary.calls == 140
    controller, _ = told(controller, served(5))
    assert open_(controller).phase is RolloutPhase.REVERTING


def test_measurements_are_not_remembered_by_their_ids() -> None:
    measured: list[Event] = [served(0), evidence(1, {"7": 1.0}), agreement(10, 0), window(0)]
    assert told(SERVING, *measured)[0].seen == ()


def test_a_blend_answers_with_the_weights_of_the_pool() -> None:
    controller, _ = blending(SERVING, evidence(1, {"7": 0.75, "8": 0.25}))
    assert blend_effect(controller, blending.settings) == Blend(MODEL, {"7": 0.75, "8": 0.25})


def test_a_blend_follows_weights_that_moved_enough() -> None:
    controller, _ = blending(SERVING, evidence(1, {"7": 0.75, "8": 0.25}))
    little, _ = blending(controller, evidence(2, {"7": 0.75 - 0.4 * MOVED, "8": 0.25 + 0.4 * MOVED}))
    assert little.blend == controller.blend
    much, _ = blending(controller, evidence(3, {"7": 0.74 - MOVED, "8": 0.26 + MOVED}))
    assert much.blend == {"7": 0.72, "8": 0.28}


def test_a_version_with_hardly_any_weight_takes_no_part_in_a_blend() -> None:
    controller, _ = blending(SERVING, evidence(1, {"7": 0.995, "8": 0.005}))
    assert controller.blend == {"7": 1.0}


def test_a_version_that_was_never_scored_takes_no_part_in_a_blend() -> None:
    new = {
        "7": MemberEvidence(weight=0.5, loss=0.1, rows=100),
        "8": MemberEvidence(weight=0.5, loss=0, rows=0),
    }
    controller, _ = blending(SERVING, evidence(1, {"7": 0.5}, members=new))
    assert controller.blend == {"7": 1.0}
    unscored = {"8": "it is gone"}
    controller, _ = blending(SERVING, evidence(1, {"7": 0.5, "8": 0.5}, unscored=unscored))
    assert controller.blend == {"7": 1.0}


def test_a_version_that_left_the_pool_leaves_the_blend_however_little_it_weighs() -> None:
    controller, _ = blending(SERVING, evidence(1, {"7": 0.99, "8": 0.01}))
    assert "8" in controller.blend
    assert blending(controller, evidence(2, {"7": 1.0}))[0].blend == {"7": 1.0}


def test_pinned_weights_stay_until_they_are_unpinned() -> None:
    controller, _ = blending(SERVING, evidence(1, {"7": 0.75, "8": 0.25}), said(RolloutAction.PIN))
    controller, _ = blending(controller, evidence(2, {"7": 0.25, "8": 0.75}))
    assert controller.blend == {"7": 0.75, "8": 0.25}
    controller, _ = blending(controller, said(RolloutAction.UNPIN), evidence(3, {"7": 0.25, "8": 0.75}))
    assert controller.blend == {"7": 0.25, "8": 0.75}


def test_a_canary_answers_with_the_blend_at_every_step_so_that_it_costs_no_answer_of_one_model() -> None:
    together = Blend(MODEL, {}, "8")
    controller = blending.canary()
    shift = ShiftTraffic(MODEL, {"8": 10, "7": 90})
    assert effects(open_(controller)).index(together) < effects(open_(controller)).index(shift)
    controller, _ = blending(controller, served(0))
    assert open_(controller).step == 2
    assert together in effects(open_(controller))
    controller, _ = blending(blending.performed(controller)[0], served(1))
    assert open_(controller).phase is RolloutPhase.PROMOTING
    assert together in effects(open_(controller))


def test_a_canary_that_its_own_labels_judge_answers_by_itself_at_every_step() -> None:
    rollout = open_(blending(blending.canary(), served(0))[0])
    assert rollout.step == 2
    by_labels = rollout.model_copy(update={"proof": "canary"})
    assert Blend(MODEL, {"8": 1.0}, "8") in effects(by_labels)


def test_a_champion_alone_takes_the_blend_back_that_was_set_before() -> None:
    controller, _ = blending(SERVING, evidence(1, {"7": 0.75, "8": 0.25}))
    assert blend_effect(controller, PAIRED) == Blend(MODEL, {})
    assert blend_effect(SERVING, PAIRED) is None


def test_a_champion_alone_ignores_weights() -> None:
    assert told(SERVING, evidence(1, {"7": 0.75, "8": 0.25}))[0].blend == {}


def test_a_controller_with_requests_and_weights_survives_json() -> None:
    controller, _ = blending(blending.canary(), served(0, answers=20), agreement(5, 1), proven("9"))
    controller, _ = blending(controller, evidence(1, {"7": 0.75, "8": 0.25}))
    written = controller.model_dump_json()
    assert RolloutController.model_validate_json(written).model_dump_json() == written


def test_a_start_keeps_the_champion_serving_while_a_proof_waits() -> None:
    controller, _ = told(SERVING, said(RolloutAction.PIN), proven("8"))
    assert ShiftTraffic(MODEL, {"7": 100}) in steady_effects(controller)

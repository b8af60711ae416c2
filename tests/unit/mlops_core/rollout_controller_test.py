"""A rollout controller where every version gets a canary that its own labels and requests judge."""

import pytest

from driftloop.mlops_core import errors
from driftloop.mlops_core.rollout import controller_state, state_machine
from driftloop.mlops_core.rollout.controller import handle, steady_effects
from driftloop.mlops_core.rollout.controller_state import RolloutController
from driftloop.mlops_core.rollout.effects import (
    Effect,
    EnsureRevision,
    Retire,
    SetChampion,
    ShiftTraffic,
    Tag,
    effects,
)
from driftloop.schemas.events import (
    AlertRaised,
    ChallengerPassedOver,
    Event,
    RolloutAction,
    RolloutAdvanced,
    RolloutFailed,
    RolloutHeld,
    RolloutPhase,
    RolloutPromoted,
    RolloutRolledBack,
    RolloutStarted,
)
from tests.support.rollout_events import (
    BAD,
    CANARY,
    SERVING,
    Teller,
    asked,
    good,
    kinds,
    open_,
    registered,
    said,
    window,
)

told = Teller(CANARY)
performed, obstructed, canary, promoted = told.performed, told.obstructed, told.canary, told.promoted


def test_a_registered_version_goes_from_warming_over_its_steps_to_champion() -> None:
    controller, follows = told(SERVING, registered("8"))
    for number, expected in enumerate(("warming", "canary", "canary", "promoting", "promoted")):
        assert open_(controller).phase == expected
        controller, more = performed(controller)
        follows += more
        controller, more = told(controller, *good(number))
        follows += more
    assert kinds(follows) == [
        "RolloutStarted",
        "RolloutAdvanced",
        "RolloutAdvanced",
        "RolloutAdvanced",
        "RolloutPromoted",
    ]
    assert [event.weight for event in follows if isinstance(event, RolloutAdvanced)] == [10, 50, 100]
    assert (controller.open, controller.champion, controller.previous, controller.replicas) == (
        None,
        "8",
        "7",
        3,
    )


def test_each_phase_says_what_must_be_true() -> None:
    controller, _ = told(SERVING.model_copy(update={"previous": "6"}), registered("8"))
    ensure = EnsureRevision("flights", "8", 3)
    seen: list[tuple[Effect, ...]] = []
    for number in range(5):
        seen.append(effects(open_(controller)))
        controller, _ = told(performed(controller)[0], *good(number))
    assert seen == [
        (ensure,),
        (ensure, ShiftTraffic("flights", {"8": 10, "7": 90})),
        (ensure, ShiftTraffic("flights", {"8": 50, "7": 50})),
        (ensure, ShiftTraffic("flights", {"8": 100}), SetChampion("flights", "8")),
        (Retire("flights", "6"),),
    ]


def test_a_worse_version_is_rolled_back_traffic_first() -> None:
    controller, follows = told(canary(), window(0, BAD))
    assert (follows, open_(controller).phase) == ([], RolloutPhase.REVERTING)
    assert effects(open_(controller)) == (
        ShiftTraffic("flights", {"7": 100}),
        SetChampion("flights", "7"),
        Tag("flights", "8", "lifecycle", "rolled-back"),
    )
    controller, follows = performed(controller)
    assert effects(open_(controller)) == (Retire("flights", "8"),)
    (back,) = follows
    assert isinstance(back, RolloutRolledBack)
    assert back.sentence.startswith("v8's loss per prediction is 0.500 higher than v7's")
    assert (controller.champion, performed(controller)[0].open) == ("7", None)


def test_a_models_first_version_is_promoted_once_it_is_warm() -> None:
    controller, _ = told(RolloutController(model="flights"), registered("1"))
    controller, _ = performed(controller)
    assert effects(open_(controller))[1:] == (
        ShiftTraffic("flights", {"1": 100}),
        SetChampion("flights", "1"),
    )
    controller, follows = performed(controller)
    assert kinds(follows) == ["RolloutPromoted"]
    assert controller.champion == "1"


def test_a_version_that_does_not_start_fails_without_touching_traffic() -> None:
    controller, follows = obstructed(told(SERVING, registered("8"))[0])
    (failed,) = follows
    assert isinstance(failed, RolloutFailed)
    assert failed.error == "no such image"
    assert effects(open_(controller)) == (Retire("flights", "8"), Tag("flights", "8", "lifecycle", "failed"))


def test_a_canary_that_cannot_be_kept_up_is_rolled_back() -> None:
    assert open_(obstructed(canary())[0]).phase is RolloutPhase.REVERTING


def test_a_barred_way_back_is_a_critical_alert_once() -> None:
    controller, _ = told(canary(), window(0, BAD))
    controller, first = obstructed(controller)
    _, again = obstructed(controller)
    assert [event.severity for event in first if isinstance(event, AlertRaised)] == ["critical"]
    assert again == []


def test_every_event_leads_back_to_the_registration_and_has_its_own_id() -> None:
    controller, follows = told(SERVING, registered("8"))
    reports: list[Event] = []
    for number in range(5):
        reports.append(state_machine.performed_report(open_(controller)))
        controller, more = performed(controller)
        controller, others = told(controller, *good(number))
        follows += more + others
    causes = {event.id: event.caused_by for event in follows + reports}
    assert len(causes) == len(follows + reports)
    link: str | None = follows[-1].id
    while link in causes:
        link = causes[link]
    assert link == "registered-8"


def test_the_same_event_twice_changes_nothing() -> None:
    controller, _ = told(canary(), asked("5"), said(RolloutAction.PAUSE))
    assert told(controller, registered("8"), asked("5"), said(RolloutAction.PAUSE)) == (controller, [])


def test_a_report_about_an_earlier_phase_or_step_is_ignored() -> None:
    warming, _ = told(SERVING, registered("8"))
    first, _ = performed(warming)
    second, _ = told(canary(), *good(0))
    for controller, earlier in [(first, warming), (second, first), (second, warming)]:
        late = state_machine.performed_report(open_(earlier)).model_copy(update={"id": "late"})
        after, follows = told(controller, late)
        assert (after.open, follows) == (controller.open, [])


def test_windows_that_began_before_the_shift_do_not_count() -> None:
    controller, _ = told(SERVING, registered("8"), window(4))
    controller = performed(performed(controller)[0])[0]
    controller, _ = told(controller, window(5, BAD, since=49))
    assert open_(controller).evidence[-1].canary.rows == 0
    controller, _ = told(controller, window(6, BAD, since=50))
    assert open_(controller).phase is RolloutPhase.REVERTING


def test_a_step_counts_nothing_until_its_shift_was_performed() -> None:
    controller, _ = told(canary(), *good(0), window(1, BAD))
    assert open_(controller).evidence[-1].canary.rows == 0
    assert open_(controller).phase is RolloutPhase.CANARY


def test_without_traffic_a_canary_is_held_for_ever_and_seldom_mentioned() -> None:
    controller, follows = told(canary(), *(window(number, rows=0) for number in range(500)))
    assert open_(controller).phase is RolloutPhase.CANARY
    assert set(kinds(follows)) == {"RolloutHeld"}
    assert len(follows) == 500 / state_machine.HELD_EVERY


def test_a_hold_says_what_is_missing() -> None:
    _, follows = told(canary(), window(0, rows=120))
    (held,) = follows
    assert isinstance(held, RolloutHeld)
    assert (held.weight, held.sentence) == (10, "v8 has 120 of 300 labels with the canary at 10 %")


def test_what_cannot_be_measured_pauses_for_a_person_after_three_windows() -> None:
    broken = [window(number, float("inf")) for number in range(controller_state.UNMEASURABLE)]
    controller, _ = told(canary(), *broken[:-1])
    assert open_(controller).phase is RolloutPhase.CANARY
    controller, (held,) = told(controller, broken[-1])
    assert open_(controller).phase is RolloutPhase.PAUSED
    assert isinstance(held, RolloutHeld)
    assert held.sentence == "v8 cannot be measured: a sum of its losses is not a finite number"
    assert open_(controller).evidence[-1].canary.rows == 0, "sums that are no numbers are kept out"


def test_a_pause_keeps_the_traffic_and_a_resumed_canary_its_evidence() -> None:
    controller, _ = told(canary(), window(0, rows=200), said(RolloutAction.PAUSE))
    shift = ShiftTraffic("flights", {"8": 10, "7": 90})
    assert shift in effects(open_(controller))
    controller, follows = told(controller, window(1, BAD, rows=200), said(RolloutAction.RESUME))
    assert kinds(follows) == ["RolloutAdvanced"], "nobody judges during a pause"
    assert shift in effects(open_(controller))
    assert open_(controller).evidence[-1].canary.rows == 400


def test_a_pause_waits_for_a_person_whatever_is_reported() -> None:
    controller, _ = told(canary(), said(RolloutAction.PAUSE))
    assert open_(performed(controller)[0]) == open_(obstructed(controller)[0]) == open_(controller)


def test_a_pause_before_any_traffic_sends_none_to_the_canary() -> None:
    controller, _ = told(SERVING, registered("8"), said(RolloutAction.PAUSE))
    assert ShiftTraffic("flights", {"7": 100}) in effects(open_(controller))
    controller, _ = told(controller, said(RolloutAction.RESUME))
    assert ShiftTraffic("flights", {"8": 10, "7": 90}) in effects(open_(controller))


def test_a_first_version_resumed_from_a_pause_goes_straight_to_promotion() -> None:
    controller, _ = told(
        RolloutController(model="flights"),
        registered("1"),
        said(RolloutAction.PAUSE),
        said(RolloutAction.RESUME),
    )
    assert open_(controller).phase is RolloutPhase.PROMOTING


@pytest.mark.parametrize("windows", [0, 1])
def test_an_abort_reverts_from_anywhere(windows: int) -> None:
    controller, _ = told(canary(), *good(0)[: 2 * windows], said(RolloutAction.ABORT))
    _, follows = performed(controller)
    (back,) = follows
    assert isinstance(back, RolloutRolledBack)
    assert back.sentence == "a person requested abort"


def test_a_command_that_is_not_possible_is_answered_with_what_is() -> None:
    controller = canary()
    after, (answer,) = told(controller, said(RolloutAction.RESUME))
    assert after.open == controller.open
    assert isinstance(answer, AlertRaised)
    assert answer.sentence.startswith("flights:8 is canary: got resumed, possible are performed, ")


def test_a_command_without_a_rollout_is_answered() -> None:
    _, (answer,) = told(SERVING, said(RolloutAction.PAUSE))
    assert isinstance(answer, AlertRaised)
    assert answer.sentence == "flights has no rollout in progress: got pause"


def test_a_running_rollout_finishes_before_the_newest_of_those_that_wait() -> None:
    controller, follows = told(canary(), registered("9"), registered("10"))
    assert [event.sentence for event in follows if isinstance(event, ChallengerPassedOver)] == [
        "v9 is passed over for v10: it is newer"
    ]
    controller, _ = told(controller, said(RolloutAction.ABORT))
    controller, follows = performed(performed(controller)[0])
    (started,) = follows
    assert isinstance(started, RolloutStarted)
    assert (started.version, started.stable, started.caused_by) == ("10", "7", "registered-10")


def test_a_persons_request_goes_before_a_registration() -> None:
    controller, _ = told(canary(), registered("9"), asked("5"), said(RolloutAction.ABORT))
    controller, _ = performed(performed(controller)[0])
    assert open_(controller).version == "5"
    assert [one.version for one in controller.queue] == ["9"]


def test_a_registration_heard_again_is_not_rolled_out_again() -> None:
    controller, _ = told(canary(), said(RolloutAction.ABORT))
    controller, _ = performed(performed(controller)[0])
    assert kinds(told(controller, registered("8", id_="again"))[1]) == []
    assert kinds(told(controller, asked("8"))[1]) == ["RolloutStarted"], "a person may insist"


def test_a_manual_registration_waits_for_a_request() -> None:
    controller, follows = told(SERVING, registered("8", "manual"))
    assert follows == []
    assert kinds(told(controller, asked("8"))[1]) == ["RolloutStarted"]


@pytest.mark.parametrize(
    ("controller", "version", "answer"),
    [
        (SERVING, "7", "flights:7 is already champion"),
        (canary(), "8", "flights:8 already has a rollout in progress (canary)"),
    ],
)
def test_asking_for_what_is_there_already_is_answered(
    controller: RolloutController, version: str, answer: str
) -> None:
    _, (note,) = told(controller, asked(version))
    assert isinstance(note, AlertRaised)
    assert note.sentence == answer


def test_the_way_back_to_the_previous_champion_needs_no_canary() -> None:
    controller, _ = told(promoted(), asked("7", replicas=3))
    controller, _ = performed(controller)
    assert ShiftTraffic("flights", {"7": 100}) in effects(open_(controller))
    controller, follows = performed(controller)
    assert isinstance(follows[0], RolloutPromoted)
    assert (controller.champion, controller.previous) == ("7", "8")
    assert effects(open_(controller)) == (), "neither of the two is taken down"


def test_a_start_brings_up_the_champion_and_keeps_the_one_before_warm() -> None:
    assert steady_effects(promoted()) == (
        EnsureRevision("flights", "8", 3),
        EnsureRevision("flights", "7", 3),
        ShiftTraffic("flights", {"8": 100}),
    )
    assert ShiftTraffic("flights", {"7": 100}) not in steady_effects(canary()), "a canary keeps its share"


def test_a_controller_survives_json() -> None:
    controller, _ = told(canary(), window(0, rows=10), registered("9"), asked("5"))
    written = controller.model_dump_json()
    assert RolloutController.model_validate_json(written).model_dump_json() == written


def test_an_event_of_another_model_is_refused() -> None:
    with pytest.raises(errors.Conflict, match="the controller of churn got RolloutCommanded"):
        handle(RolloutController(model="churn"), said(RolloutAction.PAUSE), CANARY)

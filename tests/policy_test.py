"""The retraining policy: one training for a thousand alarms, and a reason for every alarm without one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core.training.policy import HOUR, RetrainingState, decide, noted
from schemas.events import (
    DriftDetected,
    DriftKind,
    Event,
    PerformanceMeasured,
    RetrainRefused,
    RetrainRequested,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)
from schemas.settings import RetrainingSettings

SETTINGS = RetrainingSettings(cooldown_hours=24, min_new_labels=1000, max_failures=3)
DAY = 24 * HOUR
START = 100 * DAY
LABELLED = RetrainingState(labelled=5_000)


def alarm(at: int = START, name: str = "alarm", kind: DriftKind = DriftKind.FEATURE) -> DriftDetected:
    return DriftDetected(
        id=f"{name}-{at}",
        at=at,
        model="flights",
        version="1",
        kind=kind,
        columns=["miles"],
        severity=0.6,
        changed_at=at - HOUR,
        sentence="miles moved by 0.6 standard deviations",
    )


def labels(count: int, at: int = START) -> PerformanceMeasured:
    return PerformanceMeasured(
        id=f"p-{count}", at=at, model="flights", since=at, until=at, rows=250, labelled=count, versions={}
    )


def failed(request: Event) -> TrainingFailed:
    return TrainingFailed.following(request, error="killed by SIGKILL")


def refused(request: Event) -> TrainingRefused:
    return TrainingRefused.following(request, reason="surely worse")


def manual(at: int) -> RetrainRequested:
    return RetrainRequested(id=f"hand-{at}", at=at, model="flights", reason="", trigger="manual", rows=1)


def reason(answer: RetrainRequested | RetrainRefused) -> str:
    assert isinstance(answer, RetrainRefused)
    return answer.reason


def test_an_alarm_with_enough_new_labels_is_answered_by_a_request() -> None:
    state, request = decide(LABELLED, alarm(), SETTINGS)
    assert isinstance(request, RetrainRequested)
    assert request.caused_by == alarm().id
    assert request.rows == SETTINGS.window_rows
    assert state.in_flight == request


def test_a_thousand_alarms_in_an_hour_lead_to_one_training() -> None:
    state, requests = LABELLED, 0
    for number in range(1000):
        state, answer = decide(state, alarm(START + number * HOUR // 1000), SETTINGS)
        if isinstance(answer, RetrainRequested):
            requests += 1
            state = noted(state, refused(answer))
    assert requests == 1


def test_a_request_says_what_was_seen_and_how_much_there_is_to_learn() -> None:
    _, request = decide(LABELLED, alarm(), SETTINGS)
    assert request.reason == "miles moved by 0.6 standard deviations; 5,000 new labels"


@pytest.mark.parametrize("kind", [kind for kind in DriftKind if kind is not DriftKind.COLUMNS])
def test_only_concept_drift_makes_the_rows_before_it_useless(kind: DriftKind) -> None:
    _, request = decide(LABELLED, alarm(kind=kind), SETTINGS)
    assert isinstance(request, RetrainRequested)
    assert request.trigger == kind
    assert request.since == (alarm().changed_at if kind is DriftKind.CONCEPT else None)


def test_an_alarm_delivered_again_has_the_same_answer() -> None:
    state, request = decide(LABELLED, alarm(), SETTINGS)
    again, answer = decide(noted(state, labels(9_000)), alarm(), SETTINGS)
    assert answer == request
    assert again.in_flight == request


def test_a_refusal_has_the_same_id_each_time() -> None:
    first = decide(RetrainingState(), alarm(), SETTINGS)[1]
    assert decide(RetrainingState(), alarm(), SETTINGS)[1].id == first.id


def test_while_a_training_runs_the_next_one_waits() -> None:
    state, _ = decide(LABELLED, alarm(), SETTINGS)
    _, answer = decide(noted(state, labels(99_000)), alarm(START + 2 * DAY), SETTINGS)
    assert reason(answer) == "busy: the training asked for 2 days ago hasn't ended"


def test_between_two_trainings_the_cooldown_passes() -> None:
    state, request = decide(LABELLED, alarm(), SETTINGS)
    state = noted(noted(state, refused(request)), labels(99_000))
    early, answer = decide(state, alarm(START + 3 * HOUR), SETTINGS)
    assert reason(answer) == "cooldown: the last training was 3 h ago, 24 h are needed"
    assert isinstance(decide(early, alarm(START + DAY), SETTINGS)[1], RetrainRequested)


def test_too_few_new_labels_teach_nothing() -> None:
    state, request = decide(LABELLED, alarm(), SETTINGS)
    state = noted(noted(state, refused(request)), labels(5_450))
    _, answer = decide(state, alarm(START + 2 * DAY), SETTINGS)
    assert reason(answer) == "labels: 450 new ones since the last training, 1,000 are needed"


def test_alarms_are_confirmed_where_that_is_asked_for() -> None:
    settings = RetrainingSettings(confirm=2, confirm_hours=6)
    state, answer = decide(LABELLED, alarm(START), settings)
    assert reason(answer) == "unconfirmed: 1 of 2 alarms within 6 h"
    state, answer = decide(state, alarm(START), settings)
    assert "1 of 2" in reason(answer), "an alarm doesn't confirm itself"
    state, answer = decide(state, alarm(START + 7 * HOUR), settings)
    assert "1 of 2" in reason(answer), "the first one is too long ago"
    assert isinstance(decide(state, alarm(START + 8 * HOUR), settings)[1], RetrainRequested)


TWICE = RetrainingSettings(confirm=2, confirm_hours=48)


def heard(*alarms: DriftDetected) -> RetrainRequested | RetrainRefused:
    """The answer to the last of them."""
    state = LABELLED
    for one in alarms:
        state, answer = decide(state, one, TWICE)
    return answer


def of(segment: str, at: int, **fields: object) -> DriftDetected:
    return alarm(at, name=segment or "whole").model_copy(update={"segment": segment, **fields})


def test_segments_of_one_change_are_one_drift_of_the_model() -> None:
    alarms = [of("country=FR", START), of("country=DE", START + 2 * HOUR), of("", START + 5 * HOUR)]
    assert reason(heard(*alarms)) == "unconfirmed: 1 of 2 alarms within 48 h"


def test_columns_that_alarm_one_after_another_are_one_drift_of_the_model() -> None:
    later = alarm(START + HOUR, "score", DriftKind.PREDICTION).model_copy(update={"changed_at": START - HOUR})
    assert reason(heard(alarm(), later)) == "unconfirmed: 1 of 2 alarms within 48 h"


def test_a_segment_that_changes_again_confirms_itself() -> None:
    assert isinstance(heard(of("country=FR", START), of("country=FR", START + 5 * HOUR)), RetrainRequested)


def test_labels_confirm_what_columns_say_of_the_same_change() -> None:
    errors = alarm(START + HOUR, "errors", DriftKind.CONCEPT).model_copy(update={"changed_at": START - HOUR})
    assert isinstance(heard(alarm(), errors), RetrainRequested)


def test_alarms_of_a_state_from_before_segments_still_confirm() -> None:
    state, _ = decide(LABELLED, alarm(), TWICE)
    old = {**state.model_dump(), "alarms": [{"id": "old", "at": START}]}
    after = decide(RetrainingState.model_validate(old), alarm(START + HOUR), TWICE)[1]
    assert isinstance(after, RetrainRequested)


def broken() -> RetrainingState:
    state = LABELLED
    for day in range(SETTINGS.max_failures):
        state = noted(state, labels(10_000 * (day + 1)))
        state, request = decide(state, alarm(START + 2 * day * DAY), SETTINGS)
        state = noted(state, failed(request))
    return noted(state, labels(99_000))


def test_after_repeated_failures_the_breaker_waits_for_a_person() -> None:
    _, answer = decide(broken(), alarm(START + 90 * DAY), SETTINGS)
    assert reason(answer) == (
        "breaker: 3 trainings in a row failed (killed by SIGKILL); "
        "one asked for by hand that ends well closes it"
    )


def test_a_training_by_hand_closes_the_breaker() -> None:
    mended = noted(noted(broken(), refused(manual(START + 91 * DAY))), labels(199_000))
    assert isinstance(decide(mended, alarm(START + 99 * DAY), SETTINGS)[1], RetrainRequested)


def test_a_failure_that_is_told_twice_counts_once() -> None:
    state, request = decide(LABELLED, alarm(), SETTINGS)
    assert noted(noted(state, failed(request)), failed(request)).failures == 1


def test_somebody_elses_training_leaves_ours_in_flight_and_starts_the_cooldown() -> None:
    state, request = decide(LABELLED, alarm(), SETTINGS)
    state = noted(state, refused(manual(START + DAY)))
    assert state.in_flight == request
    assert state.trained_at == START + DAY


def test_a_training_dated_today_does_not_hold_up_a_replayed_year() -> None:
    state = noted(noted(LABELLED, refused(manual(START + 4000 * DAY))), labels(9_000))
    assert isinstance(decide(state, alarm(), SETTINGS)[1], RetrainRequested)


def test_a_state_survives_as_json() -> None:
    state, _ = decide(LABELLED, alarm(), SETTINGS)
    assert RetrainingState.model_validate_json(state.model_dump_json()) == state


Ends = st.sampled_from(["completed", "refused", "failed", "runs on"])


@given(st.lists(st.tuples(st.integers(0, 30 * 24), Ends), max_size=60), st.booleans())
def test_never_two_in_flight_and_never_inside_the_cooldown(story: list[tuple[int, str]], sort: bool) -> None:
    state, flying, asked = RetrainingState(), None, None
    for hour, end in sorted(story) if sort else story:
        state = noted(state, labels(state.labelled + 400))
        state, answer = decide(state, alarm(START + hour * HOUR, f"{state.labelled}"), SETTINGS)
        if isinstance(answer, RetrainRequested):
            assert flying is None
            assert asked is None or abs(answer.at - asked) >= DAY
            flying, asked = answer, answer.at
        if flying is not None and end != "runs on":
            state, flying = noted(state, ended(flying, end)), None


def ended(request: RetrainRequested, end: str) -> TrainingCompleted | TrainingRefused | TrainingFailed:
    if end == "completed":
        evidence = {"passed": True, "sentence": "", "rows": 100, "challenger_loss": 0.1}
        fields = {"version": "2", "run_id": "r", "rows": 1, "seconds": 1.0, "metrics": {}, "gate": evidence}
        return TrainingCompleted.following(request, **fields)
    return failed(request) if end == "failed" else refused(request)

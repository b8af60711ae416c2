"""The retraining policy: one training for a thousand alarms, and a reason for every alarm without one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.training import policy
from driftloop.mlops_core.training.policy import HOUR, Answer, RetrainingState, on_alarm
from driftloop.schemas.events import (
    DeployRequested,
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
from driftloop.schemas.settings import RetrainingSettings

SETTINGS = RetrainingSettings(cooldown_hours=24, min_new_labels=1000, max_failures=3, follow_ups=(1000, 2000))
"""Where a test needs a cooldown; the defaults have none."""
DEFAULTS = RetrainingSettings()
Noted = PerformanceMeasured | TrainingCompleted | TrainingRefused | TrainingFailed | DeployRequested
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


def noted(state: RetrainingState, event: Noted, settings: RetrainingSettings = SETTINGS) -> RetrainingState:
    """The state after an event after which nothing may be asked for."""
    state, follows = policy.on_event(state, event, settings)
    assert follows == []
    return state


def reason(answer: RetrainRequested | RetrainRefused) -> str:
    assert isinstance(answer, RetrainRefused)
    return answer.reason


def test_an_alarm_with_enough_new_labels_is_answered_by_a_request() -> None:
    state, request = on_alarm(LABELLED, alarm(), SETTINGS)
    assert isinstance(request, RetrainRequested)
    assert request.caused_by == alarm().id
    assert (request.rows, request.windows) == (60_000, (5000, 20_000, 60_000))
    assert state.in_flight == request


def test_a_thousand_alarms_in_an_hour_lead_to_one_training() -> None:
    state, requests = LABELLED, 0
    for number in range(1000):
        state, answer = on_alarm(state, alarm(START + number * HOUR // 1000), SETTINGS)
        if isinstance(answer, RetrainRequested):
            requests += 1
            state = noted(state, refused(answer))
    assert requests == 1


def test_a_request_says_what_was_seen_and_how_much_there_is_to_learn() -> None:
    _, request = on_alarm(LABELLED, alarm(), SETTINGS)
    assert request.reason == "miles moved by 0.6 standard deviations; 5,000 new labels"


@pytest.mark.parametrize("kind", [kind for kind in DriftKind if kind is not DriftKind.COLUMNS])
def test_only_concept_drift_makes_the_rows_before_it_useless(kind: DriftKind) -> None:
    _, request = on_alarm(LABELLED, alarm(kind=kind), SETTINGS)
    assert isinstance(request, RetrainRequested)
    assert request.trigger == kind
    assert request.since == (alarm().changed_at if kind is DriftKind.CONCEPT else None)


def test_an_alarm_delivered_again_has_the_same_answer() -> None:
    state, request = on_alarm(LABELLED, alarm(), SETTINGS)
    again, answer = on_alarm(noted(state, labels(9_000)), alarm(), SETTINGS)
    assert answer == request
    assert again.in_flight == request


def test_a_refusal_has_the_same_id_each_time() -> None:
    first = on_alarm(RetrainingState(), alarm(), SETTINGS)[1]
    assert on_alarm(RetrainingState(), alarm(), SETTINGS)[1].id == first.id


def test_while_a_training_runs_the_next_one_waits() -> None:
    state, _ = on_alarm(LABELLED, alarm(), SETTINGS)
    _, answer = on_alarm(noted(state, labels(99_000)), alarm(START + 2 * DAY), SETTINGS)
    assert reason(answer) == (
        "busy: the training requested 94,000 labels ago has not ended; the alarm waits for its end"
    )


def test_between_two_trainings_the_cooldown_passes() -> None:
    state, request = on_alarm(LABELLED, alarm(), SETTINGS)
    state = noted(noted(state, refused(request)), labels(99_000))
    early, answer = on_alarm(state, alarm(START + 3 * HOUR), SETTINGS)
    assert reason(answer) == (
        "cooldown: the last training was 3 h ago, 24 h are needed; the alarm waits for 21 h"
    )
    assert isinstance(on_alarm(early, alarm(START + DAY), SETTINGS)[1], RetrainRequested)


def test_too_few_new_labels_teach_nothing() -> None:
    state, request = on_alarm(LABELLED, alarm(), SETTINGS)
    state = noted(noted(state, refused(request)), labels(5_450))
    _, answer = on_alarm(state, alarm(START + 2 * DAY), SETTINGS)
    assert reason(answer) == (
        "labels: 450 new ones since the last training, 1,000 are needed; the alarm waits for 550 more"
    )


def test_alarms_are_confirmed_where_that_is_asked_for() -> None:
    settings = RetrainingSettings(confirm=2, confirm_hours=6)
    state, answer = on_alarm(LABELLED, alarm(START), settings)
    assert reason(answer) == "unconfirmed: 1 of 2 alarms within 6 h"
    state, answer = on_alarm(state, alarm(START), settings)
    assert "1 of 2" in reason(answer), "an alarm doesn't confirm itself"
    state, answer = on_alarm(state, alarm(START + 7 * HOUR), settings)
    assert "1 of 2" in reason(answer), "the first one is too long ago"
    assert isinstance(on_alarm(state, alarm(START + 8 * HOUR), settings)[1], RetrainRequested)


TWICE = RetrainingSettings(confirm=2, confirm_hours=48)


def heard(*alarms: DriftDetected) -> RetrainRequested | RetrainRefused:
    """The answer to the last of them."""
    state = LABELLED
    for one in alarms:
        state, answer = on_alarm(state, one, TWICE)
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
    state, _ = on_alarm(LABELLED, alarm(), TWICE)
    old = {**state.model_dump(), "alarms": [{"id": "old", "at": START}]}
    after = on_alarm(RetrainingState.model_validate(old), alarm(START + HOUR), TWICE)[1]
    assert isinstance(after, RetrainRequested)


def broken() -> RetrainingState:
    state, request = on_alarm(LABELLED, alarm(), SETTINGS)
    for day in range(1, SETTINGS.max_failures):
        state = noted(state, failed(request))
        state, [request] = policy.on_event(state, labels(10_000 * day, START + day * DAY), SETTINGS)
    return noted(noted(state, failed(request)), labels(99_000, START + 80 * DAY))


def test_after_repeated_failures_the_breaker_waits_for_a_person() -> None:
    _, answer = on_alarm(broken(), alarm(START + 90 * DAY), SETTINGS)
    assert reason(answer) == (
        "breaker: 3 trainings in a row failed (killed by SIGKILL); "
        "no training starts by itself until one that you request (driftloop retrain) succeeds"
    )


def test_a_training_by_hand_closes_the_breaker_and_what_has_waited_is_asked_for() -> None:
    mended = noted(broken(), refused(manual(START + 91 * DAY)))
    _, [request] = policy.on_event(mended, labels(199_000, START + 99 * DAY), SETTINGS)
    assert isinstance(request, RetrainRequested)
    assert request.caused_by == alarm().id


def test_a_failure_that_is_told_twice_counts_once() -> None:
    state, request = on_alarm(LABELLED, alarm(), SETTINGS)
    assert noted(noted(state, failed(request)), failed(request)).failures == 1


def test_somebody_elses_training_leaves_ours_in_flight_and_starts_the_cooldown() -> None:
    state, request = on_alarm(LABELLED, alarm(), SETTINGS)
    state = noted(state, refused(manual(START + DAY)))
    assert state.in_flight == request
    assert state.trained_at == START + DAY


def test_a_training_dated_today_does_not_hold_up_a_replayed_year() -> None:
    state = noted(noted(LABELLED, refused(manual(START + 4000 * DAY))), labels(9_000))
    assert isinstance(on_alarm(state, alarm(), SETTINGS)[1], RetrainRequested)


def test_a_state_survives_as_json() -> None:
    state, _ = on_alarm(LABELLED, alarm(), SETTINGS)
    assert RetrainingState.model_validate_json(state.model_dump_json()) == state


def concept(rows: int, at: int = START, name: str = "errors") -> DriftDetected:
    """An alarm `rows` labels after the change."""
    return alarm(at, name, DriftKind.CONCEPT).model_copy(update={"rows": rows})


def completed(
    request: Event, rows: int = 5000, seconds: float = 0.0, version: str = "2"
) -> TrainingCompleted:
    evidence = {"passed": True, "sentence": "", "rows": 100, "challenger_loss": 0.1}
    fields = {"version": version, "run_id": "r", "rows": rows, "seconds": seconds, "metrics": {}}
    return TrainingCompleted.following(request, **fields, gate=evidence)


class Loop:
    """A policy whose labels come a hundred at a time, one a minute; each training ends before the next."""

    def __init__(self, settings: RetrainingSettings = DEFAULTS, rows: int = 5000) -> None:
        self.settings, self.at, self.labels = settings, START, 0
        self.state = noted(RetrainingState(), completed(manual(START), rows), settings)
        self.asked: list[tuple[int, RetrainRequested]] = []
        """Labels, and the request."""

    def alarms(self, evidence: DriftDetected) -> Answer:
        """The answer to an alarm; a request of its own is trained at once."""
        self.state, answer = on_alarm(self.state, evidence, self.settings)
        if isinstance(answer, RetrainRequested):
            self._trained(answer)
        return answer

    def passes(self, count: int) -> "Loop":
        """So many labels come."""
        for _ in range(count // 100):
            self.labels, self.at = self.labels + 100, self.at + 100 * 60_000
            self.notes(labels(self.labels, self.at))
        return self

    def notes(self, event: Noted) -> None:
        """An event, and the trainings that follow."""
        self.state, follows = policy.on_event(self.state, event, self.settings)
        for answer in follows:
            assert isinstance(answer, RetrainRequested)
            self._trained(answer)

    def _trained(self, request: RetrainRequested) -> None:
        self.asked.append((self.labels, request))
        self.notes(refused(request))

    @property
    def counts(self) -> list[int]:
        """Labels at which trainings were asked for."""
        return [count for count, _ in self.asked]


def test_an_alarm_that_is_refused_for_want_of_labels_is_a_request_as_soon_as_they_have_come() -> None:
    loop = Loop().passes(100)
    assert reason(loop.alarms(alarm(loop.at))) == (
        "labels: 100 new ones since the last training, 300 are needed; the alarm waits for 200 more"
    )
    loop.passes(2000)
    [(count, request)] = loop.asked
    assert count == 300
    assert (request.caused_by, request.trigger, request.at) == (
        f"alarm-{START + 6_000_000}",
        "feature",
        loop.asked[0][1].at,
    )
    assert request.reason == "miles moved by 0.6 standard deviations; 300 new labels"


def test_a_refusal_says_how_long_the_wait_will_be() -> None:
    loop = Loop().passes(200)
    assert reason(loop.alarms(alarm(loop.at))).endswith(
        "the alarm waits for 100 more, about 2 h at the present rate"
    )


def test_an_alarm_while_a_training_runs_is_looked_at_again_at_its_end() -> None:
    state, request = on_alarm(LABELLED, alarm(), DEFAULTS)
    state = noted(state, labels(6_000), DEFAULTS)
    state, answer = on_alarm(state, alarm(START + HOUR, "second"), DEFAULTS)
    assert reason(answer).startswith("busy: the training requested 1,000 labels ago")
    state, [again] = policy.on_event(state, refused(request), DEFAULTS)
    assert isinstance(again, RetrainRequested)
    assert again.caused_by == f"second-{START + HOUR}"
    assert again.id != request.id


def test_an_alarm_in_the_cooldown_is_looked_at_again_after_it() -> None:
    loop = Loop(RetrainingSettings(cooldown_hours=24, doubling=False)).passes(300)
    assert "cooldown" in reason(loop.alarms(alarm(loop.at)))
    loop.passes(2000)
    [(count, request)] = loop.asked
    assert count == 1500
    assert request.at == START + 25 * HOUR


def test_a_change_is_followed_up_as_its_rows_become_more() -> None:
    loop = Loop(RetrainingSettings(doubling=False)).passes(1000)
    answer = loop.alarms(concept(rows=100, at=loop.at))
    assert reason(answer) == (
        "labels: 100 since the change; the alarm waits for 200 more, about 3 h at the present rate"
    )
    loop.passes(20_000)
    since = [count - 900 for count in loop.counts]
    assert since == [300, 600, 1200, 2400, 4800]
    assert {request.caused_by for _, request in loop.asked} == {f"errors-{START + 1000 * 60_000}"}
    assert {request.since for _, request in loop.asked} == {START + 1000 * 60_000 - HOUR}
    assert len({request.id for _, request in loop.asked}) == 5


def test_a_change_that_is_found_late_is_trained_on_at_once_and_followed_up_from_there() -> None:
    loop = Loop(RetrainingSettings(doubling=False)).passes(2000)
    assert isinstance(loop.alarms(concept(rows=1300, at=loop.at)), RetrainRequested)
    loop.passes(20_000)
    assert [count - 700 for count in loop.counts] == [1300, 2400, 4800]
    assert [request.trigger for _, request in loop.asked] == ["concept", "follow-up", "follow-up"]


def test_a_newer_change_is_followed_instead_of_the_last() -> None:
    loop = Loop(RetrainingSettings(doubling=False)).passes(1000)
    loop.alarms(concept(rows=400, at=loop.at))
    loop.passes(500)
    loop.alarms(concept(rows=0, at=loop.at, name="newer"))
    loop.passes(20_000)
    assert loop.counts == [1000, 1300, *(1500 + after for after in DEFAULTS.follow_ups)]


def test_drift_of_inputs_is_trained_on_once() -> None:
    loop = Loop(RetrainingSettings(doubling=False)).passes(1000)
    assert isinstance(loop.alarms(alarm(loop.at)), RetrainRequested)
    assert loop.passes(20_000).counts == [1000]


def test_everything_is_learned_from_again_when_there_is_twice_as_much() -> None:
    loop = Loop(rows=5000).passes(100_000)
    assert loop.counts == [5000, 15_000, 35_000, 75_000]
    assert {request.trigger for _, request in loop.asked} == {"doubling"}
    assert {tuple(request.windows) for _, request in loop.asked} == {(60_000,)}
    assert loop.asked[0][1].reason.startswith("labelled rows have doubled since the last training")


def test_doubling_can_be_turned_off() -> None:
    assert Loop(RetrainingSettings(doubling=False)).passes(20_000).counts == []


def test_a_training_on_all_windows_counts_as_a_doubling_that_was_due() -> None:
    loop = Loop(rows=5000).passes(4900)
    assert reason(loop.alarms(concept(rows=200, at=loop.at))).startswith("labels: 200 since the change")
    loop.passes(100)
    assert [request.trigger for _, request in loop.asked] == ["follow-up"]


def test_the_more_a_model_has_learned_from_the_more_labels_another_training_needs() -> None:
    loop = Loop(rows=100_000).passes(1000)
    assert "2,020 are needed" in reason(loop.alarms(alarm(loop.at)))


def test_trainings_take_a_small_part_of_the_time_all_their_versions_counted() -> None:
    asked = manual(START)
    state = noted(LABELLED, completed(asked, seconds=60), DEFAULTS)
    state = noted(noted(state, completed(asked, seconds=300, version="3"), DEFAULTS), labels(9_000), DEFAULTS)
    state, answer = on_alarm(state, alarm(START + HOUR // 2), DEFAULTS)
    assert reason(answer) == (
        "cooldown: the last training, which took 6 min, was 30 min ago, 1 h are needed; "
        "the alarm waits for 30 min"
    )
    _, [request] = policy.on_event(state, labels(9_100, START + HOUR), DEFAULTS)
    assert isinstance(request, RetrainRequested)


def test_labels_that_come_all_at_once_hold_nothing_up_for_longer_than_the_time_asks() -> None:
    state = noted(LABELLED, completed(manual(START), seconds=60), DEFAULTS)
    for count in range(8):  # a night's labels within a second
        state = noted(state, labels(6_000 + 250 * count, START + DAY + count), DEFAULTS)
    assert isinstance(on_alarm(state, alarm(START + DAY), DEFAULTS)[1], RetrainRequested)


def test_a_thousand_alarms_of_every_kind_in_an_hour_are_one_training_until_labels_have_come() -> None:
    loop = Loop(RetrainingSettings(doubling=False)).passes(3000)
    kinds = [DriftKind.FEATURE, DriftKind.PREDICTION, DriftKind.CONCEPT]
    for number in range(1000):
        told = alarm(loop.at + number * HOUR // 1000, f"n{number}", kinds[number % 3])
        loop.alarms(told.model_copy(update={"rows": 500}))
    assert loop.counts == [3000]
    loop.passes(20_000)
    assert loop.counts == [3000, 3300, 3700, 4900, 7300], "one for those that waited, then the follow-ups"


def test_each_alarm_is_refused_once_however_often_it_is_looked_at() -> None:
    loop = Loop()
    loop.alarms(alarm(loop.at))
    for _ in range(2):
        _, follows = policy.on_event(loop.state, labels(100, loop.at), DEFAULTS)
        assert follows == []


def test_what_a_crashed_training_was_for_is_tried_again_until_the_breaker_opens() -> None:
    state, request = on_alarm(LABELLED, alarm(), DEFAULTS)
    for attempt in range(1, DEFAULTS.max_failures):
        state = noted(state, failed(request), DEFAULTS)
        state = noted(state, labels(5_000 + 300 * attempt - 1), DEFAULTS)
        state, [request] = policy.on_event(state, labels(5_000 + 300 * attempt), DEFAULTS)
        assert request.caused_by == alarm().id
    state = noted(state, failed(request), DEFAULTS)
    noted(state, labels(99_000), DEFAULTS)


def test_a_doubling_whose_training_crashed_is_tried_again() -> None:
    state = noted(RetrainingState(), completed(manual(START), 5000), DEFAULTS)
    state, [request] = policy.on_event(state, labels(5000), DEFAULTS)
    state = noted(noted(state, failed(request), DEFAULTS), labels(5299), DEFAULTS)
    _, [again] = policy.on_event(state, labels(5300), DEFAULTS)
    assert isinstance(again, RetrainRequested)
    assert again.trigger == "doubling"


def test_what_waits_is_dropped_when_its_kind_is_muted() -> None:
    loop = Loop(RetrainingSettings(doubling=False))
    loop.alarms(alarm(loop.at))
    loop.alarms(concept(rows=10, at=loop.at))
    loop.notes(
        DeployRequested(
            id="d", at=loop.at, model="flights", version="2", muted=[DriftKind.FEATURE, DriftKind.CONCEPT]
        )
    )
    assert loop.passes(10_000).counts == []


def test_no_age_is_negative_whatever_clock_a_request_has() -> None:
    state, request = on_alarm(LABELLED, alarm(START + 4000 * DAY), SETTINGS)
    for one in (state, noted(state, refused(request))):
        _, answer = on_alarm(noted(one, labels(9_000)), alarm(START, "earlier"), SETTINGS)
        assert isinstance(answer, RetrainRequested) or " -" not in answer.reason


def test_the_second_version_of_a_training_ends_nothing_else() -> None:
    state, request = on_alarm(LABELLED, alarm(), DEFAULTS)
    state = noted(state, completed(request), DEFAULTS)
    state, other = on_alarm(noted(state, labels(9_000), DEFAULTS), alarm(START + DAY, "next"), DEFAULTS)
    state = noted(state, completed(request, version="3"), DEFAULTS)
    assert state.in_flight == other


def test_a_state_from_before_follow_ups_goes_on() -> None:
    old = {
        "labelled": 5000,
        "trained_at": START,
        "trained_labels": 100,
        "alarms": [{"id": "old", "at": START}],
    }
    state = RetrainingState.model_validate(old)
    assert isinstance(on_alarm(state, alarm(START + DAY), DEFAULTS)[1], RetrainRequested)


Kinds = st.sampled_from([DriftKind.FEATURE, DriftKind.PREDICTION, DriftKind.CONCEPT])
Ends = st.sampled_from(["completed", "refused", "failed", "runs on"])


@given(
    st.lists(st.tuples(st.integers(0, 30 * 24), Ends, Kinds), max_size=60),
    st.booleans(),
)
def test_never_two_in_flight_and_never_inside_the_cooldown_or_without_labels(
    story: list[tuple[int, str, DriftKind]], sort: bool
) -> None:
    state, flying, asked, trained = RetrainingState(), None, None, 0
    for hour, end, kind in sorted(story) if sort else story:
        now = START + hour * HOUR
        state, requests = policy.on_event(state, labels(state.labelled + 400, now), SETTINGS)
        told = alarm(now, f"{state.labelled}", kind).model_copy(update={"rows": 1500})
        state, answer = on_alarm(state, told, SETTINGS)
        for request in (*requests, answer):
            if isinstance(request, RetrainRequested):
                assert flying is None
                assert state.labelled - trained >= SETTINGS.min_new_labels
                assert asked is None or abs(now - asked) >= DAY
                flying, asked, trained = request, request.at, state.labelled
        if flying is not None and end != "runs on":
            state, flying = noted(state, ended(flying, end)), None


def ended(request: RetrainRequested, end: str) -> TrainingCompleted | TrainingRefused | TrainingFailed:
    if end == "completed":
        return completed(request)
    return failed(request) if end == "failed" else refused(request)

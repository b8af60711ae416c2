"""Bytes to records and events, and back."""

import subprocess
import sys
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.schemas import messages, topics
from driftloop.schemas.events import (
    Agreement,
    AgreementMeasured,
    AlertRaised,
    ChallengerPassedOver,
    ChallengerProven,
    ColumnDrift,
    ColumnsChanged,
    DeployRequested,
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    Event,
    EvidenceMeasured,
    GateEvidence,
    MemberEvidence,
    ModelRegistered,
    Outcome,
    PairEvidence,
    PerformanceEstimated,
    PerformanceMeasured,
    PoolChanged,
    Range,
    RetrainRefused,
    RetrainRequested,
    RolloutAction,
    RolloutAdvanced,
    RolloutCommanded,
    RolloutFailed,
    RolloutHeld,
    RolloutObstructed,
    RolloutPerformed,
    RolloutPhase,
    RolloutPromoted,
    RolloutRolledBack,
    RolloutStarted,
    Span,
    Traffic,
    TrafficMeasured,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
    TrainingStarted,
    VerdictEvidence,
)
from driftloop.schemas.records import (
    FeatureBatch,
    FeatureRow,
    Label,
    LabelBatch,
    Prediction,
    PredictionBatch,
    Record,
)
from driftloop.streams.wire import codec
from tests.support.paths import GOLDEN

NEW_EVENT = """
from typing import ClassVar, Literal

from driftloop.schemas import topics
from driftloop.schemas.events import Event
from driftloop.schemas.settings import KafkaSettings


class NoteWritten(Event):
    kafka_topic: ClassVar = topics.ALERTS
    type: Literal["NoteWritten"] = "NoteWritten"
    text: str


from driftloop.streams import routes
from driftloop.streams.wire import codec

note = NoteWritten(id="1", at=0, model="churn", text="retrain on Monday")
record = routes.producer_record(note, KafkaSettings(prefix="team-"))
assert (record.topic, record.key) == ("team-alerts", "churn")
assert codec.decode_event(record.value) == note
"""

ENVELOPE: dict[str, Any] = {"id": "e-2", "at": 1357034400000, "model": "flights", "caused_by": "e-1"}
SPAN = Span(topic="predictions", partition=3, first=10, last=42)
GATE = GateEvidence(
    passed=True,
    sentence="better",
    rows=4000,
    champion="7",
    champion_loss=0.21,
    challenger_loss=0.19,
    low=0.01,
    high=0.03,
)
VERDICT = VerdictEvidence(
    outcome="pass",
    sentence="no worse",
    canary_rows=412,
    stable_rows=3708,
    canary_loss=0.19,
    stable_loss=0.2,
    low=-0.02,
    high=0.01,
)
PAIR = PairEvidence(rows=400, gain=0.02, low=0.005, high=0.035, proof=12.5, against=0.25, needed=80)
ROLLOUT: dict[str, Any] = {
    **ENVELOPE,
    "rollout": "r-1",
    "version": "8",
    "stable": "7",
    "sentence": "so be it",
}
EXAMPLES: list[Event | Record] = [
    Prediction(
        model="flights",
        version="7",
        id="p-1",
        entity="UA1545",
        at=1357034400000,
        score=0.25,
        features={"temp": 39.02, "origin": "JFK", "gust": None},
    ),
    FeatureRow(model="flights", id="p-1", entity="UA1545", at=1357034400000, features={"temp": 39.02}),
    Label(model="flights", id="p-1", at=1357048800000, label=1),
    PredictionBatch(
        model="flights",
        version="7",
        ids=["a", "b"],
        at=[1, 2],
        entities=["x", None],
        scores=[0.5, 0.25],
        features={"temp": [1.5, None], "origin": ["JFK", "LGA"]},
    ),
    FeatureBatch(model="flights", ids=["a", "b"], at=[1, 2], features={"temp": [1.5, None]}),
    LabelBatch(model="flights", ids=["a", "b"], at=[1, 2], labels=[0, 1]),
    DriftMeasured(
        **ENVELOPE,
        version="7",
        rows=1024,
        since=1,
        until=2,
        spans=[SPAN],
        columns={
            "temp": ColumnDrift(
                severity=0.8,
                channel="location",
                drifted=True,
                reference=[0.5, 0.5, 0],
                current=[0.1, 0.8, 0.1],
                edges=[40.0],
                categories=[],
            )
        },
    ),
    DriftDetected(
        **ENVELOPE,
        version="7",
        kind=DriftKind.FEATURE,
        columns=["temp"],
        severity=0.8,
        changed_at=1,
        sentence="temp rose",
    ),
    DriftResolved(**ENVELOPE, version="7", kind=DriftKind.FEATURE, columns=["temp"]),
    ColumnsChanged(
        **ENVELOPE,
        version="7",
        missing=["temp"],
        retyped=["dest"],
        extra=["gate"],
        severity="warning",
        sentence="columns are not as in training",
    ),
    PerformanceMeasured(
        **ENVELOPE,
        since=1,
        until=2,
        rows=250,
        labelled=5000,
        versions={
            "7": Outcome(rows=250, loss=45.5, loss_squared=11.25, log_loss=120.5, errors=60, residual=-3.5)
        },
        spans=[SPAN],
    ),
    PerformanceEstimated(
        **ENVELOPE,
        version="7",
        rows=1024,
        since=1,
        until=2,
        labelled=9800,
        error_rate=Range(value=0.123, low=0.108, high=0.138),
        loss=Range(value=0.09, low=0.08, high=0.1),
        calibration_error=0.004,
        trusted=True,
        sentence="about 12.3 % wrong answers (10.8 to 13.8 %), as 9,800 labels lead to expect",
    ),
    TrafficMeasured(
        **ENVELOPE,
        since=1357034399000,
        until=1357034400000,
        versions={
            "7": Traffic(predictions=90, calls=90, latency=[0, 2, 88]),
            "8": Traffic(predictions=8, calls=10, errors=1, timeouts=1, latency=[0, 0, 8, 1]),
        },
    ),
    RetrainRequested(**ENVELOPE, reason="temp rose", trigger="feature", since=1, rows=20000),
    RetrainRefused(**ENVELOPE, reason="cooldown"),
    TrainingStarted(**ENVELOPE),
    TrainingCompleted(
        **ENVELOPE, version="8", run_id="run-8", rows=16000, seconds=2.5, metrics={"auc": 0.7}, gate=GATE
    ),
    TrainingRefused(**ENVELOPE, reason="no better", gate=GATE),
    TrainingFailed(**ENVELOPE, error="out of memory"),
    ModelRegistered(**ENVELOPE, version="8", run_id="run-8"),
    DeployRequested(**ENVELOPE, version="8", replicas=3),
    RolloutCommanded(**ENVELOPE, action=RolloutAction.ABORT),
    RolloutStarted(**ROLLOUT, steps=[10, 50]),
    RolloutPerformed(**ROLLOUT, phase=RolloutPhase.CANARY, step=1, weight=10),
    RolloutObstructed(**ROLLOUT, phase=RolloutPhase.WARMING, error="no such file"),
    RolloutAdvanced(**ROLLOUT, phase=RolloutPhase.CANARY, step=1, weight=50, verdict=VERDICT),
    RolloutHeld(**ROLLOUT, phase=RolloutPhase.CANARY, step=1, weight=50, verdict=VERDICT),
    RolloutPromoted(**ROLLOUT, verdict=VERDICT),
    RolloutRolledBack(**ROLLOUT, verdict=VERDICT),
    RolloutFailed(**ROLLOUT, error="it does not start"),
    EvidenceMeasured(
        **ENVELOPE,
        champion="7",
        leader="8",
        rows=100,
        labelled=1200,
        since=1,
        until=2,
        loss="squared error",
        members={
            "7": MemberEvidence(weight=0.25, loss=0.19, rows=1200),
            "8": MemberEvidence(weight=0.75, loss=0.17, rows=400),
        },
        pairs={"8": PAIR},
        unscored={"9": "flights has no version 9"},
        sentence="v8 leads",
    ),
    AgreementMeasured(**ENVELOPE, version="8", agreement=Agreement(rows=90, disagreeing=2, largest=0.125)),
    ChallengerProven(
        **ENVELOPE, version="8", champion="7", evidence="paired", pair=PAIR, sentence="v8 is better"
    ),
    ChallengerPassedOver(**ENVELOPE, version="8", by="9", sentence="v9 is newer"),
    PoolChanged(**ENVELOPE, versions=["7", "8"], champion="7", canary="8", sentence="v8 was registered"),
    AlertRaised(**ENVELOPE, severity="critical", sentence="rolled back"),
]


def decode(message: Event | Record, value: bytes) -> Event | Record:
    return codec.decode_event(value) if isinstance(message, Event) else codec.decode_record(value)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_what_version_1_wrote_is_still_read(message: Event | Record) -> None:
    written = (GOLDEN / f"{type(message).__name__}.json").read_bytes()
    assert decode(message, written) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_round_trip(message: Event | Record) -> None:
    assert decode(message, codec.encode(message)) == message


def test_every_kind_of_event_has_an_example_and_a_topic() -> None:
    kinds = set(messages.kinds(Event))
    assert kinds == {type(message) for message in EXAMPLES if isinstance(message, Event)}
    assert {kind.kafka_topic for kind in kinds} == {*topics.EVENTS, topics.POOLS}


def test_every_topic_carries_a_message() -> None:
    assert {kind.kafka_topic for kind in messages.kinds(messages.Message)} == set(topics.ALL)


def test_an_event_without_a_topic_is_refused_where_it_is_defined() -> None:
    with pytest.raises(TypeError, match="Forgotten names no topic: add `kafka_topic"):

        class Forgotten(Event):
            type: Literal["Forgotten"] = "Forgotten"


def test_mypy_refuses_an_event_without_a_topic() -> None:
    def build() -> None:
        class Forgotten(Event):
            type: Literal["Forgotten"] = "Forgotten"

        Forgotten(id="1", at=0, model="churn")  # type: ignore[abstract]  # mypy reports an ignore without error

    with pytest.raises(TypeError, match="names no topic"):
        build()


def test_a_new_event_is_one_class() -> None:
    subprocess.run([sys.executable, "-c", NEW_EVENT], check=True, timeout=60)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"{", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[1]", "malformed"),
        (b'{"type": "prediction"}', "invalid"),
        (b'{"type": "nonsense"}', "invalid"),
        (b'{"type": "label", "model": "m", "id": "a", "at": 1, "label": NaN}', "malformed"),
        (b'{"type": "label", "model": "m", "id": "a", "at": 1, "label": null}', "invalid"),
        (b'{"type": "label", "model": "m", "id": "", "at": 1, "label": 1}', "invalid"),
        (b'{"type": "label", "model": "m", "id": "a", "at": -1, "label": 1}', "invalid"),
        (b'{"type": "labels", "model": "m", "ids": ["a"], "at": [1, 2], "labels": [1]}', "invalid"),
        (b'{"type": "label", "schema_version": 2}', "future schema"),
        (b'{"type": "label", "schema_version": "one"}', "invalid"),
    ],
)
def test_an_unreadable_message_says_why(value: bytes | None, reason: str) -> None:
    with pytest.raises(codec.Unreadable) as refused:
        codec.decode_record(value)
    assert refused.value.reason == reason
    assert refused.value.detail


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_but_unreadable(value: bytes) -> None:
    with pytest.raises(codec.Unreadable):
        codec.decode_record(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_in_a_label_is_read_or_refused_with_a_reason(value: object) -> None:
    fields = {"type": "label", "model": "m", "id": "a", "at": 1, "label": value}
    try:
        assert isinstance(codec.decode_record(orjson.dumps(fields)), Label)
    except codec.Unreadable as refused:
        assert refused.reason == "invalid"


def test_an_unknown_key_is_ignored_so_that_clients_may_add_their_own() -> None:
    value = b'{"type": "label", "model": "m", "id": "a", "at": 1, "label": 1, "region": "eu"}'
    assert codec.decode_record(value) == Label(model="m", id="a", at=1, label=1)

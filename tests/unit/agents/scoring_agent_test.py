"""The scoring agent: losses of all versions on every labelled row, and scores that a canary served."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from driftloop.agents.scoring import ScoringAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.errors import Unavailable
from driftloop.mlops_core.ports import Fitted, Task
from driftloop.mlops_core.training.xgboost_trainer import XGBoostScorer, XGBoostTrainer
from driftloop.schemas import topics
from driftloop.schemas.events import PoolChanged, Span
from driftloop.schemas.settings import KafkaSettings
from driftloop.schemas.summaries import CanaryScores, LabelledExamples, PairedLosses
from driftloop.streams import routes
from driftloop.streams.processing.runner import AgentRunner
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from tests.support.handling import handle
from tests.support.toy_examples import toy_examples
from tests.unit.streams.consume_test import Cluster

MODEL = "flights"
ROWS = toy_examples(50, seed=3)


def fitted(rows: Examples) -> Fitted:
    return XGBoostTrainer(rounds=5, threads=1).fit(rows, Task.BINARY, {})


MODELS = {"1": fitted(toy_examples(600)), "2": fitted(toy_examples(600, seed=1, flipped=True))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for version, model in MODELS.items():
        folder_reader.save(tmp_path, MODEL, version, model)
    return tmp_path


@pytest.fixture
def agent(folder: Path) -> ScoringAgent:
    return ScoringAgent(FolderReader(folder), XGBoostScorer)


def columns(rows: Examples) -> dict[str, list[float | str | None]]:
    return {
        "miles": [None if np.isnan(one) else one for one in np.asarray(rows.features["miles"]).tolist()],
        "origin": list(rows.features["origin"]),
    }


def examples(rows: Examples = ROWS) -> LabelledExamples:
    return LabelledExamples(
        model=MODEL,
        span=Span(topic="labels", partition=0, first=0, last=9),
        ids=[str(id_) for id_ in rows.ids],
        versions=["1"] * len(rows),
        scores=[0.5] * len(rows),
        labels=rows.labels.tolist(),
        at=rows.at.tolist(),
        labelled_at=rows.labelled_at.tolist(),
        features=columns(rows),
    )


def canary_scores(scores: Sequence[float], version: str = "2") -> CanaryScores:
    return CanaryScores(
        model=MODEL,
        version=version,
        at=ROWS.at.tolist(),
        scores=list(scores),
        features=columns(ROWS),
    )


def pool(*versions: str, canary: str | None = None) -> PoolChanged:
    fields = {"id": f"pool-{versions}-{canary}", "at": 1, "model": MODEL, "sentence": "v2 was registered"}
    return PoolChanged.model_validate({**fields, "versions": versions, "champion": "1", "canary": canary})


def chunk(topic: topics.Topic, *messages: BaseModel, first: int = 0) -> Chunk:
    records = [
        ConsumerRecord(first + n, 1, None, codec.encode(message), {}) for n, message in enumerate(messages)
    ]
    return Chunk(topic.name, 0, records)


def scored(
    agent: ScoringAgent, state: dict[str, PoolChanged], topic: topics.Topic, *messages: BaseModel
) -> list[PairedLosses]:
    """What the agent publishes for a chunk, as the loop has it done."""
    follows = handle(agent, state, chunk(topic, *messages, first=7))
    assert all(isinstance(one, PairedLosses) for one in follows)
    return follows  # type: ignore[return-value]  # as was asserted


def pooled(agent: ScoringAgent, *versions: str, canary: str | None = None) -> dict[str, PoolChanged]:
    state = agent.initial_state()
    assert handle(agent, state, chunk(topics.POOLS, pool(*versions, canary=canary))) == []
    return state


def scores(version: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(XGBoostScorer(MODELS[version])(ROWS.features, len(ROWS)))


def test_losses_are_those_of_each_model_on_the_same_rows(agent: ScoringAgent) -> None:
    (found,) = scored(agent, pooled(agent, "1", "2"), topics.EXAMPLES, examples())
    each = np.array([(scores(version) - ROWS.labels) ** 2 for version in ("1", "2")])
    assert (list(found.versions), found.rows, found.loss) == (["1", "2"], 50, "squared error")
    assert np.allclose(found.sums, each.sum(axis=1))
    assert np.allclose(np.reshape(found.products, (2, 2)), each @ each.T)
    assert each[0].sum() < each[1].sum() / 2, "of two models of which one learned the contrary"
    assert (found.since, found.until) == (ROWS.labelled_at.min(), ROWS.labelled_at.max())
    assert found.unscored == {}


def test_a_chunk_makes_one_message_a_model_which_says_which_records_brought_its_rows(
    agent: ScoringAgent,
) -> None:
    (found,) = scored(agent, pooled(agent, "1", "2"), topics.EXAMPLES, examples(), examples())
    assert (found.rows, found.span.topic, found.span.first, found.span.last) == (
        100,
        topics.EXAMPLES.name,
        7,
        8,
    )


def test_rows_without_features_are_not_scored_with_those_of_the_same_chunk_that_have_them(
    agent: ScoringAgent,
) -> None:
    bare = examples().model_copy(update={"features": {}})
    with_, without = scored(agent, pooled(agent, "1", "2"), topics.EXAMPLES, examples(), bare)
    (alone,) = scored(agent, pooled(agent, "1", "2"), topics.EXAMPLES, examples())
    assert (with_.rows, list(with_.sums), with_.unscored) == (50, list(alone.sums), {})
    assert (without.rows, without.span.first) == (0, 8)
    assert set(without.unscored) == {"1", "2"}


@pytest.mark.parametrize("versions", [(), ("1",)])
def test_without_two_versions_there_is_nothing_to_compare(
    agent: ScoringAgent, versions: tuple[str, ...]
) -> None:
    state = pooled(agent, *versions) if versions else agent.initial_state()
    assert scored(agent, state, topics.EXAMPLES, examples()) == []


def test_a_pool_that_changed_is_taken_over_and_remembered(agent: ScoringAgent) -> None:
    state = agent.load(agent.dump(pooled(agent, "1", "2")))
    handle(agent, state, chunk(topics.POOLS, pool("2")))
    assert scored(agent, state, topics.EXAMPLES, examples()) == []
    handle(agent, state, chunk(topics.POOLS, pool("2", "1")))
    (found,) = scored(agent, state, topics.EXAMPLES, examples())
    assert list(found.versions) == ["2", "1"]


def test_what_is_handled_again_leaves_the_same_state_and_says_nothing(agent: ScoringAgent) -> None:
    chunks = [
        chunk(topics.POOLS, pool("1", "2", canary="2")),
        chunk(topics.EXAMPLES, examples()),
        chunk(topics.CANARY_SCORES, canary_scores(scores("2").tolist())),
        chunk(topics.POOLS, pool("1"), first=1),
    ]
    live, again = agent.initial_state(), agent.initial_state()
    for one in chunks:
        handle(agent, live, one)
        assert agent.handle(again, one) == []
        assert agent.dump(again) == agent.dump(live)


def test_a_version_that_is_gone_is_named_and_the_others_are_scored(agent: ScoringAgent) -> None:
    (found,) = scored(agent, pooled(agent, "1", "2", "5"), topics.EXAMPLES, examples())
    assert list(found.versions) == ["1", "2"]
    assert list(found.unscored) == ["5"]
    assert "5" in found.unscored["5"]


def test_a_version_that_is_no_model_is_named(folder: Path, agent: ScoringAgent) -> None:
    broken = Fitted(Task.BINARY, "xgboost", b"no model", MODELS["1"].features)
    folder_reader.save(folder, MODEL, "9", broken)
    (found,) = scored(agent, pooled(agent, "1", "2", "9"), topics.EXAMPLES, examples())
    assert list(found.unscored) == ["9"]


class Away(FolderReader):
    """Doesn't answer the first times."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder)
        self.times = times

    def fitted(self, model: str, version: str) -> Fitted:
        self.times -= 1
        if self.times >= 0:
            raise Unavailable("the registry does not answer")
        return super().fitted(model, version)


def test_a_registry_that_is_away_is_no_reason_to_leave_a_version_out(folder: Path) -> None:
    agent = ScoringAgent(Away(folder, times=1), XGBoostScorer)
    state = pooled(agent, "1", "2")
    with pytest.raises(Unavailable):
        handle(agent, state, chunk(topics.EXAMPLES, examples()))
    (found,) = scored(agent, state, topics.EXAMPLES, examples())
    assert (list(found.versions), found.unscored) == (["1", "2"], {})


def test_rows_that_came_while_the_registry_was_away_are_scored_once(folder: Path) -> None:
    agent, cluster = ScoringAgent(Away(folder, times=2), XGBoostScorer), Cluster()

    async def main() -> None:
        loop = AgentRunner(agent, KafkaSettings(), cluster, cluster)  # type: ignore[arg-type]  # a publisher that keeps what it is given
        for one in (chunk(topics.POOLS, pool("1", "2")), chunk(topics.EXAMPLES, examples())):
            cluster.arrived = list(one.records)
            await loop.process(one)

    asyncio.run(main())
    (message,) = cluster.published
    assert PairedLosses.model_validate_json(message.value).rows == 50


def test_scores_that_a_canary_served_agree_with_its_model(agent: ScoringAgent) -> None:
    served = canary_scores(scores("2").astype(np.float32).tolist())
    (found,) = scored(agent, pooled(agent, "1", "2", canary="2"), topics.CANARY_SCORES, served)
    agreement = found.agreement["2"]
    assert (agreement.rows, agreement.disagreeing) == (50, 0)
    assert (found.rows, list(found.versions), found.unscored) == (0, [], {})


def test_scores_that_another_model_gave_disagree(agent: ScoringAgent) -> None:
    served = canary_scores(scores("1").tolist())
    (found,) = scored(agent, pooled(agent, "1", "2", canary="2"), topics.CANARY_SCORES, served)
    apart = np.abs(scores("1") - scores("2"))
    assert found.agreement["2"].disagreeing == (apart > 1e-4).sum() > 40
    assert found.agreement["2"].largest == pytest.approx(apart.max())


@pytest.mark.parametrize(("canary", "version"), [(None, "2"), ("2", "1")])
def test_only_what_a_canary_served_is_compared(agent: ScoringAgent, canary: str | None, version: str) -> None:
    served = canary_scores(scores("2").tolist(), version)
    assert scored(agent, pooled(agent, "1", "2", canary=canary), topics.CANARY_SCORES, served) == []


class Slow(FolderReader):
    """Answers once it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.may = threading.Event(), threading.Event()

    def fitted(self, model: str, version: str) -> Fitted:
        self.asked.set()
        assert self.may.wait(60)
        return super().fitted(model, version)


async def test_a_slow_registry_stops_no_other_agent_of_the_process(folder: Path) -> None:
    """Both loops run on one event loop: were it blocked, the quick agent's chunk could not be consumed."""
    registry = Slow(folder)
    slow, quick = ScoringAgent(registry, XGBoostScorer), ScoringAgent(FolderReader(folder), XGBoostScorer)
    clusters = Cluster(), Cluster()
    loops = [
        AgentRunner(agent, KafkaSettings(), cluster, cluster)  # type: ignore[arg-type]  # a publisher that keeps what it is given
        for agent, cluster in zip((slow, quick), clusters, strict=True)
    ]
    for loop, cluster in zip(loops, clusters, strict=True):
        first = chunk(topics.POOLS, pool("1", "2"))
        cluster.arrived = list(first.records)
        await loop.process(first)
        cluster.arrived = list(chunk(topics.EXAMPLES, examples()).records)
    waiting = asyncio.create_task(loops[0].process(chunk(topics.EXAMPLES, examples())))
    assert await asyncio.to_thread(registry.asked.wait, 60)
    await loops[1].process(chunk(topics.EXAMPLES, examples()))
    assert (len(clusters[0].published), len(clusters[1].published)) == (0, 1)
    registry.may.set()
    await waiting
    assert len(clusters[0].published) == 1


def test_a_pool_that_changed_goes_to_every_partition_of_the_data() -> None:
    kafka = KafkaSettings(data_partitions=5)
    made = routes.producer_records(pool("1", "2"), kafka)
    assert [message.partition for message in made] == [0, 1, 2, 3, 4]
    assert [message.value for message in made] == 5 * [codec.encode(pool("1", "2"))]

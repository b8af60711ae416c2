"""10,000 broken messages through real workers: none is lost, none stops anybody, and each has its reason."""

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import pytest
from confluent_kafka import Producer
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from driftloop.infra.adapters import folder_reader
from driftloop.infra.processes.child import Child, python_command
from driftloop.mlops_core.data.profile import Profile
from driftloop.schemas import messages, topics
from driftloop.schemas.dead_letters import KEPT_BYTES, DeadLetter
from driftloop.schemas.events import Event
from driftloop.schemas.records import LabelBatch, PredictionBatch
from driftloop.schemas.settings import KafkaSettings, RegistrySettings, Settings, StoreSettings
from driftloop.schemas.summaries import DriftSummary, LabelledExamples, Outcomes
from driftloop.streams import admin
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.topic_reader import TopicReader
from tests.support import serving_processes as rig
from tests.support.chaos.accounts import ORPHAN, RECORD, Once
from tests.support.chaos.mutations import HEADERS, KEYS, broken, golden

MESSAGES = 10_000
GOOD_EVERY = 5
GOOD = "good"
PATIENCE = 30.0
"""Seconds without news after which what is missing won't come."""

ANY_EVENT: Any = reduce(or_, messages.kinds(Event))
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[ANY_EVENT, Field(discriminator="type")])
RECORDS = ("Prediction", "PredictionBatch", "FeatureRow", "FeatureBatch", "Label", "LabelBatch")
EVENTS = ("DriftDetected", "DriftMeasured", "PerformanceMeasured", "TrainingFailed", "RolloutPromoted")
ALL = RECORDS + EVENTS

GROUND: Mapping[topics.Topic, TypeAdapter[Any]] = {
    topics.PREDICTIONS: RECORD,
    topics.FEATURES: RECORD,
    topics.LABELS: RECORD,
    topics.DRIFT: EVENT,
    topics.TRAINING: EVENT,
    topics.METRICS: EVENT,
    topics.DEPLOYMENT: EVENT,
    topics.SUMMARIES: TypeAdapter(DriftSummary),
    topics.OUTCOMES: TypeAdapter(Outcomes),
    topics.EXAMPLES: TypeAdapter(LabelledExamples),
}
"""Topics that are fuzzed, and what `schemas` says belongs there."""
AGENTS = ("joining", "summarising", "drift", "performance", "storing", "retraining", "alerting")
"""Who reads them: all agents that start nothing outside."""
Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass
class Found:
    """What was on the topics, and what became of it."""

    sent: dict[Place, bytes | None] = field(default_factory=dict)
    moved: dict[Place, bytes | None] = field(default_factory=dict)
    """What was sent to the partition of its id again."""
    letters: dict[Place, list[DeadLetter]] = field(default_factory=dict)
    good: Counter[str] = field(default_factory=Counter)

    def take(self, once: Once) -> int:
        """How much came."""
        taken = 0
        for topic, message in once.poll(0.2):
            taken += 1
            headers = dict(message.headers() or ())
            if "fuzz" in headers:
                self.sent[topic.name, message.partition(), message.offset()] = message.value()
            elif topic is topics.DEAD_LETTERS:
                letter = DeadLetter.model_validate_json(message.value())
                if letter.reason != ORPHAN:  # about a label that waited, not about the record
                    place = (letter.topic, letter.partition, letter.offset)
                    self.letters.setdefault(place, []).append(letter)
            elif topic in GROUND and "source" in headers:
                self.moved[topic.name, message.partition(), message.offset()] = message.value()
            if topic is topics.OUTCOMES and "fuzz" not in headers:
                outcomes = Outcomes.model_validate_json(message.value())
                self.good.update(outcomes.ids if outcomes.model == GOOD else ())
        return taken

    @property
    def refused(self) -> dict[Place, str]:
        """What `schemas` refuses, and why."""
        reasons = {place: _refusal(GROUND[_topic(place)], value) for place, value in self.sent.items()}
        return {place: reason for place, reason in reasons.items() if reason is not None}


def _topic(place: Place) -> topics.Topic:
    return next(topic for topic in GROUND if topic.name == place[0])


def _refusal(kind: TypeAdapter[BaseModel], value: bytes | None) -> str | None:
    """JSON as its standard has it, and a model of `schemas`: the definition that the agents are held to."""
    try:
        kind.validate_python(orjson.loads(value or b""))
    except (orjson.JSONDecodeError, ValidationError) as error:
        return str(error).splitlines()[0]
    return None


@pytest.fixture
def settings(
    needs_kafka: None, kafka_broker: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> Settings:
    kafka = KafkaSettings(bootstrap=kafka_broker.bootstrap, prefix=f"{request.node.name[:20]}-")
    admin.create_topics(kafka)
    profile = Profile.of({"n": np.arange(100.0)}, np.full(100, 0.5))
    folder_reader.save(tmp_path / "models", GOOD, "1", rig.fitted(), profile)
    return Settings(
        kafka=kafka,
        registry=RegistrySettings(tracking_uri=(tmp_path / "models").as_uri()),
        store=StoreSettings(folder=tmp_path / "store"),
    )


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Child]:
    written = tmp_path / "settings.json"
    written.write_text(settings.model_dump_json())
    command = python_command("driftloop.infra.cli.app", "--settings", str(written), "agents", "run", *AGENTS)
    child = Child.start("agents", command, log=tmp_path / "agents.log")
    yield child
    child.stop()


def send(settings: Settings, messages: int, seed: int) -> list[str]:
    """Broken messages with good ones in between; returns the good ones' ids."""
    dice = random.Random(seed)  # noqa: S311 - a failure must be repeatable
    foreign = Producer(
        {"bootstrap.servers": settings.kafka.bootstrap, "linger.ms": 20, "compression.type": "lz4"}
    )
    ids: list[str] = []
    with Publisher(settings.kafka) as publisher:
        for n in range(messages):
            topic = dice.choice(list(GROUND))
            names = RECORDS if GROUND[topic] is RECORD else ALL
            headers = [("fuzz", b"1"), *dice.choice(HEADERS).items()]
            value = broken(golden(dice.choice(names)), dice)
            foreign.produce(topics.name_of(topic, settings.kafka), value, dice.choice(KEYS), headers=headers)
            foreign.poll(0)
            if n % GOOD_EVERY == 0:
                ids.append(f"good-{n}")
                named = {"model": GOOD, "ids": ids[-1:], "at": [n]}
                publisher.publish_batch(
                    PredictionBatch(**named, version="1", scores=[0.5], features={"n": [n]})
                )
                publisher.publish_batch(LabelBatch(**named, labels=[1.0]))
    assert foreign.flush(60) == 0
    return ids


@pytest.mark.timeout(240)
def test_each_of_ten_thousand_broken_messages_is_accepted_by_the_schemas_or_parked_as_it_came(
    settings: Settings, worker: Child, seed: int
) -> None:
    good = send(settings, MESSAGES, seed)
    found = Found()
    with TopicReader(settings.kafka, [*GROUND, topics.DEAD_LETTERS]) as reader:
        once, news = Once(reader), time.monotonic()
        while time.monotonic() - news < PATIENCE:
            if found.take(once):
                news = time.monotonic()
            elif (
                once.caught_up
                and len(found.good) == len(good)
                and found.letters.keys() >= found.refused.keys()
            ):
                break
    told = f"seed {seed}; the agents' log is {worker.log}"
    assert worker.alive, told
    assert len(found.sent) == MESSAGES
    refused = found.refused
    sys.stdout.write(
        f"{told}\n{len(refused)} of {MESSAGES} refused; parked: "
        f"{Counter(letter.reason for some in found.letters.values() for letter in some)}\n"
    )
    unparked = {place: refused[place] for place in refused.keys() - found.letters.keys()}
    assert not unparked, f"{len(unparked)} refused and not parked, e.g. {_example(found, unparked)}; {told}"
    broke = {
        p: one.detail for p, some in found.letters.items() for one in some if one.reason == "handler failed"
    }
    assert not broke, f"{len(broke)} broke a handler, e.g. {_example(found, broke)}; {told}"
    for place, some in found.letters.items():
        for letter in some:
            value = found.sent.get(place) or found.moved.get(place) or b""
            if letter.row is not None:  # of a batch: the row alone, as a single event
                value = letter.original()
            assert (letter.original(), letter.size) == (value[:KEPT_BYTES], len(value)), f"{place}; {told}"
            assert letter.reason
            assert letter.detail
    missing = set(good) - found.good.keys()
    assert not missing, f"{len(missing)} good ones were not joined; {told}"
    assert set(found.good.values()) == {1}


def _example(found: Found, about: Mapping[Place, str]) -> str:
    place = min(about)
    return f"{place}: {about[place]}: {(found.sent.get(place) or b'')[:300]!r}"

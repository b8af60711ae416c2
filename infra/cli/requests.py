"""What a person asks for on the command line, as events; the answer is the sentence to print."""

import time
import uuid
from collections.abc import Iterator

from driftloop.infra.adapters.readers import reader_for
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import DeployRequested, Event, RetrainRequested, RolloutAction, RolloutCommanded
from driftloop.schemas.settings import KafkaSettings, Settings
from driftloop.streams import topics
from driftloop.streams.producer.publisher import Publisher
from driftloop.streams.reading import Reader


def retrain(settings: Settings, model: str, rows: int | None) -> str:
    """Ask for a challenger."""
    request = RetrainRequested(
        **_envelope(model),
        reason="asked for by hand",
        trigger="manual",
        rows=rows or max(settings.retraining.windows),
    )
    publish(settings.kafka, request)
    return f"asked for a challenger of {model} [{request.id[:8]}]; what comes of it is on the page"


def deploy(settings: Settings, model: str, version: str) -> str:
    """Ask for a rollout; a version that isn't registered is an error here rather than later."""
    reader_for(settings.registry.tracking_uri).version(model, version)
    request = DeployRequested(**_envelope(model), version=version, replicas=settings.serving.replicas)
    publish(settings.kafka, request)
    return f"asked for a rollout of {model} version {version} [{request.id[:8]}]"


def steer(settings: Settings, model: str, action: str) -> str:
    """Pause, resume or abort."""
    command = RolloutCommanded(**_envelope(model), action=RolloutAction(action))
    publish(settings.kafka, command)
    return f"told the rollout of {model} to {action} [{command.id[:8]}]"


def dead_letters(settings: Settings) -> Iterator[str]:
    """One line a dead letter; one that two agents parked (they give it the same id) is told once."""
    found = set[str]()
    with Reader(settings.kafka, [topics.DEAD_LETTERS]) as reader:
        while not reader.caught_up:
            for _, message in reader.poll(0.2):
                letter = DeadLetter.model_validate_json(message.value() or b"")
                if letter.id in found:
                    continue
                found.add(letter.id)
                row = "" if letter.row is None else f" row {letter.row}"
                where = f"{letter.topic}/{letter.partition}@{letter.offset}{row}"
                yield f"{where:32} {letter.reason:26} {letter.detail}"
    yield f"{len(found)} dead letters"


def _envelope(model: str) -> dict[str, str | int]:
    return {"id": str(uuid.uuid4()), "at": int(time.time() * 1000), "model": model}


def publish(kafka: KafkaSettings, event: Event) -> None:
    """Put an event on its topic; returns once Kafka has it."""
    with Publisher(kafka) as publisher:
        publisher.publish_event(event)

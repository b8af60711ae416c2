"""Commands that print what is in Kafka: topics, what led to an event, dead letters."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from driftloop.infra.cli import console

if TYPE_CHECKING:
    from driftloop.schemas.settings import KafkaSettings

app = console.group()


@app.command()
def topics(context: typer.Context) -> None:
    """Create the topics that are missing, and list all of them."""
    from driftloop.schemas import topics as table
    from driftloop.streams import admin

    kafka = context.obj.kafka
    with console.errors():
        admin.require_broker(kafka)
        created = admin.create_topics(kafka)
    for topic in table.ALL:
        name = table.name_of(topic, kafka)
        state = "created" if name in created else "present"
        typer.echo(f"{name:28} {topic.partitions(kafka):3} partitions  {state:8} {topic.carries}")


@app.command()
def lineage(
    context: typer.Context,
    event: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="An event's id, or its beginning; default: the newest promotion and rollback."),
    ] = None,
) -> None:
    """Print the events that led to an event.

    Back to the window of predictions that the first of them was computed from.
    """
    from driftloop.infra.cli import lineage as chains
    from driftloop.streams import admin

    with console.errors():
        admin.require_broker(context.obj.kafka)
        for line in chains.lines(context.obj.kafka, event):
            typer.echo(line)


@app.command("dead-letters")
def dead_letters(context: typer.Context) -> None:
    """List the records that agents could not read, with the reason."""
    from driftloop.streams import admin

    with console.errors():
        admin.require_broker(context.obj.kafka)
        for line in dead_letter_lines(context.obj.kafka):
            typer.echo(line)


def dead_letter_lines(kafka: "KafkaSettings") -> Iterator[str]:
    """A line per dead letter, then their number; agents that share an input give its letter the same id."""
    from driftloop.schemas import topics as table
    from driftloop.schemas.dead_letters import DeadLetter
    from driftloop.streams.topic_reader import TopicReader

    listed = set[str]()
    with TopicReader(kafka, [table.DEAD_LETTERS]) as reader:
        while not reader.caught_up:
            for _, message in reader.poll(0.2):
                letter = DeadLetter.model_validate_json(message.value() or b"")
                if letter.id in listed:
                    continue
                listed.add(letter.id)
                row = "" if letter.row is None else f" row {letter.row}"
                where = f"{letter.topic}/{letter.partition}@{letter.offset}{row}"
                yield f"{where:32} {letter.reason:26} {letter.detail}"
    yield f"{len(listed)} dead letters"

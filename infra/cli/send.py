"""Commands that send rows: records to Kafka, and requests for predictions to the serving host."""

import sys
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from driftloop.infra.cli import console

if TYPE_CHECKING:
    from collections.abc import Iterable

    from driftloop.schemas.settings import Settings

app = console.group()
PROGRESS_ROWS = 10_000
"""Records between two lines about the progress."""
ANSWER_SECONDS = 30.0
PUBLISH_HELP = """Publish records to Kafka: JSON lines, a prediction, feature row, label or batch each.

\b
echo '{"type": "label", "model": "fraud", "id": "tx-1", "at": 1767225600000, "label": 1}' \\
    | driftloop publish

Each record goes to the topic and partition that its type and id name. A line that can't be read is named by
its number, and the others are published; the exit code is 1 if there was one."""
PREDICT_HELP = """Ask the serving host for one prediction, and print it with its id and version.

\b
driftloop predict fraud '{"amount": 12.5, "country": "FR"}'"""


@app.command(help=PUBLISH_HELP)
def publish(
    context: typer.Context,
    file: Annotated[
        Optional[typer.FileBinaryRead],  # noqa: UP045 - typer reads the annotation at run time on 3.11
        typer.Argument(help="JSON lines; without a file, standard input."),
    ] = None,
) -> None:
    """Publish JSON lines to Kafka."""
    with console.errors():
        accepted, refused = publish_lines(context.obj, file or sys.stdin.buffer)
    typer.echo(f"published {accepted:,} records" + (f", refused {refused:,} lines" if refused else ""))
    if refused:
        raise typer.Exit(1)


def publish_lines(settings: "Settings", lines: "Iterable[bytes]") -> tuple[int, int]:
    """Publish each line; returns how many were published, and how many could not be read.

    Raises:
        Unavailable: no broker answers.
        NotDelivered: Kafka has not acknowledged all of them.
    """
    from driftloop.mlops_core.errors import InvalidData
    from driftloop.schemas.records import FeatureRow, Label, Prediction
    from driftloop.streams import admin
    from driftloop.streams.producer.publisher import Publisher, TooLarge
    from driftloop.streams.wire import codec

    admin.require_broker(settings.kafka)
    accepted = refused = 0
    with Publisher(settings.kafka, settings.publisher.without_spool()) as publisher:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = codec.decode_record(line)
                if isinstance(record, Prediction | FeatureRow | Label):
                    publisher.publish(record)
                else:
                    publisher.publish_batch(record)
            except (codec.Unreadable, InvalidData, TooLarge) as error:
                refused += 1
                typer.secho(f"line {number}: {error}", fg="red", err=True)
            else:
                accepted += 1
                if accepted % PROGRESS_ROWS == 0:
                    typer.echo(f"{accepted:,} records", err=True)
    return accepted, refused


@app.command(help=PREDICT_HELP)
def predict(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="The model's registered name.")],
    features: Annotated[str, typer.Argument(help="""Features as JSON, e.g. '{"amount": 12.5}'.""")],
    id: Annotated[  # noqa: A002 - the record's word
        Optional[str],  # noqa: UP045
        typer.Option(help="Id that the label will come with; default: a new one, which is printed."),
    ] = None,
    entity: Annotated[Optional[str], typer.Option(help="Who or what it is about.")] = None,  # noqa: UP045
) -> None:
    """Ask the serving host for one prediction."""
    import httpx
    import orjson

    from driftloop.mlops_core.errors import InvalidData, Unavailable

    url = f"{context.obj.serving.url}/predict"
    with console.errors():
        try:
            row = {"id": id, "entity": entity, "features": orjson.loads(features)}
        except orjson.JSONDecodeError as error:
            raise InvalidData(f"features are no JSON: {error}; got {features!r}") from error
        asked = {"model": model, "rows": [{name: value for name, value in row.items() if value is not None}]}
        try:
            reply = httpx.post(url, json=asked, timeout=ANSWER_SECONDS, trust_env=False)
        except httpx.TransportError as error:
            raise Unavailable(
                f"no serving host answers at {url}: {error}; start `driftloop up`, or name it by "
                "serving.host and serving.port"
            ) from error
        if reply.is_error:
            raise InvalidData(f"{url} answered {reply.status_code}: {reply.text.strip()[:500]}")
    for one in reply.json()["predictions"]:
        typer.echo(f"{one['score']:.6g}  id {one['id']}  version {one['version']}")

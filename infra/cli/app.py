"""The command `driftloop`. Each command imports what it needs, so that `--help` stays quick."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Optional

import typer

from driftloop.infra.cli import console

# Plain help: typer's boxes cost three times as much as all the rest, and nobody waits for help.
_plain = partial(typer.Typer, no_args_is_help=True, rich_markup_mode=None)
app = _plain(
    name="driftloop",
    help="Closed-loop MLOps on Kafka: drift as it happens, retraining that proves itself, "
    "rollouts that roll themselves back.\n\nStart with `driftloop demo --fast`.",
    add_completion=True,
    pretty_exceptions_enable=False,
)
agents_app = _plain(help="Run the agents that drive the loop.")
rollout_app = _plain(help="Steer rollouts: pause, resume or abort the one in progress; pin a champion.")
store_app = _plain(help="Look after the offline store of labelled examples.")
app.add_typer(agents_app, name="agents")
app.add_typer(rollout_app, name="rollout")
app.add_typer(store_app, name="store")

Model = Annotated[str, typer.Argument(help="The model's registered name.")]


@app.callback()
def _main(
    context: typer.Context,
    settings: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on 3.11
        typer.Option(help="YAML file; DRIFTLOOP_... variables go before it.", envvar="DRIFTLOOP_SETTINGS"),
    ] = None,
) -> None:
    from driftloop.schemas.settings import Settings, SettingsError

    try:
        context.obj = Settings.load(settings)
    except SettingsError as error:
        raise typer.BadParameter(str(error), param_hint="--settings") from error


@app.command()
def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Close the loop in two to four minutes.")] = False,
    sabotage: Annotated[
        bool, typer.Option(help="Have one challenger go bad behind the gate's back, to see it rolled back.")
    ] = True,
    speed: Annotated[int, typer.Option(help="Flights a second; 0: as fast as the machine bears.")] = 0,
    broker: Annotated[
        str, typer.Option(help="embedded, kafka (real, needs Java 17 and Maven), or external.")
    ] = "embedded",
    folder: Annotated[Path, typer.Option(help="Where everything is kept; emptied first.")] = Path(
        ".driftloop/demo"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the page up at the end, until Ctrl-C.")] = False,
) -> None:
    """Replay a year of flights and watch the loop close.

    Predictions, drift, retrainings, rollouts and rollbacks, with a live page and a summary at the end.
    """
    from driftloop.demo import run

    raise typer.Exit(
        run.main(fast=fast, sabotage=sabotage, speed=speed, broker=broker, folder=folder, keep=keep)
    )


@app.command()
def up(
    context: typer.Context,
    broker: Annotated[str, typer.Option(help="embedded, kafka, or external.")] = "embedded",
    folder: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".driftloop/up"),
) -> None:
    """Start the whole stack on this machine.

    Broker, MLflow, serving, agents and the live page; Ctrl-C stops it.
    """
    from driftloop.infra.processes.stack import Stack

    given = context.obj.model_dump(exclude_unset=True)
    with (
        console.errors(),
        Stack.start(folder, None if broker == "external" else broker, say=typer.echo, groups=given) as stack,
    ):
        typer.echo(f"Settings for your own commands: --settings {stack.settings_file}")
        console.until_interrupted()


@app.command()
def broker(
    kind: Annotated[
        str, typer.Option(help="embedded (Tansu, in memory) or kafka (Apache Kafka).")
    ] = "embedded",
    port: Annotated[Optional[int], typer.Option(help="Default: a free one.")] = None,  # noqa: UP045
    folder: Annotated[Path, typer.Option(help="Data and logs.")] = Path(".driftloop/broker"),
) -> None:
    """Start a broker in the foreground."""
    from driftloop.infra import brokers

    with console.errors():
        brokers.run(kind, folder, port)


@app.command()
def topics(context: typer.Context) -> None:
    """Create the topics that aren't there yet, and list them all."""
    from driftloop.streams import admin
    from driftloop.streams import topics as table

    kafka = context.obj.kafka
    with console.errors():
        created = admin.create_topics(kafka)
    for topic in table.ALL:
        name = table.name_of(topic, kafka)
        mark = "created" if name in created else "there"
        typer.echo(f"{name:28} {topic.partitions(kafka):3} partitions  {mark:8} {topic.carries}")


@app.command()
def serve(context: typer.Context) -> None:
    """Run the local serving host.

    A router that splits traffic, and replica processes behind it.
    """
    from driftloop.infra.serving import host

    with console.errors():
        host.run(context.obj)


@app.command()
def dashboard(context: typer.Context) -> None:
    """Run the live page."""
    from driftloop.infra.dashboard import app as page

    with console.errors():
        page.run(context.obj)


@agents_app.command("run")
def agents_run(
    context: typer.Context,
    names: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Which; default: all of them in this process."),
    ] = None,
) -> None:
    """Run agents.

    Each is a consumer group of its own, so start as many workers as you like.
    """
    console.one_thread_a_matrix()
    from driftloop.infra.wiring import agents

    with console.errors():
        agents.run_agents(context.obj, names or list(agents.AGENTS))


@app.command()
def lineage(
    context: typer.Context,
    event: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="An event's id, or its beginning; default: the newest promotion and rollback."),
    ] = None,
) -> None:
    """Print what led to an event.

    Back to the window of predictions that began it.
    """
    from driftloop.infra.cli import lineage as printing

    with console.errors():
        for line in printing.lines(context.obj.kafka, event):
            typer.echo(line)


@app.command()
def retrain(
    context: typer.Context,
    model: Model,
    rows: Annotated[Optional[int], typer.Option(help="Newest labelled rows to train on.")] = None,  # noqa: UP045
) -> None:
    """Ask for a challenger now.

    Whatever the policy thinks; the gate still has its say.
    """
    from driftloop.infra.cli import requests

    with console.errors():
        typer.echo(requests.retrain(context.obj, model, rows))


@app.command()
def deploy(context: typer.Context, model: Model, version: str) -> None:
    """Roll a registered version out."""
    from driftloop.infra.cli import requests

    with console.errors():
        typer.echo(requests.deploy(context.obj, model, version))


def _steering(action: str, help: str) -> None:  # noqa: A002 - typer's word
    @rollout_app.command(action, help=help)
    def command(context: typer.Context, model: Model) -> None:
        from driftloop.infra.cli import requests

        with console.errors():
            typer.echo(requests.steer(context.obj, model, action))


_steering("pause", "Keep the weights where they are until `resume`.")
_steering("resume", "Go on from where it was paused.")
_steering("abort", "Send all traffic back to the stable version.")
_steering("pin", "Keep the champion, and a blend's weights, until `unpin`; proven challengers wait.")
_steering("unpin", "Let proven challengers go on.")


Models = Annotated[Optional[list[str]], typer.Argument(help="Which models; default: all of them.")]  # noqa: UP045


@store_app.command("show")
def store_show(context: typer.Context, models: Models = None) -> None:
    """List what the offline store holds.

    Rows, files and the span of label times per model.
    """
    from driftloop.infra.cli import store

    with console.errors():
        for line in store.shown(context.obj.store, models or []):
            typer.echo(line)


@store_app.command("compact")
def store_compact(context: typer.Context, models: Models = None) -> None:
    """Fold waiting segments into files, and delete old ones.

    Files are what other tools read; those past `store.retention_days` go.
    """
    from driftloop.infra.cli import store

    with console.errors():
        for line in store.compacted(context.obj.store, models or []):
            typer.echo(line)


@app.command("dead-letters")
def dead_letters(context: typer.Context) -> None:
    """List what could not be handled, and why."""
    from driftloop.infra.cli import requests

    with console.errors():
        for line in requests.dead_letters(context.obj):
            typer.echo(line)


def main() -> None:
    """Run the command line; an interruption ends it quietly."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

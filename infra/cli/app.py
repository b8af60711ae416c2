"""The command `driftloop`: `--settings`, and the groups of commands."""

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from driftloop.infra.cli import console, inspect, requests, send, services, store

app = console.group(
    "Closed-loop MLOps on Kafka: drift as it happens, retraining that proves itself, "
    "rollouts that roll themselves back.\n\nStart with `driftloop demo --fast`.",
    name="driftloop",
)
STARTING = ("up", "demo", "broker")
"""Commands that start a system of their own; the others talk to the stack that runs in this folder."""
for top_level in (services, send, inspect, requests):
    app.add_typer(top_level.app)
app.add_typer(services.agents, name="agents")
app.add_typer(requests.rollout, name="rollout")
app.add_typer(store.app, name="store")


@app.callback()
def load_settings(
    context: typer.Context,
    settings: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on 3.11
        typer.Option(
            help="YAML file; DRIFTLOOP_... variables override it.",
            envvar="DRIFTLOOP_SETTINGS",
        ),
    ] = None,
) -> None:
    """Load the settings that every command takes from `context.obj`."""
    from driftloop.infra.processes.stack_folder import running_settings
    from driftloop.schemas.settings import Settings, SettingsError

    if settings is None and context.invoked_subcommand not in STARTING:
        settings = running_settings(services.STACK_FOLDER)
    try:
        context.obj = Settings.load(settings)
    except SettingsError as error:
        raise typer.BadParameter(str(error), param_hint="--settings") from error


def main() -> None:
    """Run the command line; Ctrl-C exits with 130 and prints nothing."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

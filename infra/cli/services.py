"""Commands that run something until Ctrl-C: the demo, the stack, a broker, serving, the page, agents."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from driftloop.infra.cli import console, extras

if TYPE_CHECKING:
    from driftloop.infra.processes.stack import Stack

STACK_FOLDER = Path(".driftloop/up")
STACK = ("agents", "training", "serving", "dashboard", "server")
"""Extras that the whole stack needs."""
AGENT_EXTRAS = {"training": "training", "scoring": "training", "deployment": "training"}
"""Extras that an agent needs beside `agents`."""

app = console.group()
agents = console.group("Run the agents that drive the loop.")


@app.command()
def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Close the loop in two to four minutes.")] = False,
    sabotage: Annotated[
        bool,
        typer.Option(help="Replace one challenger by a bad one after the gate, to show its rollback."),
    ] = True,
    speed: Annotated[int, typer.Option(help="Flights per second; 0: as fast as this machine can.")] = 0,
    broker: Annotated[
        str, typer.Option(help="embedded, kafka (real, needs Java 17 and Maven), or external.")
    ] = "embedded",
    folder: Annotated[Path, typer.Option(help="Folder for all data; it is emptied first.")] = Path(
        ".driftloop/demo"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the page running until Ctrl-C.")] = False,
) -> None:
    """Replay a year of flights through the whole loop.

    Predictions, drift, retrainings, rollouts and rollbacks, with a live page and a summary at the end.
    """
    with console.errors():
        extras.require("demo")
        from driftloop.demo import run

        code = run.main(fast=fast, sabotage=sabotage, speed=speed, broker=broker, folder=folder, keep=keep)
    raise typer.Exit(code)


@app.command()
def up(
    context: typer.Context,
    broker: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="embedded, kafka, or external; default: external if kafka.bootstrap is set."),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Folder for all data.")] = STACK_FOLDER,
) -> None:
    """Start the whole stack on this machine.

    Broker, MLflow, serving, agents and the live page; Ctrl-C stops it. A broker (kafka.bootstrap) and an
    MLflow server (registry.tracking_uri) that the settings name are used, not started. Other commands find
    the stack of this folder by themselves.
    """
    settings = context.obj.model_dump(exclude_unset=True)
    with console.errors():
        chosen = _broker_of(broker, settings.get("kafka", {}).get("bootstrap"))
        extras.require(*STACK, *(["embedded"] if chosen == "embedded" else []))
        from driftloop.infra.processes.stack import Stack

        kind = None if chosen == "external" else chosen
        with Stack.start(folder, kind, say=typer.echo, groups=settings) as stack:
            typer.echo(_next_steps(stack.settings_file, folder == STACK_FOLDER))
            console.until_interrupted(lambda: _report_ended(stack))


def _broker_of(chosen: str | None, bootstrap: str | None) -> str:
    """Which broker to start. Raises Conflict where one is to be started and another is named."""
    from driftloop.mlops_core.errors import Conflict

    if bootstrap is not None and chosen not in (None, "external"):
        raise Conflict(
            f"--broker {chosen} would start a broker, but kafka.bootstrap names {bootstrap}; leave one of "
            "both out"
        )
    return chosen or ("external" if bootstrap is not None else "embedded")


def _next_steps(settings_file: Path, default_folder: bool) -> str:
    """What to type in another terminal."""
    export = [] if default_folder else [f"  export DRIFTLOOP_SETTINGS={settings_file}"]
    lines = [
        *export,
        """  echo '{"type":"label","model":"m","id":"a","at":1767225600000,"label":1}' | driftloop publish""",
        """  driftloop predict MODEL '{"amount": 12.5}'""",
        "  driftloop rollout --help",
    ]
    return "In another terminal, from this folder:\n" + "\n".join(lines)


def _report_ended(stack: "Stack") -> None:
    """Say which processes have ended, with the end of their logs; the others go on."""
    for child in stack.ended_children():
        typer.secho(
            f"{child.name} ended with code {child.exit_code}; its log is {child.log}:", fg="red", err=True
        )
        typer.echo(child.tail(), err=True)


@app.command()
def broker(
    kind: Annotated[
        str, typer.Option(help="embedded (Tansu, in memory) or kafka (Apache Kafka).")
    ] = "embedded",
    port: Annotated[Optional[int], typer.Option(help="Default: a free port.")] = None,  # noqa: UP045
    folder: Annotated[Path, typer.Option(help="Folder for data and logs.")] = Path(".driftloop/broker"),
) -> None:
    """Start a broker in the foreground."""
    from driftloop.infra import brokers

    with console.errors():
        brokers.run(kind, folder, port)


@app.command()
def serve(context: typer.Context) -> None:
    """Run the local serving host.

    A router that splits traffic, and replica processes behind it.
    """
    with console.errors():
        extras.require("serving")
        from driftloop.infra.serving import host

        host.run(context.obj)


@app.command()
def dashboard(context: typer.Context) -> None:
    """Run the live page."""
    with console.errors():
        extras.require("dashboard")
        from driftloop.infra.dashboard import app as page

        page.run(context.obj)


@agents.command("run")
def run_agents(
    context: typer.Context,
    names: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Names of agents; default: all of them in this process."),
    ] = None,
) -> None:
    """Run agents.

    Each agent is a consumer group: more workers share its partitions.
    """
    console.limit_blas_threads()
    with console.errors():
        chosen = names or list(AGENT_EXTRAS)
        extras.require("agents", *{AGENT_EXTRAS[name] for name in chosen if name in AGENT_EXTRAS})
        from driftloop.infra.wiring import agents as wired

        wired.run_agents(context.obj, names or list(wired.AGENTS))

"""Commands that publish a request: retrain, deploy, rollout pause and the like."""

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from driftloop.infra.cli import console, extras

if TYPE_CHECKING:
    from driftloop.schemas.events import Event
    from driftloop.schemas.settings import Settings

Model = Annotated[str, typer.Argument(help="The model's registered name.")]

app = console.group()
rollout = console.group("Control rollouts: pause, resume or abort the current one; pin the champion.")


@app.command()
def retrain(
    context: typer.Context,
    model: Model,
    rows: Annotated[Optional[int], typer.Option(help="Newest labelled rows to train on.")] = None,  # noqa: UP045
) -> None:
    """Request a challenger now.

    The retraining policy is skipped; the gate still has to accept the challenger.
    """
    from driftloop.mlops_core.training.pipeline import challenger_request

    request = challenger_request(model, rows or max(context.obj.retraining.windows), _now())
    with console.errors():
        require_model(context.obj, model)
        publish(context.obj, request)
    typer.echo(f"requested a challenger of {model} [{request.id[:8]}]; the page shows its training")


@app.command()
def deploy(context: typer.Context, model: Model, version: str) -> None:
    """Request the rollout of a registered version."""
    settings = context.obj
    with console.errors():
        extras.require("agents")
        request = asyncio.run(_deploy_request(settings, model, version))
        publish(settings, request)
    typer.echo(f"requested the rollout of {model} version {version} [{request.id[:8]}]")


async def _deploy_request(settings: "Settings", model: str, version: str) -> "Event":
    """The request as `MLOpsPipeline.deploy_model` builds it. Raises NotFound or Conflict."""
    from driftloop.infra.facade import MLOpsPipeline
    from driftloop.mlops_core.errors import Conflict
    from driftloop.schemas.configs import DeploymentConfig

    pipeline = MLOpsPipeline(settings).deployment_pipeline
    registered = await pipeline.model_registry.get_model(f"{model}:{version}")
    config = DeploymentConfig(replicas=settings.serving.replicas)
    validation = await pipeline.validator.validate(registered, config)
    if not validation.is_valid:
        raise Conflict("; ".join(validation.errors))
    return await pipeline.deployer.build_request(registered, config, (), _now())


def _add_rollout_command(action: str, help: str) -> None:  # noqa: A002 - typer's word
    @rollout.command(action, help=help)
    def command(context: typer.Context, model: Model) -> None:
        from driftloop.schemas.events import RolloutAction, RolloutCommanded

        request = RolloutCommanded(**_envelope(model), action=RolloutAction(action))
        with console.errors():
            require_model(context.obj, model)
            publish(context.obj, request)
        typer.echo(f"requested {action} of {model}'s rollout [{request.id[:8]}]")


_add_rollout_command("pause", "Hold the weights until `resume`.")
_add_rollout_command("resume", "Continue a paused rollout.")
_add_rollout_command("abort", "Send all traffic back to the stable version.")
_add_rollout_command("pin", "Keep the champion and a blend's weights until `unpin`; proven challengers wait.")
_add_rollout_command("unpin", "Let proven challengers be promoted again.")


def require_model(settings: "Settings", model: str) -> None:
    """Return where the registry has versions of the model, or can't be asked: an abort must not wait for it.

    Raises:
        NotFound: it has none; the message lists the models that it has.
    """
    from driftloop.infra.adapters.readers import reader_for
    from driftloop.mlops_core.errors import NotFound, Unavailable

    uri = settings.registry.tracking_uri
    try:
        reader = reader_for(uri)
    except ImportError:  # the light install alone can't ask MLflow
        return
    try:
        if reader.versions(model):
            return
        known = ", ".join(sorted(reader.models())) or "none so far"
    except Unavailable as error:
        typer.echo(f"the name {model} is not checked: {error}", err=True)
        return
    raise NotFound(f"no model {model!r} is registered at {uri}; registered: {known}")


def publish(settings: "Settings", event: "Event") -> None:
    """Publish an event; returns once Kafka has acknowledged it."""
    from driftloop.streams import admin
    from driftloop.streams.producer.publisher import Publisher

    admin.require_broker(settings.kafka)
    with Publisher(settings.kafka, settings.publisher.without_spool()) as publisher:
        publisher.publish_event(event)


def _envelope(model: str) -> dict[str, str | int]:
    return {"id": str(uuid.uuid4()), "at": _now(), "model": model}


def _now() -> int:
    return int(time.time() * 1000)

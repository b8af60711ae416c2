"""`driftloop store`: what the offline store of labelled examples holds, and its compaction."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from driftloop.infra.cli import console, extras
from driftloop.mlops_core.errors import Conflict

if TYPE_CHECKING:
    from driftloop.infra.adapters.parquet.store import Contents, ParquetStore
    from driftloop.schemas.settings import StoreSettings

HEADING = f"{'model':24} {'rows':>12} {'files':>6} {'waiting':>16}  labelled (UTC)"
EMPTY = "{folder} is empty: the agents joining and storing add rows when labels match predictions"
Models = Annotated[Optional[list[str]], typer.Argument(help="Names of models; default: all.")]  # noqa: UP045

app = console.group("Inspect and compact the offline store of labelled examples.")


@app.command()
def show(context: typer.Context, models: Models = None) -> None:
    """List what the offline store holds.

    Rows, files and the span of label times per model.
    """
    with console.errors():
        extras.require("agents")
        for line in contents_lines(context.obj.store, models or []):
            typer.echo(line)


@app.command()
def compact(context: typer.Context, models: Models = None) -> None:
    """Merge waiting segments into files, and delete expired files.

    Other tools read the files; a file older than `store.retention_days` is deleted.
    """
    with console.errors():
        extras.require("agents")
        for line in compaction_lines(context.obj.store, models or []):
            typer.echo(line)


def contents_lines(settings: "StoreSettings", models: Sequence[str]) -> Iterator[str]:
    """A heading and a line per model; one sentence if the store is empty.

    Raises:
        Conflict: the store has no such model.
    """
    store = _open(settings)
    chosen = _models_to_compact(store, settings, models)
    yield HEADING if chosen else EMPTY.format(folder=settings.folder)
    for model in chosen:
        yield _line(store.contents(model))


def compaction_lines(settings: "StoreSettings", models: Sequence[str]) -> Iterator[str]:
    """Compact the models; a line per step; one sentence if the store is empty.

    Raises:
        Conflict: the store has no such model.
    """
    store = _open(settings)
    chosen = _models_to_compact(store, settings, models)
    if not chosen:
        yield EMPTY.format(folder=settings.folder)
    for model in chosen:
        for step in store.compact(model):
            yield f"{model}: {step}"


def _open(settings: "StoreSettings") -> "ParquetStore":
    from driftloop.infra.adapters.parquet.store import ParquetStore

    return ParquetStore(settings.folder, settings)


def _models_to_compact(
    store: "ParquetStore", settings: "StoreSettings", models: Sequence[str]
) -> Sequence[str]:
    known = store.models()
    for model in models:
        if model not in known:
            raise Conflict(f"{settings.folder} has no model {model!r}; it has {', '.join(known) or 'none'}")
    return models or known


def _line(contents: "Contents") -> str:
    waiting = f"{contents.waiting_rows:,} rows in {contents.waiting}" if contents.waiting else "-"
    span = f"{_time(contents.since)} - {_time(contents.until)}" if contents.rows else "-"
    return f"{contents.model:24} {contents.rows:12,} {contents.files:6,} {waiting:>16}  {span}"


def _time(millis: int) -> str:
    try:
        return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return f"{millis} ms"

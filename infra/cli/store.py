"""What `driftloop store` does."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from driftloop.infra.adapters.parquet.store import Contents, ParquetStore
from driftloop.mlops_core.errors import Impossible
from driftloop.schemas.settings import StoreSettings

HEADING = f"{'model':24} {'rows':>12} {'files':>6} {'waiting':>16}  labelled (UTC)"
NOTHING = "nothing in {folder} yet: rows come as labels meet their predictions (agents joining and storing)"


def shown(settings: StoreSettings, models: Sequence[str]) -> Iterator[str]:
    """A table: a line a model; or that there is nothing.

    Raises:
        Impossible: a model that the store has nothing of.
    """
    store = ParquetStore(settings.folder, settings)
    chosen = _chosen(store, settings, models)
    yield HEADING if chosen else NOTHING.format(folder=settings.folder)
    for model in chosen:
        yield _line(store.contents(model))


def compacted(settings: StoreSettings, models: Sequence[str]) -> Iterator[str]:
    """Compact them; a line a step; or that there is nothing.

    Raises:
        Impossible: a model that the store has nothing of.
    """
    store = ParquetStore(settings.folder, settings)
    chosen = _chosen(store, settings, models)
    if not chosen:
        yield NOTHING.format(folder=settings.folder)
    for model in chosen:
        for step in store.compact(model):
            yield f"{model}: {step}"


def _chosen(store: ParquetStore, settings: StoreSettings, models: Sequence[str]) -> Sequence[str]:
    there = store.models()
    for model in models:
        if model not in there:
            raise Impossible(f"{settings.folder} has no model {model!r}; it has {', '.join(there) or 'none'}")
    return models or there


def _line(one: Contents) -> str:
    waiting = f"{one.waiting_rows:,} rows in {one.waiting}" if one.waiting else "-"
    span = f"{_time(one.since)} - {_time(one.until)}" if one.rows else "-"
    return f"{one.model:24} {one.rows:12,} {one.files:6,} {waiting:>16}  {span}"


def _time(millis: int) -> str:
    try:
        return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return f"{millis} ms"

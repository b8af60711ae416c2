"""From the registry to a model that can answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from driftloop.mlops_core.data.features import FeatureSpec, Floats
from driftloop.mlops_core.errors import Unservable
from driftloop.mlops_core.ports import LoadScorer, ModelReader
from driftloop.schemas.records import Value
from driftloop.schemas.settings import TrainingSettings

Columns = Mapping[str, Sequence[Value]]
Score = Callable[[Columns, int], Floats]


@dataclass(frozen=True)
class Loaded:
    """A model that can answer."""

    format: str
    spec: FeatureSpec
    score: Score


def load(reader: ModelReader, load_scorer: LoadScorer, model: str, version: str) -> Loaded:
    """The version, after it has scored a row of nothing but missing values.

    Raises:
        NotFound, Unavailable: as the reader does.
        Unservable: it can be read, and does not score.
    """
    fitted = reader.fitted(model, version)
    try:
        scorer = load_scorer(fitted)
        scores = scorer({}, 1)
    except (ValueError, Unservable) as error:  # xgboost's own error is a ValueError
        reason = str(error).partition("\n")[0]  # a C++ stack trace follows
        raise Unservable(f"{model}:{version} can't be loaded: {reason}") from error
    if not np.isfinite(scores).all():
        raise Unservable(f"{model}:{version} gives no finite score, even for a row without values")
    return Loaded(fitted.format, fitted.features, scorer)


def load_from_registry(tracking_uri: str, training: TrainingSettings, model: str, version: str) -> Loaded:
    """The version from the registry at this address. Raises as `load` does."""
    from driftloop.infra.adapters.readers import reader_for
    from driftloop.infra.wiring.trainers import scorer_loader

    return load(reader_for(tracking_uri), scorer_loader(training, single_format=True), model, version)

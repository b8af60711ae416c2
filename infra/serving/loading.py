"""From the registry to a model that can answer."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from driftloop.mlops_core.data.features import FeatureSpec, Floats
from driftloop.mlops_core.errors import Unservable
from driftloop.mlops_core.ports import Fitted, ModelReader
from driftloop.schemas.records import Value

Columns = Mapping[str, Sequence[Value]]
Score = Callable[[Columns, int], Floats]


@dataclass(frozen=True)
class Loaded:
    """A model that can answer."""

    spec: FeatureSpec
    score: Score


def load(reader: ModelReader, model: str, version: str) -> Loaded:
    """The version, having answered a row of nothing but missing values.

    Raises:
        NotFound, Unavailable: as the reader does.
        Unservable: it can be read, and doesn't score.
    """
    from driftloop.mlops_core.training.scoring import Scorer

    fitted: Fitted = reader.fitted(model, version)
    try:
        scorer = Scorer(fitted)
        smoke = scorer({}, 1)
    except ValueError as error:  # xgboost's own error is one, too
        reason = str(error).partition("\n")[0]  # a C++ stack trace follows
        raise Unservable(f"{model}:{version} can't be loaded: {reason}") from error
    if not np.isfinite(smoke).all():
        raise Unservable(f"{model}:{version} gives no finite score, even for a row without values")
    return Loaded(fitted.features, scorer)


def load_from_registry(tracking_uri: str, model: str, version: str) -> Loaded:
    """The version from the registry at this address. Raises as `load` does."""
    # xgboost imports scikit-learn where it finds it: 4 s of CPU for something that scoring never uses.
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]
    from driftloop.infra.adapters.readers import reader_for

    return load(reader_for(tracking_uri), model, version)

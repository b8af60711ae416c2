"""The models that are measured, in a folder that the agents read as their registry."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed import traffic
from driftloop.infra.adapters import folder_reader
from driftloop.mlops_core.data.features import FeatureSpec
from driftloop.mlops_core.ports import Fitted, Task


def write_models(folder: Path, features: int = 20, models: Sequence[str] = (traffic.MODEL,)) -> str:
    """Write models and their profile; returns the address of the registry."""
    spec = FeatureSpec.infer(traffic.columns(traffic.REFERENCE_ROWS, features))
    nothing_to_score = Fitted(Task.BINARY, "xgboost", b"", spec)
    profile = traffic.profile(features)
    for model in models:
        folder_reader.save(folder, model, traffic.VERSION, nothing_to_score, profile)
    return folder.as_uri()

"""The one model that is measured, in a folder that the agents read as their registry."""

from pathlib import Path

from infra.adapters import folder_reader
from infra.bench import traffic
from mlops_core.data.features import FeatureSpec
from mlops_core.ports import Fitted, Task


def written(folder: Path, features: int = 20) -> str:
    """Write model and profile; returns the address of the registry."""
    spec = FeatureSpec.infer(traffic.columns(traffic.REFERENCE_ROWS, features))
    nothing_to_score = Fitted(Task.BINARY, b"", spec)
    folder_reader.save(folder, traffic.MODEL, traffic.VERSION, nothing_to_score, traffic.profile(features))
    return folder.as_uri()

"""Which registry an address means."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.errors import Conflict
from driftloop.mlops_core.ports import ModelReader


def reader_for(uri: str) -> ModelReader:
    """The reader for `http(s)://...` (an MLflow server) or `file:///...` (a folder of models).

    Raises:
        Conflict: another kind of address.
    """
    address = urlsplit(uri)
    match address.scheme:
        case "file":
            return FolderReader(Path(unquote(address.path)))
        case "http" | "https":
            from driftloop.infra.adapters.mlflow.reader import MLflowReader

            return MLflowReader(uri)
        case _:
            raise Conflict(f"no registry is known behind {uri!r}; possible are http(s)://... and file:///...")

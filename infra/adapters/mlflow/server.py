"""An MLflow server on this machine: SQLite and artifacts in a folder, HTTP on 127.0.0.1."""

from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from driftloop.infra.processes.child import Child, free_port, python_command

READY_SECONDS = 90.0
"""MLflow imports for 10 s of CPU before it answers, and the machine may be busy."""


class MLflowServer:
    """A running (or starting) server; stops with `stop`, with the block, or with this process."""

    def __init__(self, child: Child, folder: Path, port: int) -> None:
        self.child = child
        self.folder = folder
        self.uri = f"http://127.0.0.1:{port}"
        """What clients call the tracking URI."""

    def wait(self, seconds: float = READY_SECONDS) -> None:
        """Return once it answers.

        Raises:
            ChildFailed: it ended, or doesn't answer in time; with the end of its log.
        """
        with httpx.Client(timeout=seconds) as client:
            self.child.wait_until(lambda: _healthy(client, self.uri), seconds)

    def stop(self) -> None:
        """End it; what was registered stays in the folder."""
        self.child.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def launch(folder: Path, port: int | None = None) -> MLflowServer:
    """Start a server whose data is in `folder`, without waiting for it; port None takes a free one."""
    folder = folder.absolute()
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    port = free_port() if port is None else port
    # `mlflow server` imports all of MLflow to read its options, and then starts this very command, which
    # imports it again: going straight there halves the time until it answers.
    command = python_command("uvicorn", "mlflow.server.fastapi_app:app")
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    child = Child.start("mlflow", command, folder / "server.log", env=_environment(folder), cwd=folder)
    return MLflowServer(child, folder, port)


def start(folder: Path, port: int | None = None, seconds: float = READY_SECONDS) -> MLflowServer:
    """Start a server and wait until it answers.

    Raises:
        ChildFailed: it ended, or doesn't answer in time; with the end of its log.
    """
    server = launch(folder, port)
    try:
        server.wait(seconds)
    except BaseException:
        server.stop()
        raise
    return server


def _environment(folder: Path) -> dict[str, str]:
    """What `mlflow server --backend-store-uri ... --artifacts-destination ...` hands to its worker."""
    return {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": (folder / "artifacts").as_uri(),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        # Seven processes and 1.5 GB for evaluations of language models.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def _healthy(client: httpx.Client, uri: str) -> bool:
    """Asks for models rather than for health: the first question is what creates the tables."""
    try:
        return client.get(f"{uri}/api/2.0/mlflow/registered-models/search?max_results=1").is_success
    except httpx.TransportError:
        return False

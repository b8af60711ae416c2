"""Writing to MLflow: `ports.ModelWriter`. Only `register` imports mlflow; aliases and tags are plain REST."""

import json
import logging
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from driftloop.infra.adapters.mlflow.reader import FEATURES, GATE, PAYLOAD, PROFILE, MLflowReader
from driftloop.infra.adapters.mlflow.rest import MLflowRest, Refused
from driftloop.mlops_core.errors import Conflict, NotFound, Unavailable
from driftloop.mlops_core.ports import Candidate, Registered

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
REQUIREMENTS = ("numpy", "pandas", "xgboost")
"""Always given: else MLflow loads the model in a process of its own to find them out, for 7-15 s."""
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A server that is away is known at once rather than after ten minutes of back-off.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_LOGGING = threading.Lock()
"""mlflow keeps its server's address in one place for the whole process."""


class MLflowRegistry:
    """Registers, crowns and tags. Every call may raise Unavailable, and may be repeated."""

    def __init__(self, uri: str) -> None:
        self._rest = MLflowRest(uri)
        self._reader = MLflowReader(uri)

    def answering(self, model: str, request: str) -> Registered | None:
        """The version that answers a request, if there is one."""
        versions = self._reader.versions(model)
        return next((one for one in versions if one.tags.get("request") == request), None)

    def register(self, candidate: Candidate) -> Registered:
        """A new version with the alias `challenger`; the same request again gives the same version.

        Its tags are written with it in one step: a version without its request would be registered twice.
        """
        known = self.answering(candidate.model, candidate.request) or self._create_version(candidate)
        return self.nominate(known)

    def nominate(self, known: Registered) -> Registered:
        """Have it be `challenger` unless it had its turn; a crash may have come between version and alias."""
        if self._waits(known):
            self._point(known.model, CHALLENGER, known.version)
        return self._reader.version(known.model, known.version)

    def set_champion(self, model: str, version: str) -> None:
        """Make it `champion`; the champion before becomes `previous`, and `challenger` is given up.

        In this order: wherever a crash leaves it, there is a champion, and crowning again completes it.

        Raises:
            NotFound: nobody registered it; says what there is.
        """
        crowned = self._reader.version(model, version)
        before = self._reader.champion(model)
        if before != version:
            if before is not None:
                self._point(model, PREVIOUS, before)
            self._point(model, CHAMPION, version)
        if CHALLENGER in crowned.aliases:
            self._rest.change("DELETE", "registered-models/alias", name=model, alias=CHALLENGER)

    def tag(self, model: str, version: str, key: str, value: str) -> None:
        """Note something about a version. Raises NotFound."""
        self._reader.version(model, version)
        self._rest.change("POST", "model-versions/set-tag", name=model, version=version, key=key, value=value)

    def _waits(self, known: Registered) -> bool:
        """Whether it is the newest version and nothing became of it yet; else it had its turn."""
        newest = self._reader.versions(known.model)[-1].version
        return known.version == newest and not known.aliases and "lifecycle" not in known.tags

    def _point(self, model: str, alias: str, version: str) -> None:
        self._rest.change("POST", "registered-models/alias", name=model, alias=alias, version=version)

    def _create_version(self, candidate: Candidate) -> Registered:
        self._name(candidate.model)
        with _LOGGING:
            run_id, source = _log_run(self._rest.uri, candidate)
        tags = {
            "request": candidate.request,
            "format": candidate.fitted.format,
            "gate": candidate.gate.model_dump_json(),
            "metrics": json.dumps(dict(candidate.metrics)),
            **candidate.tags,
        }
        added = self._rest.change(
            "POST",
            "model-versions/create",
            name=candidate.model,
            source=source,
            run_id=run_id,
            **({"model_id": source.removeprefix("models:/")} if source.startswith("models:/") else {}),
            tags=[{"key": key, "value": value} for key, value in tags.items()],
        )
        return self._reader.version(candidate.model, added["model_version"]["version"])

    def _name(self, model: str) -> None:
        """Have the registered model that versions belong to."""
        try:
            self._rest.get("registered-models/get", name=model)
        except NotFound:
            try:
                self._rest.change("POST", "registered-models/create", name=model)
            except Refused as error:
                if error.code != "RESOURCE_ALREADY_EXISTS":  # somebody else was quicker
                    raise


def _log_run(uri: str, candidate: Candidate) -> tuple[str, str]:
    """A finished run with the model and its artifacts: the run's id, and the model's address."""
    mlflow = _mlflow()
    import requests

    try:
        mlflow.set_tracking_uri(uri)
        experiment = mlflow.set_experiment(f"driftloop/{candidate.model}").experiment_id
        tags = {"request": candidate.request, **candidate.tags}
        with mlflow.start_run(experiment_id=experiment, tags=tags) as run:
            mlflow.log_params(_parameters(candidate))
            mlflow.log_metrics(dict(candidate.metrics))
            mlflow.log_text(candidate.fitted.features.model_dump_json(), FEATURES)
            mlflow.log_text(candidate.profile.model_dump_json(), PROFILE)
            mlflow.log_text(candidate.gate.model_dump_json(), GATE)
            source = _log_model(candidate, run.info.artifact_uri)
    except mlflow.exceptions.MlflowException as error:
        kind = Unavailable if error.get_http_status_code() >= 500 else Conflict
        raise kind(f"MLflow at {uri} did not take {candidate.model}: {error}") from error
    except requests.RequestException as error:
        raise Unavailable(f"MLflow at {uri} did not take {candidate.model}: {error}") from error
    return str(run.info.run_id), source


def _log_model(candidate: Candidate, artifacts: str) -> str:
    """Address of the model: of MLflow's xgboost flavour, or the payload as a file of the run."""
    import mlflow

    if candidate.fitted.format != "xgboost":
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(PAYLOAD).name
            file.write_bytes(candidate.fitted.payload)
            mlflow.log_artifact(str(file), str(Path(PAYLOAD).parent))
        return f"{artifacts}/{Path(PAYLOAD).parent}"
    import mlflow.xgboost
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(candidate.fitted.payload))
    info = mlflow.xgboost.log_model(
        booster,
        name="model",
        model_format="ubj",
        signature=mlflow.models.infer_signature(candidate.sample),
        pip_requirements=list(REQUIREMENTS),
    )
    return str(info.model_uri)


def _parameters(candidate: Candidate) -> dict[str, object]:
    """What the run is compared by: the task, and the hyperparameters that were asked for."""
    hyperparameters: dict[str, object] = json.loads(candidate.tags.get("hyperparameters", "{}"))
    return {"task": candidate.fitted.task, **hyperparameters}


def _mlflow() -> Any:
    """The library, told to be brief."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return mlflow

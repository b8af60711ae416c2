"""A person's request for a training, made in one place for the command, the facade and `update`."""

from driftloop.schemas import ids
from driftloop.schemas.configs import ModelConfig
from driftloop.schemas.events import RetrainRequested
from driftloop.schemas.records import Millis


def challenger_request(model: str, rows: int, at: Millis) -> RetrainRequested:
    """A challenger with the champion's task, algorithm and hyperparameters; rolled out once it is proven."""
    return RetrainRequested(
        id=ids.derive("retrain", model, rows, at),
        at=at,
        model=model,
        reason="a person requested a challenger",
        trigger="manual",
        rows=rows,
    )


def model_request(config: ModelConfig, rows: int, at: Millis, data: str) -> RetrainRequested:
    """A version as `config` says, which waits for `deploy_model`.

    `data` identifies the data: the same configuration on the same data is the same request.
    """
    return challenger_request(config.name, rows, at).model_copy(
        update={
            "id": ids.derive("train", config.model_dump_json(), data),
            "reason": "a person requested a training",
            "task": config.task,
            "algorithm": config.algorithm,
            "hyperparameters": config.hyperparameters,
            "rollout": "manual",
        }
    )

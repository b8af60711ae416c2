"""driftloop: closed-loop MLOps on Kafka. The names below are the public interface; they load on first use.

>>> from driftloop import Label, Prediction, Publisher
>>> Prediction(model="churn", version="3", id="order-1", at=0, features={"age": 41}, score=0.7).score
0.7

`driftloop.drift` holds the detectors on arrays, `driftloop.testing` what tests of your own code need.
Everything else below `driftloop` may change without notice.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driftloop.infra.facade import MLOpsPipeline as MLOpsPipeline
    from driftloop.schemas.configs import DataConfig as DataConfig
    from driftloop.schemas.configs import DeploymentConfig as DeploymentConfig
    from driftloop.schemas.configs import ModelConfig as ModelConfig
    from driftloop.schemas.records import FeatureRow as FeatureRow
    from driftloop.schemas.records import Label as Label
    from driftloop.schemas.records import LabelBatch as LabelBatch
    from driftloop.schemas.records import Prediction as Prediction
    from driftloop.schemas.records import PredictionBatch as PredictionBatch
    from driftloop.schemas.settings import KafkaSettings as KafkaSettings
    from driftloop.schemas.settings import PublisherSettings as PublisherSettings
    from driftloop.schemas.settings import Settings as Settings
    from driftloop.streams.producer.publisher import Publisher as Publisher

_MODULE_OF = {
    "DataConfig": "schemas.configs",
    "DeploymentConfig": "schemas.configs",
    "FeatureRow": "schemas.records",
    "KafkaSettings": "schemas.settings",
    "Label": "schemas.records",
    "LabelBatch": "schemas.records",
    "MLOpsPipeline": "infra.facade",
    "ModelConfig": "schemas.configs",
    "Prediction": "schemas.records",
    "PredictionBatch": "schemas.records",
    "Publisher": "streams.producer.publisher",
    "PublisherSettings": "schemas.settings",
    "Settings": "schemas.settings",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import driftloop` costs nothing."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = (
    "DataConfig",
    "DeploymentConfig",
    "FeatureRow",
    "KafkaSettings",
    "Label",
    "LabelBatch",
    "MLOpsPipeline",
    "ModelConfig",
    "Prediction",
    "PredictionBatch",
    "Publisher",
    "PublisherSettings",
    "Settings",
)

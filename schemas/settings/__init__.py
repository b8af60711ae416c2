"""All settings: nested, frozen, from YAML and the environment; an unknown key is an error.

Precedence: arguments, then `DRIFTLOOP_...` variables (`DRIFTLOOP_DRIFT__DELTA=1e-5`), then the YAML file,
then the defaults of each group. `KAFKA_BOOTSTRAP_SERVERS` alone is enough to point everything at your
cluster. Only this package reads the environment.

`Settings` is imported when it is first used: a publisher needs a group only, and no YAML.
"""

from typing import TYPE_CHECKING

from driftloop.schemas.settings.kafka import KafkaSettings, PublisherSettings
from driftloop.schemas.settings.local import DashboardSettings, MetricsSettings, StoreSettings
from driftloop.schemas.settings.monitoring import DriftSettings, PerformanceSettings
from driftloop.schemas.settings.serving import RegistrySettings, RolloutSettings, ServingSettings
from driftloop.schemas.settings.training import GATE_ROWS, TRAINING_ROWS, RetrainingSettings, TrainingSettings
from driftloop.schemas.settings.types import Season

if TYPE_CHECKING:
    from driftloop.schemas.settings.errors import SettingsError
    from driftloop.schemas.settings.loading import Settings


def __getattr__(name: str) -> object:
    if name not in {"Settings", "SettingsError"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from driftloop.schemas.settings import loading  # loads YAML and the environment's reader

    value: object = getattr(loading, name)
    globals()[name] = value
    return value


__all__ = (
    "GATE_ROWS",
    "TRAINING_ROWS",
    "DashboardSettings",
    "DriftSettings",
    "KafkaSettings",
    "MetricsSettings",
    "PerformanceSettings",
    "PublisherSettings",
    "RegistrySettings",
    "RetrainingSettings",
    "RolloutSettings",
    "Season",
    "ServingSettings",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "TrainingSettings",
)

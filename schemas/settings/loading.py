"""The settings as a whole, and how they are loaded."""

import math
import os
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from driftloop.schemas.settings import errors
from driftloop.schemas.settings.errors import SettingsError
from driftloop.schemas.settings.kafka import KafkaSettings, PublisherSettings
from driftloop.schemas.settings.local import DashboardSettings, MetricsSettings, StoreSettings
from driftloop.schemas.settings.monitoring import DriftSettings, PerformanceSettings
from driftloop.schemas.settings.serving import RegistrySettings, RolloutSettings, ServingSettings
from driftloop.schemas.settings.training import GATE_ROWS, RetrainingSettings, TrainingSettings


class Settings(BaseSettings):
    """All groups; a component gets its own group only."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="DRIFTLOOP_",
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    publisher: PublisherSettings = PublisherSettings()
    drift: DriftSettings = DriftSettings()
    performance: PerformanceSettings = PerformanceSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    training: TrainingSettings = TrainingSettings()
    rollout: RolloutSettings = RolloutSettings()
    registry: RegistrySettings = RegistrySettings()
    serving: ServingSettings = ServingSettings()
    dashboard: DashboardSettings = DashboardSettings()
    store: StoreSettings = StoreSettings()
    metrics: MetricsSettings = MetricsSettings()

    @model_validator(mode="after")
    def _check_gate_rows(self) -> Self:
        rows, share = min(self.retraining.windows), self.training.holdout
        if rows * share < GATE_ROWS:
            raise ValueError(
                f"retraining.windows: {rows} times training.holdout {share:g} leaves fewer rows than "
                f"the {GATE_ROWS} that the gate needs; {math.ceil(GATE_ROWS / share):,} rows were possible"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over the YAML file named by `Settings.load`."""
        return (init_settings, env_settings, YamlConfigSettingsSource(settings_cls))

    @classmethod
    def load(cls, path: Path | None = None, **groups: Any) -> Self:
        """Read the YAML file (if any), the environment and `groups`.

        Raises:
            SettingsError: a file that isn't there, a key that doesn't exist, a value that can't be.
        """
        errors.check_file(path)
        errors.check_variables(os.environ, cls)
        config = SettingsConfigDict(yaml_file=path)
        source: type[Self] = type(
            cls.__name__, (cls,), {"model_config": config, "__module__": cls.__module__}
        )
        kafka = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
        if kafka:
            groups["kafka"] = {"bootstrap": kafka} | dict(groups.get("kafka", {}))
        try:
            return source(**groups)
        except ValidationError as error:
            raise SettingsError(errors.format_errors(error, str(path or "settings"), cls)) from error
        except SourceError as error:  # a variable of a group or of a list, whose text is no JSON
            raise SettingsError(errors.format_unreadable(error, os.environ)) from error

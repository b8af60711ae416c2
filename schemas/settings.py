"""Everything that can be set: nested, frozen, from YAML and the environment; a typo is an error.

Precedence: arguments, then `DRIFTLOOP_...` variables (`DRIFTLOOP_DRIFT__DELTA=1e-5`), then the YAML file,
then the defaults below. `KAFKA_BOOTSTRAP_SERVERS` alone is enough to point everything at your cluster.
Nothing else in the house reads the environment.
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from schemas import mistakes
from schemas.budgets import Budget
from schemas.mistakes import SettingsError as SettingsError  # noqa: PLC0414 - it is raised here
from schemas.quantities import (
    AtLeastZero,
    Chance,
    Columns,
    Days,
    Folder,
    Host,
    Hours,
    Port,
    Positive,
    Prefix,
    Real,
    Registry,
    Season,
    Seconds,
    Servers,
    Share,
    Steps,
    TrainerName,
    Whole,
)

TRAINING_ROWS = 500
"""Fewer labelled rows teach noise, and leave the gate under its hundred."""
GATE_ROWS = 100
"""Fewer rows give a bootstrap interval that is wide, and wrong at its ends."""
_CHECKS = 16
"""More would be 16 windows of waiting."""
_SOME_OF = re.compile(r"\s*(\d{1,3})\s+of\s+(\d{1,3})\s*")


class Group(BaseModel):
    """A component's settings; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class KafkaSettings(Group):
    """The cluster, and how we talk to it."""

    bootstrap: Servers = "127.0.0.1:9092"
    """Servers, comma-separated `host:port`. Also read from `KAFKA_BOOTSTRAP_SERVERS`."""
    prefix: Prefix = ""
    """Put before every topic and group name, so that several systems share a cluster."""
    data_partitions: Annotated[Positive, Field(le=10_000)] = 4
    """Partitions of predictions, features and labels: as many workers can share the load."""
    control_partitions: Annotated[Positive, Field(le=10_000)] = 2
    """Partitions of everything keyed by model; low volume, so few."""
    replication: Annotated[Positive, Field(le=100)] = 1
    """Copies of each partition. 1 fits a laptop; 3 where losing a disk must lose nothing."""
    session_timeout: Annotated[Real, Field(ge=1, le=90)] = 6.0
    """Seconds until a silent worker is given up. 6 is the least that Apache Kafka allows by default, and a
    short one matters on the embedded broker, where a first join waits half of it; Faust waits for no answer
    longer than 90."""
    chunk_records: Annotated[Positive, Field(le=1_000_000)] = 1000
    """Records handed to an agent at once: beyond this the gain per record is under 2 %."""
    max_lag_seconds: Seconds = 300.0
    """How old an agent's oldest waiting record may be before an alert says so; it is over at half of that."""


class PublisherSettings(Group):
    """The SDK: how rows travel together, and what happens while Kafka is away."""

    batch_rows: Annotated[Positive, Field(le=1_000_000)] = 500
    """Single records of one model that travel as one columnar message, at most. 1: each is a JSON event of
    its own, at several times the cost for everybody who reads it."""
    linger_ms: Annotated[AtLeastZero, Field(le=900_000)] = 5.0
    """How long a record may wait for company; 5 ms fills batches and stays unnoticed."""
    buffer_messages: Positive = 100_000
    """Rows and messages waiting for the broker, at most, and a kB for each of them; about 30 MB as single
    JSON events of 300 bytes."""
    when_full: Literal["block", "raise", "spool"] = "block"
    """`block`: wait for room, at most `block_seconds`; `raise`: BufferFull at once; `spool`: everything goes
    through a file in `spool_folder`, and what was accepted there outlives the death of your service."""
    block_seconds: Seconds = 30.0
    """How long `block` waits before it raises BufferFull all the same."""
    delivery_timeout: Seconds = 120.0
    """Seconds of retrying before a message is reported as not delivered; a spool never gives up."""
    spool_folder: Folder | None = None
    """Where `spool` keeps what Kafka has not acknowledged. One process at a time; the next one sends it."""
    spool_bytes: Annotated[Whole, Field(ge=1_000_000, lt=1 << 53)] = 1_000_000_000
    """Room on the disk before BufferFull: an hour of 900 single records of 300 bytes a second."""
    spool_sync_ms: Annotated[Real, Field(ge=1, le=900_000)] = 1000.0
    """How much a power cut may lose. The death of the process loses nothing, however long this is."""

    @model_validator(mode="after")
    def _spool_has_a_folder(self) -> Self:
        if self.when_full == "spool" and self.spool_folder is None:
            raise ValueError("when_full 'spool' needs a spool_folder")
        return self

    @model_validator(mode="after")
    def _lingers_less_than_it_tries(self) -> Self:
        if self.linger_ms >= int(self.delivery_timeout * 1000):
            least, most = self.linger_ms, self.delivery_timeout
            raise ValueError(f"linger_ms {least:g} must be less than delivery_timeout {most:g} s")
        return self

    def unspooled(self) -> Self:
        """The same without a spool: for who waits for each acknowledgement anyway."""
        return self.model_copy(update={"when_full": "block"}) if self.when_full == "spool" else self


class DriftSettings(Group):
    """Feature and prediction drift. Numbers measured on 1M-event streams: docs/drift-quality.md."""

    delta: Chance = 1e-5
    """ADWIN's confidence: finds half a standard deviation in about 280 rows, a quarter in 660, with 0.02
    false episodes per feature and 1M events; 1e-6, a tenth slower, has a quarter (docs/decisions/0014)."""
    false_alarms: str | Mapping[str, str] | None = None
    """What you can bear, in place of delta: `1 in 30 days at 100,000 rows a day`; or by model, with `*` for
    all that aren't named: `{churn: 2 a month at 1M rows a day, "*": 1 in 30 days at 50 rows a second}`. It is
    rows that count, not days: twice the traffic has twice the alarms. None: delta as it stands."""
    open_severity: Annotated[Real, Field(gt=0, le=1000)] = 0.15
    """An alarm opens an episode only from this many reference standard deviations. Over 1,024 rows a severity
    is known to 0.035: to find 0.25, which may matter to a model, without fail takes 3 of these less."""
    close_severity: Annotated[Real, Field(gt=0, le=1000)] = 0.075
    """The episode closes under half of that (hysteresis), so that it doesn't flap."""
    confirm: str = "1 of 1"
    """In how many of how many checks the severity must reach `open_severity` before an episode opens: the
    first as soon as it does, each further one a window later. `2 of 3` costs a window of delay, and lets pass
    what has gone by then. Up to 16."""
    window_rows: Annotated[Positive, Field(multiple_of=256, le=1 << 20)] = 1024
    """Rows over which the severity and the plotted shares are taken; a multiple of 256."""
    detector: str = "adwin"
    """What listens to the channels: `adwin`, `cusum` (quicker, for steady streams), or the name of an entry
    point `driftloop.detectors` of a package of yours (see examples/own_detector.py)."""
    segments: Columns = ()
    """Columns of categories (`["country", "device"]`): each category with 1,000 training rows or more, 24 in
    all, is also watched by itself from the next version on. The budget of false alarms is that of all."""
    season: Season = None
    """`day`, `week` or a period in hours: compare each hour with the same hour of the training data's days,
    weeks or periods. These must span two of them, else all hours are compared with the whole."""
    reference: Literal["training", "rolling"] = "training"
    """`rolling`: severities and plots compare with the stream's own earlier rows instead of the training
    data, so that a change which stays is accepted. It is blind to drift that takes much longer than
    `rolling_rows`."""
    rolling_rows: Positive = 100_000
    """How far back a rolling reference reaches, on average: an episode of one deviation is over, accepted,
    after about twice as many rows."""

    @model_validator(mode="after")
    def _one_reference(self) -> Self:
        if self.reference == "rolling" and self.season is not None:
            raise ValueError("a rolling reference knows no season; possible: one of them")
        if self.reference == "rolling" and self.rolling_rows < self.window_rows:
            raise ValueError(
                f"rolling_rows {self.rolling_rows} must be at least window_rows {self.window_rows}"
            )
        if self.segments and self.season is not None:
            raise ValueError(
                "segments know no season, and would take each night for a drift; possible: one of them"
            )
        return self

    @model_validator(mode="after")
    def _closes_under_what_opens(self) -> Self:
        if self.close_severity >= self.open_severity:
            opens, closes = self.open_severity, self.close_severity
            raise ValueError(f"close_severity {closes:g} must be less than open_severity {opens:g}")
        return self

    @field_validator("false_alarms")
    @classmethod
    def _told_in_words(cls, said: str | Mapping[str, str] | None) -> str | Mapping[str, str] | None:
        for text in [said] if isinstance(said, str) else (said or {}).values():
            Budget.parse(text)
        return said

    @field_validator("confirm")
    @classmethod
    def _some_of_as_many(cls, said: str) -> str:
        found = _SOME_OF.fullmatch(said)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= _CHECKS:
            raise ValueError(f"say `m of n` with 1 <= m <= n <= {_CHECKS}, as `2 of 3`")
        return said

    @property
    def confirmation(self) -> tuple[int, int]:
        """`confirm` as numbers: how many, of how many."""
        wanted, _, checks = self.confirm.split()
        return int(wanted), int(checks)

    def budget_of(self, model: str) -> Budget | None:
        """The false alarms that are borne of `model`."""
        said = self.false_alarms
        text = said.get(model, said.get("*")) if isinstance(said, Mapping) else said
        return None if text is None else Budget.parse(text)


class PerformanceSettings(Group):
    """Label join and concept drift."""

    horizon_hours: Hours = 24.0 * 7
    """How long (in the time of the data) a prediction waits for its label."""
    waiting_rows: Positive = 200_000
    """Rows of a model that wait in one partition, at most, whatever the horizon: about 120 MB of memory with
    20 features. Beyond it the oldest give up waiting."""
    delta: Chance = 0.002
    """ADWIN's confidence on errors and residuals: 0 false alarms in 1M labels, error .1 -> .2 in 270."""
    window_labels: Positive = 250
    """Labels between two measurements: a standard error of about 0.03 on an error rate."""
    season: Season = None
    """`day`, `week` or a period in hours: compare the errors of each hour with those of the same hour of
    earlier days, weeks or periods. Concept drift is silent until it has seen two of them."""
    estimate_rows: Annotated[Positive, Field(multiple_of=32)] = 1024
    """Predictions between two estimates of what their labels will say; a multiple of 32."""


class RetrainingSettings(Group):
    """When a challenger is worth its cost."""

    cooldown_hours: Annotated[AtLeastZero, Field(le=10_000_000)] = 24.0
    """Hours (of the data) between two trainings of one model."""
    min_new_labels: Positive = 1000
    """Labels since the last training before another can teach anything new."""
    window_rows: Annotated[Positive, Field(ge=TRAINING_ROWS)] = 20_000
    """The newest labelled rows a challenger learns from; fewer than 500 are no training data, and the share
    `training.holdout` of them has to be 100 or more."""
    confirm: Positive = 1
    """Changes that must have alarmed within `confirm_hours` (segments and columns of one count once);
    1, since an alarm is already a confirmed episode."""
    confirm_hours: Hours = 24.0
    """The hours (of the data) within which `confirm` alarms count together."""
    segment_share: Annotated[AtLeastZero, Field(le=1)] = 0.2
    """The share of the training rows from which a segment's drift asks for a training; of a smaller one an
    alert is all: a new model for everybody because of a few is a risk for the others."""
    max_failures: Positive = 3
    """Failed trainings in a row after which the breaker opens and waits for a person."""


class TrainingSettings(Group):
    """Fitting and the gate."""

    trainer: TrainerName = "mlops_core.training.trainer:XGBoostTrainer"
    """`module:class` of the trainer, so that you can bring your own (see `ports.Trainer`)."""
    rounds: Annotated[Positive, Field(le=100_000)] = 100
    """Boosted trees; what research/data.md's figures were reached with."""
    holdout: Annotated[Real, Field(ge=0.01, le=0.9)] = 0.2
    """The newest share of the window, kept from training, on which the gate compares."""
    margin: AtLeastZero = 0.0
    """How much worse (mean squared error of the score) a challenger may be. 0 asks for proof that it is
    no worse at all: two equal models pass by luck in 2.5 % of the cases."""
    confidence: Share = 0.95
    """Of the two-sided bootstrap interval whose lower end the margin is held against."""
    timeout: Seconds = 3600.0
    """Seconds until a training process is ended."""
    warm: bool = False
    """Keep a process ready that has imported everything: 6 s sooner for 200 MB."""
    threads: Annotated[Positive, Field(le=1024)] = 1
    """Threads of one fit. One, because threads that wait for each other on cores that agents share make a fit
    of half a second one of half a minute; give a machine of its own as many as it has cores."""


class RolloutSettings(Group):
    """How a new version gets traffic."""

    steps: Steps = (1, 5, 10, 25, 50, 100)
    """The canary's shares of traffic, in percent, rising. It takes all of it once the last one is passed, so
    that `[10, 50]` asks nothing of the hours at 100 %."""
    min_labels: Positive = 300
    """Labelled rows of the canary at a step before a verdict other than `fail` is spoken."""
    tolerance: AtLeastZero = 0.01
    """How much worse (mean squared error of the score) a canary may look and still go on."""
    alpha: Chance = 0.01
    """Chance that a canary as good as stable is ever called worse, over the whole rollout."""
    ready_timeout: Seconds = 60.0
    """Seconds a new version has to become ready."""


class RegistrySettings(Group):
    """MLflow."""

    tracking_uri: Registry = "http://127.0.0.1:5000"
    """The MLflow server; clients speak HTTP only."""


class ServingSettings(Group):
    """The local serving host: a router and replica processes."""

    host: Host = "127.0.0.1"
    port: Port = 8080
    """0 takes a free port and prints it."""
    replicas: Annotated[Positive, Field(le=1000)] = 1
    """Replica processes a version."""
    folder: Folder = Path(".driftloop/serving")
    """Where the traffic table is kept, so that a restart changes nothing."""

    @property
    def url(self) -> str:
        """Where the router and its admin interface are."""
        return f"http://{self.host}:{self.port}"


class DashboardSettings(Group):
    """The live page."""

    host: Host = "127.0.0.1"
    port: Port = 8050


class MetricsSettings(Group):
    """Where processes of agents answer `GET /metrics`."""

    host: Host = "127.0.0.1"
    port: Port | None = None
    """0 takes a free port and prints it; None: nowhere. Each process of a machine needs a port of its own."""


class StoreSettings(Group):
    """The offline store of labelled examples."""

    folder: Folder = Path(".driftloop/store")
    """Parquet files, one folder a model; may be shared by machines if its locks are (flock)."""
    segment_rows: Positive = 1000
    """Rows that fill a segment: 50-200 kB of Parquet."""
    segment_hours: Hours = 1.0
    """Hours (of the data) after which a segment is closed with fewer rows: how stale a training may be."""
    file_rows: Positive = 100_000
    """Rows that fill a file of many segments: 5-20 MB with 20 features, written anew within half a second."""
    file_days: Days = 30.0
    """Days (of the data) after which a file is full with fewer rows: rows of a file leave together, so they
    may stay so much longer than `retention_days`."""
    retention_days: Days | None = None
    """Files whose newest label is older than this, counted back from the newest label of the model, are
    deleted. None keeps everything."""


class Settings(BaseSettings):
    """The whole. A component gets its group, not all of them."""

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
    def _leaves_rows_to_the_gate(self) -> Self:
        rows, share = self.retraining.window_rows, self.training.holdout
        if rows * share < GATE_ROWS:
            raise ValueError(
                f"retraining.window_rows {rows} times training.holdout {share:g} leaves fewer rows than "
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
        mistakes.check_file(path)
        mistakes.check_variables(os.environ, cls)
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
            raise SettingsError(mistakes.explained(error, str(path or "settings"), cls)) from error
        except SourceError as error:  # a variable of a group or of a list, whose text is no JSON
            raise SettingsError(mistakes.unreadable(error, os.environ)) from error

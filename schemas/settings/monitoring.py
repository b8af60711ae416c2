"""What is a drift, and how long labels are waited for."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from driftloop.schemas.alarm_budget import Budget
from driftloop.schemas.settings.types import Chance, Columns, Group, Hours, Positive, Real, Season

_CHECKS = 16
"""More would be 16 windows of waiting."""


_M_OF_N = re.compile(r"\s*(\d{1,3})\s+of\s+(\d{1,3})\s*")


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
    """Severity, in reference standard deviations, from which an alarm opens an episode. Over 1,024 rows a
    severity has a standard error of 0.035; 0.15 is three of these below 0.25, which may matter to a model."""
    close_severity: Annotated[Real, Field(gt=0, le=1000)] = 0.075
    """Severity below which the episode closes; half of `open_severity`, so that it doesn't flap."""
    confirm: str = "1 of 1"
    """In how many of how many checks the severity must reach `open_severity` before an episode opens. The
    first check is at the alarm, each further one a window later. `2 of 3` delays by a window and ignores
    changes that are over by then. Up to 16."""
    window_rows: Annotated[Positive, Field(multiple_of=256, le=1 << 20)] = 1024
    """Rows over which the severity and the plotted shares are measured; a multiple of 256."""
    detector: str = "adwin"
    """Detector of all channels: `adwin`, `cusum` (quicker, for steady streams), or the name of an entry
    point `driftloop.detectors` of a package of yours (see examples/own_detector.py)."""
    segments: Columns = ()
    """Categorical columns (`["country", "device"]`): each category with 1,000 training rows or more, 24 in
    all, is also monitored separately from the next version on. All share the budget of false alarms."""
    season: Season = None
    """`day`, `week` or a period in hours: compare each hour with the same hour of the periods in the training
    data, which must span two of them; otherwise every hour is compared with all rows."""
    reference: Literal["training", "rolling"] = "training"
    """`rolling`: severities and plots compare with the stream's own earlier rows instead of the training
    data, so that a change which stays is accepted. It is blind to drift that takes much longer than
    `rolling_rows`."""
    rolling_rows: Positive = 100_000
    """Mean age in rows of a rolling reference: an episode of one standard deviation closes after about twice
    as many rows, when the reference has followed it."""

    @model_validator(mode="after")
    def _check_reference(self) -> Self:
        if self.reference == "rolling" and self.season is not None:
            raise ValueError("reference rolling and season exclude each other; set one of them")
        if self.reference == "rolling" and self.rolling_rows < self.window_rows:
            raise ValueError(
                f"rolling_rows {self.rolling_rows} must be at least window_rows {self.window_rows}"
            )
        if self.segments and self.season is not None:
            raise ValueError(
                "segments and season exclude each other (each night would be a drift of the segment); set one"
            )
        return self

    @model_validator(mode="after")
    def _check_severities(self) -> Self:
        if self.close_severity >= self.open_severity:
            opens, closes = self.open_severity, self.close_severity
            raise ValueError(f"close_severity {closes:g} must be less than open_severity {opens:g}")
        return self

    @field_validator("false_alarms")
    @classmethod
    def _check_false_alarms(cls, value: str | Mapping[str, str] | None) -> str | Mapping[str, str] | None:
        for text in [value] if isinstance(value, str) else (value or {}).values():
            Budget.parse(text)
        return value

    @field_validator("confirm")
    @classmethod
    def _check_confirm(cls, value: str) -> str:
        match = _M_OF_N.fullmatch(value)
        if match is None or not 1 <= int(match[1]) <= int(match[2]) <= _CHECKS:
            raise ValueError(f"say `m of n` with 1 <= m <= n <= {_CHECKS}, as `2 of 3`")
        return value

    @property
    def confirmation(self) -> tuple[int, int]:
        """`confirm` as numbers: how many, of how many."""
        wanted, _, checks = self.confirm.split()
        return int(wanted), int(checks)

    def budget_of(self, model: str) -> Budget | None:
        """The false alarms that are borne of `model`."""
        value = self.false_alarms
        text = value.get(model, value.get("*")) if isinstance(value, Mapping) else value
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
    window_labels: Positive = 100
    """Labels between two measurements, and between two looks at what a training waits for."""
    season: Season = None
    """`day`, `week` or a period in hours: compare the errors of each hour with those of the same hour of
    earlier days, weeks or periods. Concept drift is silent until it has seen two of them."""
    estimate_rows: Annotated[Positive, Field(multiple_of=32)] = 1024
    """Predictions between two estimates of what their labels will say; a multiple of 32."""

"""The interface of a change detector; a detector of your own implements it.

A detector gets the values of several channels: one value per 32 rows (for a column's shape: per 256). While
the stream is like its reference, each channel has mean 0 and a standard deviation of `SCALE`. The detector
returns an alarm when a channel's mean changes. `DetectorContract` tests what its three methods promise;
examples/own_detector.py implements it.
"""

from dataclasses import dataclass
from typing import Protocol, Self

from driftloop.mlops_core.data.features import Floats

SCALE = 10.0
"""Standard deviation of a value under the reference: ADWIN's bound has a term for values in [0, 1]; with a
deviation of 10 it stops mattering, and alarms come a third sooner."""


@dataclass(frozen=True)
class Alarm:
    """A channel's mean changed."""

    position: int
    """Index of the value that raised the alarm, among the values of this update."""
    channel: int
    width: int
    """Number of values since the change, including the one that raised the alarm."""
    before: float
    """Mean of the values before the change."""
    after: float
    """Mean of the values since the change."""


class Detector(Protocol):
    """Detects changes in a fixed number of independent channels."""

    def update(self, values: Floats) -> list[Alarm]:
        """The alarms of finite values of shape (channels, n), oldest first.

        A channel starts afresh after its alarm. Alarms don't depend on how values are cut into calls.
        """

    def dump(self) -> bytes:
        """The state as bytes; its size is bounded."""

    def load(self, data: bytes) -> Self:
        """Continue from a `dump`; a dump of other settings or channels is ignored.

        Raises:
            InvalidData: not the bytes of a dump.
        """


class DetectorFactory(Protocol):
    """Makes a fresh detector; a class may be one.

    For the setting `drift.false_alarms` it needs `false_episodes`, a `calibration.Table` with the measured
    rate of false episodes per delta; without it, the setting is refused.
    """

    def __call__(self, channels: int, delta: float) -> Detector:
        """A detector for `channels`; the chance that a value raises a false alarm is `delta` or less."""

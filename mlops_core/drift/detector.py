"""What listens to channels: the seam where a detector of your own goes in.

It gets a row of channels, a value per 32 rows (of the shape: per 256), each with mean 0 and a standard
deviation of `SCALE` as long as the stream is like its reference; and it says when a channel's mean changed.
What its three methods must promise is `contract.DetectorContract`; examples/own_detector.py brings one.
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
    """Place of the value that gave it away, in the values just fed."""
    channel: int
    width: int
    """Values since the change, this one included."""
    before: float
    """Mean of the values before the change."""
    after: float
    """Mean of those since."""


class Detector(Protocol):
    """Listens to a fixed number of channels, each for itself."""

    def update(self, values: Floats) -> list[Alarm]:
        """Take in finite values of shape (channels, n), oldest first; begin anew on a channel that alarms.

        How values are cut into calls changes nothing.
        """

    def dump(self) -> bytes:
        """All that is remembered; bounded, however much was fed."""

    def load(self, data: bytes) -> Self:
        """Go on where `dump` was taken, or stay fresh if it was taken with other settings.

        Raises:
            InvalidData: not such bytes.
        """


class DetectorFactory(Protocol):
    """Makes a fresh detector; a class may be one.

    For `drift.false_alarms` it may also have `false_episodes`, a `calibration.Table` of what was measured of
    its deltas; without one, a budget is refused.
    """

    def __call__(self, channels: int, delta: float) -> Detector:
        """For `channels`, with `delta` as the chance that it calls a value a change by mistake, or less."""
